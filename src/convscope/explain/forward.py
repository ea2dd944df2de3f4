"""Running a network layer by layer, in any style, with models inside it opened."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from convscope.errors import ShapeError, UnknownNameError
from convscope.models.structure import as_functional, run_graph
from convscope.types import FloatArray, UInt8Array

if TYPE_CHECKING:
    import keras

Tensor = Any
"""What the backend computes with."""


def activations(network: "keras.Model", pixels: UInt8Array) -> dict[str, FloatArray]:
    """Return what each layer gives for images, in the order of the data.

    Args:
        network: Built, in any style; raw pixels go in.
        pixels: Shape (n_images, height, width, channels), uint8.

    Returns:
        By the layer's name, with the names of the models around it ("mobilenetv2/Conv1"), as in the
        geometry sheet: arrays of shape (n_images, ...), float32. Of a layer that is used twice, the
        second use.
    """
    import keras

    found: dict[str, FloatArray] = {}

    def keep(name: str, operation: Any, output: Tensor) -> Tensor:
        del operation
        found[name] = np.asarray(keras.ops.convert_to_numpy(output), dtype=np.float32)
        return output

    run_layers(network, pixels, keep)
    return found


def score_and_gradient(
    network: "keras.Model", pixels: UInt8Array, layer: str, class_index: int
) -> tuple[FloatArray, FloatArray]:
    """Return what a layer gives for images, and how a class's score depends on it.

    The score is the logit, where the network ends in a dense layer with softmax: a probability
    near 1 hardly depends on anything.

    Args:
        network: As for `activations`.
        pixels: Shape (n_images, height, width, channels), uint8.
        layer: A name as `activations` gives it.
        class_index: The class.

    Returns:
        The layer's output and the gradient of the score by it, both (n_images, ...), float32.

    Raises:
        UnknownNameError: If there is no such layer.
    """
    import keras

    names: list[str] = []
    held: dict[str, Tensor] = {}

    def record(name: str, operation: Any, output: Tensor) -> Tensor:
        del operation
        names.append(name)
        if name == layer:
            held[layer] = output
        return output

    run_layers(network, pixels, record)
    if layer not in held:
        raise UnknownNameError("layer", layer, names)
    last = names[-1]
    values = keras.ops.stop_gradient(keras.ops.cast(held[layer], "float32"))

    def score(replaced: Tensor) -> Tensor:
        def swap(name: str, operation: Any, output: Tensor) -> Tensor:
            del operation
            return keras.ops.cast(replaced, output.dtype) if name == layer else output

        logits = run_layers(network, pixels, swap, logits_of=last)
        return keras.ops.sum(keras.ops.cast(logits, "float32")[:, class_index])

    gradient = _gradient(score, values)
    return (
        np.asarray(keras.ops.convert_to_numpy(values), dtype=np.float32),
        np.asarray(keras.ops.convert_to_numpy(gradient), dtype=np.float32),
    )


def run_layers(
    network: "keras.Model",
    pixels: UInt8Array,
    after: Callable[[str, Any, Tensor], Tensor],
    *,
    logits_of: str | None = None,
) -> Tensor:
    """Run a network in inference, layer by layer.

    Args:
        network: As for `activations`.
        pixels: Shape (n_images, height, width, channels), uint8.
        after: Called with a layer's name, the layer and its output; what it returns goes on.
        logits_of: A dense layer that is run without its softmax.

    Returns:
        What the last layer gave.

    Raises:
        ShapeError: If `pixels` has not four axes.
    """
    import keras

    if pixels.ndim != 4:
        raise ShapeError(f"images have shape (n, height, width, channels), not {pixels.shape}")

    def walk(graph: "keras.Model", inputs: list[Tensor], prefix: str) -> Tensor:
        def visit(operation: Any, args: Any, kwargs: Any) -> Tensor:
            name = prefix + operation.name
            if isinstance(operation, keras.Model):
                tensors = [x for x in keras.tree.flatten(args) if keras.ops.is_tensor(x)]
                return walk(as_functional(operation), tensors, f"{name}/")
            if name == logits_of and _ends_in_softmax(operation):
                output = keras.ops.matmul(args[0], operation.kernel)
                return after(name, operation, output + operation.bias)
            return after(name, operation, operation(*args, **kwargs))

        return run_graph(graph, inputs, visit)

    return walk(as_functional(network), [keras.ops.convert_to_tensor(pixels)], "")


def _ends_in_softmax(operation: Any) -> bool:
    import keras

    return (
        isinstance(operation, keras.layers.Dense)
        and operation.activation is keras.activations.softmax
        and operation.use_bias
    )


def _gradient(function: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """Return the gradient of a scalar function, on whichever backend runs."""
    import keras

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(at)
            value = function(at)
        return tape.gradient(value, at, unconnected_gradients="zero")
    if backend == "jax":
        import jax

        return jax.grad(function)(at)
    import torch

    with torch.enable_grad():
        leaf = at.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(function(leaf), leaf)
    return gradient
