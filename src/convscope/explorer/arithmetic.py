"""How each Keras layer computes, in the terms of the page: one rule per kind of layer."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import layers

from convscope.explorer.trace import array_of
from convscope.models.structure import is_resizing
from convscope.types import FloatArray

OTHER = "other"
"""Arithmetic of a step that the page cannot compute; it shows the output."""

_ACTIVATIONS = {
    *("linear", "relu", "relu6", "silu", "sigmoid", "tanh", "softmax", "gelu", "elu"),
    *("hard_sigmoid", "hard_silu", "softplus"),
}
"""Activation functions of the page, by Keras' names."""


@dataclass(frozen=True)
class Arithmetic:
    """Arithmetic of a step.

    Attributes:
        op: Name of the arithmetic in `page/forward.mjs`, or `OTHER`.
        settings: Settings by name, as JSON has them; pairs are (rows, columns).
        weights: Arrays by name, float32.
        activation: Activation function after it: its name and parameters; None for none.
    """

    op: str
    settings: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, FloatArray] = field(default_factory=dict)
    activation: dict[str, Any] | None = None


def arithmetic(operation: Any, input_shapes: list[tuple[int, ...]]) -> Arithmetic:
    """Return the arithmetic of a layer or operation.

    Args:
        operation: Keras' layer or operation, not a model inside the model.
        input_shapes: Shapes of its inputs without the batch axis.
    """
    if is_resizing(operation):
        return Arithmetic("resize")
    if getattr(operation, "data_format", None) == "channels_first":
        return Arithmetic(OTHER)
    for kinds, rule in _RULES:
        if isinstance(operation, kinds):
            found = rule(operation, input_shapes)
            unknown = found.activation and found.activation["name"] not in _ACTIVATIONS
            return Arithmetic(OTHER) if unknown else found
    name = type(operation).__name__
    if name in _MERGES and len(input_shapes) > 1 and _fit(input_shapes):
        return Arithmetic(_MERGES[name])
    if name == "LayerScale" and hasattr(operation, "gamma"):  # of ConvNeXt
        gamma = array_of(operation.gamma)
        settings = {"scale": gamma.tolist(), "offset": np.zeros_like(gamma).tolist()}
        return Arithmetic("rescale", settings)
    return Arithmetic(OTHER)


def _fit(shapes: list[tuple[int, ...]]) -> bool:
    """Return whether all are alike, or are one value for each map of the first."""
    first = shapes[0]
    alike = {first, (1, 1, first[2])} if len(first) == 3 else {first}
    return set(shapes) <= alike


_MERGES = {"Add": "add", "Multiply": "multiply"}
"""Layers, and operations of `keras.ops` by the same names."""


def _convolution(layer: Any, shapes: list[tuple[int, ...]]) -> Arithmetic:
    del shapes
    window, weights = _window(layer, layer.kernel_size), _kernel_and_bias(layer, layer.kernel)
    if layer.groups > 1 and weights["kernel"].shape[2:] == (1, layer.groups):
        # Each map has a kernel of its own: (rows, columns, maps, 1)
        weights["kernel"] = np.moveaxis(weights["kernel"], 2, 3)
        return Arithmetic("depthwise", window, weights, _activation(layer))
    settings = {**window, "groups": layer.groups}
    return Arithmetic("conv", settings, weights, _activation(layer))


def _depthwise(layer: Any, shapes: list[tuple[int, ...]]) -> Arithmetic:
    del shapes
    settings = _window(layer, layer.kernel_size)
    return Arithmetic(
        "depthwise", settings, _kernel_and_bias(layer, layer.kernel), _activation(layer)
    )


def _dense(layer: Any, shapes: list[tuple[int, ...]]) -> Arithmetic:
    weights = _kernel_and_bias(layer, layer.kernel)
    if len(shapes[0]) == 3:  # a convolution of 1 x 1
        weights["kernel"] = weights["kernel"][None, None]
        settings = {"kernel": [1, 1], "stride": [1, 1], "padding": "valid", "dilation": [1, 1]}
        return Arithmetic("conv", {**settings, "groups": 1}, weights, _activation(layer))
    if len(shapes[0]) != 1:
        return Arithmetic(OTHER)
    return Arithmetic("dense", {}, weights, _activation(layer))


def _pooling(op: str) -> Callable[[Any, list[tuple[int, ...]]], Arithmetic]:
    def rule(layer: Any, shapes: list[tuple[int, ...]]) -> Arithmetic:
        del shapes
        return Arithmetic(op, _window(layer, layer.pool_size))

    return rule


def _whole(op: str) -> Callable[[Any, list[tuple[int, ...]]], Arithmetic]:
    return lambda layer, shapes: Arithmetic(op if len(shapes[0]) == 3 else OTHER)


def _batch_norm(layer: Any, shapes: list[tuple[int, ...]]) -> Arithmetic:
    if layer.axis not in (-1, len(shapes[0])):
        return Arithmetic(OTHER)
    mean = array_of(layer.moving_mean)
    weights = {
        "mean": mean,
        "variance": array_of(layer.moving_variance),
        "gamma": array_of(layer.gamma) if layer.scale else np.ones_like(mean),
        "beta": array_of(layer.beta) if layer.center else np.zeros_like(mean),
    }
    return Arithmetic("batch_norm", {"epsilon": float(layer.epsilon)}, weights)


def _rescaling(layer: Any, shapes: list[tuple[int, ...]]) -> Arithmetic:
    scale, offset = (
        [float(v) for v in np.broadcast_to(np.asarray(value, np.float32), shapes[0][-1:])]
        for value in (layer.scale, layer.offset)
    )
    return Arithmetic("rescale", {"scale": scale, "offset": offset})


def _normalization(layer: Any, shapes: list[tuple[int, ...]]) -> Arithmetic:
    mean, variance = (array_of(value).reshape(-1) for value in (layer.mean, layer.variance))
    if layer.invert or mean.size != shapes[0][-1]:
        return Arithmetic(OTHER)
    deviation = np.maximum(np.sqrt(variance), keras.config.epsilon())
    scale, offset = 1 / deviation, -mean / deviation
    return Arithmetic("rescale", {"scale": scale.tolist(), "offset": offset.tolist()})


def _activation_layer(layer: Any, shapes: list[tuple[int, ...]]) -> Arithmetic:
    del shapes
    return Arithmetic("activation", activation=_activation(layer))


def _relu(layer: Any, shapes: list[tuple[int, ...]]) -> Arithmetic:
    del shapes
    activation = {
        "name": "relu",
        "max": None if layer.max_value is None else float(layer.max_value),
        "slope": float(np.asarray(layer.negative_slope)),
        "threshold": float(np.asarray(layer.threshold)),
    }
    return Arithmetic("activation", activation=activation)


def _softmax(layer: Any, shapes: list[tuple[int, ...]]) -> Arithmetic:
    flat = len(shapes[0]) == 1 and layer.axis in (-1, 1)
    return Arithmetic("activation", activation={"name": "softmax"}) if flat else Arithmetic(OTHER)


def _concatenate(layer: Any, shapes: list[tuple[int, ...]]) -> Arithmetic:
    return Arithmetic("concatenate" if layer.axis in (-1, len(shapes[0])) else OTHER)


def _zero_padding(layer: Any, shapes: list[tuple[int, ...]]) -> Arithmetic:
    del shapes
    return Arithmetic("pad", {"padding": [[int(n) for n in ends] for ends in layer.padding]})


def _plain(op: str) -> Callable[[Any, list[tuple[int, ...]]], Arithmetic]:
    return lambda layer, shapes: Arithmetic(op)


def _window(layer: Any, kernel: Any) -> dict[str, Any]:
    dilation = getattr(layer, "dilation_rate", (1, 1))
    return {
        "kernel": [int(n) for n in kernel],
        "stride": [int(n) for n in layer.strides],
        "padding": layer.padding,
        "dilation": [int(n) for n in dilation],
    }


def _kernel_and_bias(layer: Any, kernel: Any) -> dict[str, FloatArray]:
    found = {"kernel": array_of(kernel)}
    if layer.use_bias:
        found["bias"] = array_of(layer.bias)
    return found


def _activation(layer: Any) -> dict[str, Any] | None:
    function = layer.activation
    name = getattr(function, "__name__", "")
    if name == "linear":
        return None
    # Under Keras' own names only: another function may have the same name.
    same = getattr(keras.activations, name, None) is function
    return {"name": name if same else f"unknown {name}"}


_RULES: list[tuple[Any, Callable[[Any, list[tuple[int, ...]]], Arithmetic]]] = [
    (layers.DepthwiseConv2D, _depthwise),
    (layers.Conv2DTranspose, _plain(OTHER)),
    (layers.Conv2D, _convolution),
    (layers.Dense, _dense),
    (layers.MaxPooling2D, _pooling("max_pool")),
    (layers.AveragePooling2D, _pooling("mean_pool")),
    (layers.GlobalMaxPooling2D, _whole("global_max")),
    (layers.GlobalAveragePooling2D, _whole("global_mean")),
    (layers.Flatten, _plain("flatten")),
    (layers.BatchNormalization, _batch_norm),
    (layers.Rescaling, _rescaling),
    (layers.Normalization, _normalization),
    (layers.Softmax, _softmax),
    (layers.ReLU, _relu),
    (layers.Activation, _activation_layer),
    (layers.Concatenate, _concatenate),
    (layers.ZeroPadding2D, _zero_padding),
]
