"""Running a network layer by layer, in any style, with models inside it opened."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from convscope.errors import ShapeError, UnknownNameError
from convscope.models.structure import (
    as_functional,
    ends_in_sigmoid,
    ends_in_softmax,
    inner_model,
    logits_of_softmax,
    run_graph,
)
from convscope.types import FloatArray, UInt8Array

if TYPE_CHECKING:
    import keras

Tensor = Any
"""Tensor of the backend."""

_TINY = float(np.finfo(np.float32).tiny)


def activations(network: "keras.Model", pixels: UInt8Array) -> dict[str, FloatArray]:
    """Return the output of each layer for images, in the order of the data.

    Args:
        network: Built network in any style, on raw pixels.
        pixels: Shape (n_images, height, width, channels), uint8.

    Returns:
        Arrays of shape (n_images, ...), float32, by name of the layer with the names of the models
        around it ("mobilenetv2/Conv1"), as in the geometry sheet. For a layer that is used twice,
        the output of the second use.
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
    """Return a layer's output for images, and the gradient of a class's score with respect to it.

    The score is the logit: a probability near 1 hardly depends on anything. The logits are the
    input of the last softmax (or sigmoid, where each class has a probability of its own), be it
    a layer, an operation or the activation of a dense layer.
    If the network computes its probabilities in another way, the score is the logarithm of the
    probability minus the mean over the classes; under a softmax that is the logit minus the
    mean logit. If its outputs are not probabilities, they are taken as logits.

    Args:
        network: Network, as for `activations`.
        pixels: Shape (n_images, height, width, channels), uint8.
        layer: Name of the layer, as in `activations`.
        class_index: Index of the class.

    Returns:
        The layer's output and the gradient of the score by it, both (n_images, ...), float32.

    Raises:
        UnknownNameError: If there is no such layer.
    """
    import keras

    names: list[str] = []
    held: dict[str, Tensor] = {}
    last: Any = None

    def record(name: str, operation: Any, output: Tensor) -> Tensor:
        nonlocal last
        last = operation
        names.append(name)
        if name == layer:
            held[layer] = output
        return output

    outputs = run_layers(network, pixels, record)
    if layer not in held:
        raise UnknownNameError("layer", layer, names)
    values = keras.ops.stop_gradient(keras.ops.cast(held[layer], "float32"))
    takes_logs = not _ends_in_either(last) and _are_probs(outputs)

    def score(replaced: Tensor) -> Tensor:
        def swap(name: str, operation: Any, output: Tensor) -> Tensor:
            del operation
            return keras.ops.cast(replaced, output.dtype) if name == layer else output

        logits = run_layers(network, pixels, swap, logits_of=names[-1])
        logits = keras.ops.cast(logits, "float32")
        if takes_logs:
            logits = keras.ops.log(keras.ops.maximum(logits, _TINY))
            logits = logits - keras.ops.mean(logits, axis=-1, keepdims=True)
        return keras.ops.sum(logits[:, class_index])

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
        network: Network, as for `activations`.
        pixels: Shape (n_images, height, width, channels), uint8.
        after: Function of a layer's name, the layer and its output, whose result is passed on.
        logits_of: Name of the last layer, which is run without its softmax or sigmoid if it has
            one.

    Returns:
        Output of the last layer.

    Raises:
        ShapeError: If `pixels` does not have four axes.
    """
    import keras

    if pixels.ndim != 4:
        raise ShapeError(f"images have shape (n, height, width, channels), not {pixels.shape}")

    def walk(graph: "keras.Model", inputs: list[Tensor], prefix: str) -> Tensor:
        def visit(operation: Any, args: Any, kwargs: Any) -> Tensor:
            name = prefix + operation.name
            inner = inner_model(operation)
            if inner is not None:
                tensors = [x for x in keras.tree.flatten(args) if keras.ops.is_tensor(x)]
                return walk(inner, tensors, f"{name}/")
            if name == logits_of and _ends_in_either(operation):
                return after(name, operation, logits_of_softmax(operation, args[0]))
            return after(name, operation, operation(*args, **kwargs))

        return run_graph(graph, inputs, visit)

    return walk(as_functional(network), [keras.ops.convert_to_tensor(pixels)], "")


def _ends_in_either(operation: Any) -> bool:
    return ends_in_softmax(operation) or ends_in_sigmoid(operation)


def _are_probs(outputs: Tensor) -> bool:
    """Return whether outputs of shape (n_images, n_classes) are probabilities."""
    import keras

    values = np.asarray(keras.ops.convert_to_numpy(outputs), dtype=np.float32)
    return bool((values >= 0).all() and np.allclose(values.sum(axis=-1), 1, atol=0.01))


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
