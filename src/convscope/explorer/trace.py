"""Running a network step by step, with the steps that each one takes its input from."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from convscope.models.structure import as_functional, inner_model, is_resizing, run_graph
from convscope.types import FloatArray, UInt8Array

if TYPE_CHECKING:
    import keras

IMAGE = -1
"""Index of the image among the sources of a step."""

_IDENTITIES = (
    *(
        "AlphaDropout",
        "Dropout",
        "GaussianDropout",
        "GaussianNoise",
        "Identity",
        "SpatialDropout2D",
    ),
    *("ActivityRegularization", "InputLayer"),
)
"""Kinds of layers that change nothing in inference."""


@dataclass(frozen=True)
class Step:
    """One step of a network that ran on one image.

    Attributes:
        name: Name of the layer with the names of the models around it, as in the geometry sheet.
        operation: Keras' layer or operation.
        sources: Indices of the steps whose outputs it takes, in order; `IMAGE` is the image.
        inputs: Tensors that it takes, with the batch axis.
        output: Tensor that it gives, with the batch axis.
    """

    name: str
    operation: Any
    sources: tuple[int, ...]
    inputs: tuple[Any, ...]
    output: Any


class _Value:
    """A tensor on its way, and the step that gave it."""

    def __init__(self, source: int, tensor: Any) -> None:
        self.source = source
        self.tensor = tensor


def trace(network: "keras.Model", image: UInt8Array, after: Callable[[Step], None]) -> FloatArray:
    """Run a network in inference on an image, step by step, and return its output.

    Models inside the model are opened, and a separable convolution is the two that it consists of.
    Steps that change nothing are left out: dropout, and resizing to the size that the image has.

    Args:
        network: Built network in any style, on raw pixels.
        image: Shape (height, width, channels), uint8.
        after: Function called with each step, in the order of the data. Steps are numbered from 0
            in that order.

    Returns:
        Shape (n_classes,), float32.
    """
    import keras

    n_steps = 0

    def ran(name: str, operation: Any, values: list[_Value], output: Any) -> Any:
        nonlocal n_steps
        first = keras.tree.flatten(output)[0]
        sources = tuple(value.source for value in values)
        after(Step(name, operation, sources, tuple(v.tensor for v in values), first))
        n_steps += 1
        return keras.tree.map_structure(lambda tensor: _Value(n_steps - 1, tensor), output)

    def separable(name: str, operation: Any, value: _Value) -> Any:
        depthwise, pointwise = _halves(operation, value.tensor.shape)
        between = ran(f"{name}/depthwise", depthwise, [value], depthwise(value.tensor))
        return ran(name, pointwise, [between], pointwise(between.tensor))

    def walk(graph: "keras.Model", inputs: list[Any], prefix: str) -> Any:
        def visit(operation: Any, args: Any, kwargs: Any) -> Any:
            values = [x for x in keras.tree.flatten((args, kwargs)) if isinstance(x, _Value)]
            name = prefix + operation.name
            inner = inner_model(operation)
            if inner is not None:
                return walk(inner, values, f"{name}/")
            args, kwargs = keras.tree.map_structure(_tensor, (args, kwargs))
            if isinstance(operation, keras.layers.SeparableConv2D):
                return separable(name, operation, values[0])
            output = operation(*args, **kwargs)
            if _changes_nothing(operation, values, output):
                return _Value(values[0].source, output)
            return ran(name, operation, values, output)

        return run_graph(graph, inputs, visit)

    # As numbers: a network without preprocessing would take bytes for the type of its weights.
    pixels = keras.ops.convert_to_tensor(image[None].astype(np.float32))
    said = walk(as_functional(network), [_Value(IMAGE, pixels)], "")
    probs: FloatArray = array_of(said.tensor)[0]
    return probs


def array_of(tensor: Any) -> FloatArray:
    """Return a tensor's values, float32."""
    import keras

    return np.asarray(keras.ops.convert_to_numpy(tensor), dtype=np.float32)


def _halves(layer: Any, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Return the two convolutions of a separable one, for inputs of a shape."""
    import keras

    depthwise = keras.layers.DepthwiseConv2D(
        layer.kernel_size,
        layer.strides,
        layer.padding,
        layer.depth_multiplier,
        dilation_rate=layer.dilation_rate,
        use_bias=False,
        dtype=layer.dtype_policy,
    )
    pointwise = keras.layers.Conv2D(
        layer.filters,
        1,
        activation=layer.activation,
        use_bias=layer.use_bias,
        dtype=layer.dtype_policy,
    )
    depthwise.build(shape)
    pointwise.build((*shape[:3], shape[3] * layer.depth_multiplier))
    depthwise.set_weights([array_of(layer.depthwise_kernel)])
    bias = [array_of(layer.bias)] if layer.use_bias else []
    pointwise.set_weights([array_of(layer.pointwise_kernel), *bias])
    return depthwise, pointwise


def _tensor(leaf: Any) -> Any:
    return leaf.tensor if isinstance(leaf, _Value) else leaf


def _changes_nothing(operation: Any, values: list[_Value], output: Any) -> bool:
    if is_resizing(operation):
        return bool(tuple(output.shape) == tuple(values[0].tensor.shape))
    if type(operation).__name__ in _IDENTITIES:
        return True
    named = getattr(getattr(operation, "activation", None), "__name__", "")
    return type(operation).__name__ == "Activation" and named == "linear"
