"""Effect of single Keras layers on a feature map: the rules behind `geometry`, one per kind.

Pairs are (rows, columns) throughout.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import keras
from keras import layers

from convscope.models.structure import is_resizing

Pair = tuple[int, int]


@dataclass(frozen=True)
class Feature:
    """Feature map on its way through the network.

    Attributes:
        shape: Shape without the batch axis: (height, width, channels), or (n,) once flattened.
        image: Size of the image that the network sees, in pixels.
        field: Part of the image that one value depends on; None if unknown.
        jump: Pixels of the image between neighbours; 0 if a value has none.
    """

    shape: tuple[int, ...]
    image: Pair
    field: Pair | None
    jump: Pair


@dataclass(frozen=True)
class Effect:
    """Effect of a layer: the output map, and how it arises. See `LayerGeometry`."""

    output: Feature
    kernel: Pair | None = None
    stride: Pair | None = None
    padding: Pair | None = None
    formula: str = ""
    multiply_adds: int = 0


def measure(operation: Any, inputs: list[Feature], args: Any, kwargs: Any) -> Effect:
    """Return the effect of a layer or operation on its inputs.

    Args:
        operation: A Keras layer or operation, not a model.
        inputs: Input maps; at least one.
        args: Positional arguments of its call, with `Feature` in place of tensors.
        kwargs: Keyword arguments of its call, with `Feature` in place of tensors.
    """
    if len(inputs) == 1 and len(inputs[0].shape) == 3:
        if is_resizing(operation):
            return _resizing(operation, inputs[0])
        for kinds, rule in _RULES:
            if isinstance(operation, kinds):
                return rule(operation, inputs[0])
    if isinstance(operation, layers.Dense):
        return _dense(operation, inputs[0])
    return _any_other(operation, inputs, args, kwargs)


def _convolution(layer: Any, x: Feature) -> Effect:
    step = _window(x, layer.kernel_size, layer.strides, layer.padding, layer.dilation_rate)
    rows, columns, channels = step.output.shape
    area = rows * columns * prod(layer.kernel_size)
    if isinstance(layer, layers.DepthwiseConv2D):
        filters = channels * layer.depth_multiplier
        multiply_adds = area * filters
    elif isinstance(layer, layers.SeparableConv2D):
        filters = layer.filters
        depthwise = channels * layer.depth_multiplier
        multiply_adds = area * depthwise + rows * columns * depthwise * filters
    else:
        filters = layer.filters
        multiply_adds = area * filters * (channels // layer.groups)
    output = dataclasses.replace(step.output, shape=(rows, columns, filters))
    return dataclasses.replace(step, output=output, multiply_adds=multiply_adds)


def _pooling(layer: Any, x: Feature) -> Effect:
    return _window(x, layer.pool_size, layer.strides, layer.padding, (1, 1))


def _window(x: Feature, kernel: Any, stride: Any, padding: str, dilation: Any) -> Effect:
    """Slide a window over a map; the caller sets the channels."""
    # A dilated kernel has gaps and spans more pixels than it has weights.
    spans = _pair(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    pads = _pair(
        _same_padding(n, k, s) if padding == "same" else 0
        for n, k, s in zip(x.shape, spans, stride, strict=False)
    )
    axes = list(zip(x.shape, pads, spans, stride, strict=False))
    shape = tuple((n + p - k) // s + 1 for n, p, k, s in axes)
    field = x.field and _pair(
        f + (k - 1) * j for f, k, j in zip(x.field, spans, x.jump, strict=True)
    )
    jump = _pair(j * s for j, s in zip(x.jump, stride, strict=True))
    note = "" if spans == tuple(kernel) else f" (kernel {kernel[0]} spread over {spans[0]})"
    return Effect(
        Feature((*shape, x.shape[-1]), x.image, field, jump),
        kernel=_pair(kernel),
        stride=_pair(stride),
        padding=pads,
        formula=_by_axis([_size_formula(*axis) for axis in axes]) + note,
    )


def _same_padding(n: int, kernel: int, stride: int) -> int:
    """Return the zeros, both ends together, for an output of ceil(n / stride)."""
    return max((-(-n // stride) - 1) * stride + kernel - n, 0)


def _size_formula(n: int, pad: int, kernel: int, stride: int) -> str:
    size = (n + pad - kernel) // stride + 1
    if pad % 2 == 0:
        return f"floor(({n} + 2*{pad // 2} - {kernel})/{stride}) + 1 = {size}"
    before, after = pad // 2, pad - pad // 2
    return (
        f"floor(({n} + {before} + {after} - {kernel})/{stride}) + 1 = {size}"
        f" (padding {before} before, {after} after)"
    )


def _by_axis(formulas: list[str]) -> str:
    rows, columns = formulas
    return rows if rows == columns else f"rows: {rows}; columns: {columns}"


def _zero_padding(layer: Any, x: Feature) -> Effect:
    ends = layer.padding
    shape = _pair(n + sum(e) for n, e in zip(x.shape, ends, strict=False))
    output = dataclasses.replace(x, shape=(*shape, x.shape[-1]))
    formulas = [f"{n} + {a} + {b} = {n + a + b}" for n, (a, b) in zip(x.shape, ends, strict=False)]
    return Effect(output, padding=_pair(sum(e) for e in ends), formula=_by_axis(formulas))


def _cropping(layer: Any, x: Feature) -> Effect:
    ends = layer.cropping
    shape = _pair(n - sum(e) for n, e in zip(x.shape, ends, strict=False))
    output = dataclasses.replace(x, shape=(*shape, x.shape[-1]))
    formulas = [f"{n} - {a} - {b} = {n - a - b}" for n, (a, b) in zip(x.shape, ends, strict=False)]
    return Effect(output, formula=_by_axis(formulas))


def _resizing(layer: Any, x: Feature) -> Effect:
    size = _pair(layer.compute_output_shape((None, *x.shape))[1:3])
    output = Feature((*size, x.shape[-1]), image=size, field=(1, 1), jump=(1, 1))
    formula = "" if size == x.shape[:2] else f"{_times(x.shape[:2])} resized to {_times(size)}"
    return Effect(output, formula=formula)


def _global_pooling(layer: Any, x: Feature) -> Effect:
    channels = x.shape[-1]
    shape = (1, 1, channels) if layer.keepdims else (channels,)
    formula = f"all {_times(x.shape[:2])} positions -> 1"
    return Effect(Feature(shape, x.image, field=x.image, jump=(0, 0)), formula=formula)


def _flatten(layer: Any, x: Feature) -> Effect:
    del layer
    size = prod(x.shape)
    output = dataclasses.replace(x, shape=(size,), jump=(0, 0))
    return Effect(output, formula=f"{_times(x.shape)} = {size}")


def _dense(layer: Any, x: Feature) -> Effect:
    shape = (*x.shape[:-1], layer.units)
    # On a vector it mixes all values; on a map it is a 1x1 convolution.
    field = x.image if len(x.shape) == 1 else x.field
    output = dataclasses.replace(x, shape=shape, field=field)
    return Effect(output, multiply_adds=prod(x.shape) * layer.units)


def _any_other(operation: Any, inputs: list[Feature], args: Any, kwargs: Any) -> Effect:
    """Ask Keras for the shape; values are combined position by position, or not followed."""
    args, kwargs = keras.tree.map_structure(_symbolic, (args, kwargs))
    output = keras.tree.flatten(operation.compute_output_spec(*args, **kwargs))[0]
    shape = tuple(output.shape[1:])
    jump = _pair(max(x.jump[axis] for x in inputs) for axis in (0, 1))
    sizes = {x.shape[:2] for x in inputs if x.jump != (0, 0)}
    fields = [x.field for x in inputs if x.field is not None]
    followed = len(fields) == len(inputs) and (jump == (0, 0) or sizes == {shape[:2]})
    field = _pair(max(f[axis] for f in fields) for axis in (0, 1)) if followed else None
    return Effect(Feature(shape, inputs[0].image, field, jump))


def _symbolic(value: Any) -> Any:
    return keras.KerasTensor((None, *value.shape)) if isinstance(value, Feature) else value


def _times(numbers: Any) -> str:
    return "*".join(str(n) for n in numbers)


def _pair(numbers: Any) -> Pair:
    rows, columns = numbers
    return (int(rows), int(columns))


_RULES: list[tuple[Any, Callable[[Any, Feature], Effect]]] = [
    ((layers.DepthwiseConv2D, layers.SeparableConv2D, layers.Conv2D), _convolution),
    ((layers.MaxPooling2D, layers.AveragePooling2D), _pooling),
    ((layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D), _global_pooling),
    (layers.ZeroPadding2D, _zero_padding),
    (layers.Cropping2D, _cropping),
    (layers.Flatten, _flatten),
]
