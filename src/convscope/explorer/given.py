"""Steps of a network too large for a page: their outputs for one image, and parts to compute with.

Of each step the page gets some maps, as small pictures; and for a window of positions, around the
strongest values, the exact numbers: the part of the input that they are computed from, the weights
of those maps, and the values as Keras gives them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from convscope.explorer.arithmetic import Arithmetic
from convscope.explorer.trace import Step, array_of
from convscope.types import FloatArray, UInt8Array

BUDGET = 10_000_000
"""Bytes of all arrays, which text makes a third longer: the page stays below 15 MB."""

_LARGEST_STEP = 500_000
"""Bytes of a step beyond which its window gets smaller."""


@dataclass(frozen=True)
class Detail:
    """How much of each step a page holds.

    Attributes:
        n_maps: Largest number of maps.
        side: Longest side of their pictures in pixels.
        window: Longest side of the window of exact numbers.
    """

    n_maps: int
    side: int
    window: int


DETAILS = (
    *(Detail(16, 48, 7), Detail(12, 40, 5), Detail(12, 28, 5), Detail(8, 28, 3), Detail(8, 20, 3)),
    *(Detail(6, 16, 2), Detail(4, 14, 1), Detail(3, 10, 1), Detail(2, 8, 1)),
)
"""From the richest; the first one that fits is taken."""

_OF_ONE_MAP = (
    *("depthwise", "max_pool", "mean_pool", "batch_norm", "rescale", "activation", "add"),
    "multiply",
)
"""Arithmetics in which an output map is computed from the map with the same number."""


_OF_VECTORS = ("activation", "add", "batch_norm", "concatenate", "rescale")
"""Arithmetics of vectors without large weights."""


def choose_detail(
    steps: "Sequence[tuple[Arithmetic, list[tuple[int, ...]], tuple[int, ...]]]",
) -> Detail:
    """Return the richest detail with which all steps fit the budget; the poorest if none does.

    Args:
        steps: Arithmetic, shapes of the inputs and shape of the output of each.
    """
    for detail in DETAILS:
        if sum(_n_bytes(*step, detail) for step in steps) <= BUDGET:
            return detail
    return DETAILS[-1]


def _n_bytes(
    how: Arithmetic,
    inputs: list[tuple[int, ...]],
    shape: tuple[int, ...],
    detail: Detail,
) -> int:
    if len(shape) != 3:
        return _vector_bytes(how, inputs, int(np.prod(shape)))
    n = min(shape[2], detail.n_maps)
    pictures = n * min(shape[0], detail.side) * min(shape[1], detail.side)
    side = window_side(how, inputs, shape, detail)
    return pictures + (_window_bytes(how, inputs, n, shape, side) if side else 0)


def window_side(
    how: Arithmetic,
    inputs: list[tuple[int, ...]],
    shape: tuple[int, ...],
    detail: Detail,
) -> int:
    """Return the side of the window of a step, 0 if the page cannot compute it."""
    if not _computable(how, inputs, shape):
        return 0
    n = min(shape[2], detail.n_maps)
    sides = (side for side in range(detail.window, 0, -1))
    fitting = (s for s in sides if _window_bytes(how, inputs, n, shape, s) <= _LARGEST_STEP)
    return next(fitting, 0)


def _computable(how: Arithmetic, inputs: list[tuple[int, ...]], shape: tuple[int, ...]) -> bool:
    if how.op == "conv":
        return bool(how.settings["groups"] == 1)
    if how.op == "depthwise":
        return bool(how.weights["kernel"].shape[3] == 1)
    same_depth = all(len(x) == 3 and x[2] == shape[2] for x in inputs)
    return how.op in _OF_ONE_MAP and same_depth


def _window_bytes(
    how: Arithmetic, inputs: list[tuple[int, ...]], n: int, shape: tuple[int, ...], side: int
) -> int:
    rows, columns = (
        min(_reach(how, axis, min(shape[axis], side), inputs[0][axis])[1], inputs[0][axis])
        for axis in (0, 1)
    )
    depth = inputs[0][2] if how.op == "conv" else n
    crop = len(inputs) * rows * columns * depth
    kernel = int(np.prod(how.settings["kernel"])) * depth * n if how.op == "conv" else 0
    return 4 * (crop + kernel + n * min(shape[0], side) * min(shape[1], side))


def _reach(how: Arithmetic, axis: int, n_outputs: int, n_inputs: int) -> tuple[int, int]:
    """Return the zeros before an axis, and how many inputs neighbouring outputs depend on."""
    if "kernel" not in how.settings:
        return 0, n_outputs
    kernel, stride, dilation = (how.settings[x][axis] for x in ("kernel", "stride", "dilation"))
    span = dilation * (kernel - 1) + 1
    before = 0
    if how.settings["padding"] == "same":
        n = -(-n_inputs // stride)
        before = max((n - 1) * stride + span - n_inputs, 0) // 2
    return before, (n_outputs - 1) * stride + span


def _vector_bytes(how: Arithmetic, inputs: list[tuple[int, ...]], n: int) -> int:
    """Return the bytes of a vector of n values, and of what it is computed from."""
    if how.op == "dense":
        return min(4 * how.weights["kernel"].size, _LARGEST_STEP) + 4 * n
    source = sum(4 * int(np.prod(each)) for each in inputs)
    return (source if source <= _LARGEST_STEP else 0) + 4 * n


def given_step(
    step: Step,
    how: Arithmetic,
    detail: Detail,
    floats: Callable[[FloatArray], int],
    octets: Callable[[UInt8Array], int],
) -> dict[str, Any]:
    """Return what the page holds of a step, as JSON has it.

    Args:
        step: Step that ran.
        how: Its arithmetic.
        detail: Detail of all steps.
        floats: Function that adds an array of float32 and returns its number.
        octets: Function that adds an array of bytes and returns its number.

    Returns:
        Entries of the step: "explained", whether the page can compute its values; "settings" and
        "weights" for that, "given" for the values.
    """
    values = array_of(step.output)[0]
    if values.ndim != 3:
        return _vector(step, how, values, floats)
    n = min(values.shape[2], detail.n_maps)
    spread = values.reshape(-1, values.shape[2]).std(axis=0)
    channels = np.sort(np.argsort(-spread, kind="stable")[:n])
    shown = values[..., channels]
    given: dict[str, Any] = {"channels": channels.tolist(), **_pictures(shown, detail, octets)}
    given["range"] = [float(values.min()), float(values.max())]
    inputs = [tuple(x.shape[1:]) for x in step.inputs]
    side = window_side(how, inputs, values.shape, detail)
    if not side:
        return {"explained": False, "weights": {}, "given": given}
    top, left = _strongest(shown, side)
    rows, columns = (min(each, side) for each in values.shape[:2])
    exact = shown[top : top + rows, left : left + columns]
    given["window"] = [top, left, rows, columns]
    given["values"] = floats(exact)
    every = how.op == "conv"
    given["crops"] = [
        _crop(
            array_of(x)[0], how, (top, left), (rows, columns), None if every else channels, floats
        )
        for x in step.inputs
    ]
    return {"explained": True, **_sliced(how, channels, floats), "given": given}


def _vector(
    step: Step, how: Arithmetic, values: FloatArray, floats: Callable[[FloatArray], int]
) -> dict[str, Any]:
    flat = values.reshape(-1)
    given: dict[str, Any] = {"vector": floats(flat), "channels": None}
    entry: dict[str, Any] = {"explained": False, "weights": {}}
    if how.op == "dense" and values.ndim == 1:
        n_inputs, n_units = how.weights["kernel"].shape
        n = min(n_units, _LARGEST_STEP // (4 * n_inputs))
        # Softmax needs the sums of all units.
        every = how.activation is not None and how.activation["name"] == "softmax"
        if n and not (every and n < n_units):
            units = np.sort(np.argsort(-flat, kind="stable")[:n])
            given["channels"] = units.tolist() if n < n_units else None
            given["crops"] = [{"vector": floats(array_of(step.inputs[0])[0])}]
            entry = {"explained": True, **_sliced(how, units, floats)}
    elif how.op in ("global_max", "global_mean"):
        (whole,) = (array_of(x)[0] for x in step.inputs)
        if whole.nbytes <= _LARGEST_STEP:
            given["crops"] = [_crop(whole, how, (0, 0), whole.shape[:2], None, floats)]
            entry = {"explained": True, **_sliced(how, np.arange(len(flat)), floats)}
    elif how.op in _OF_VECTORS and values.ndim == 1:
        given["crops"] = [{"vector": floats(array_of(x)[0])} for x in step.inputs]
        entry = {"explained": True, **_sliced(how, np.arange(len(flat)), floats)}
    return {**entry, "given": given}


def _sliced(
    how: Arithmetic, channels: "np.ndarray[Any, Any]", floats: Callable[[FloatArray], int]
) -> dict[str, Any]:
    """Return settings and weights of some output channels."""
    weights = {}
    for name, values in how.weights.items():
        part = (
            values[:, :, channels]
            if how.op == "depthwise" and name == "kernel"
            else values[..., channels]
        )
        weights[name] = {"shape": list(part.shape), "blob": floats(part)}
    settings = dict(how.settings)
    if how.op == "rescale":
        settings = {name: [each[c] for c in channels] for name, each in settings.items()}
    return {"settings": settings, "weights": weights}


def _pictures(
    shown: FloatArray, detail: Detail, octets: Callable[[UInt8Array], int]
) -> dict[str, Any]:
    """Return small pictures of maps: bytes, with the values of 0 and 255."""
    rows, columns = (min(n, detail.side) for n in shown.shape[:2])
    down, across = (_edges(n, size) for n, size in zip(shown.shape, (rows, columns), strict=False))
    sums = np.add.reduceat(np.add.reduceat(shown, down[:-1], axis=0), across[:-1], axis=1)
    areas = np.diff(down)[:, None, None] * np.diff(across)[None, :, None]
    small = np.moveaxis(sums / areas, -1, 0)  # (maps, rows, columns)
    low, high = small.min(axis=(1, 2)), small.max(axis=(1, 2))
    scale = np.where(high > low, high - low, 1)[:, None, None]
    pixels = np.rint(255 * (small - low[:, None, None]) / scale).astype(np.uint8)
    return {
        "rows": rows,
        "columns": columns,
        "maps": octets(pixels),
        "low": [float(v) for v in low],
        "high": [float(v) for v in high],
    }


def _edges(n: int, size: int) -> "np.ndarray[Any, Any]":
    """Return where each of `size` parts of n values begins, and the end of the last."""
    return np.arange(size + 1) * n // size


def _strongest(shown: FloatArray, side: int) -> tuple[int, int]:
    """Return the upper left corner of the window around the place with the largest values."""
    size = np.abs(shown).reshape(-1, shown.shape[2]).max(axis=0)
    strength = (np.abs(shown) / np.maximum(size, 1e-12)).sum(axis=2)
    place = np.unravel_index(int(strength.argmax()), strength.shape)
    corner = [
        int(min(max(at - min(n, side) // 2, 0), n - min(n, side)))
        for at, n in zip(place, strength.shape, strict=True)
    ]
    return corner[0], corner[1]


def _crop(
    values: FloatArray,
    how: Arithmetic,
    corner: tuple[int, int],
    size: tuple[int, int],
    channels: "np.ndarray[Any, Any] | None",
    floats: Callable[[FloatArray], int],
) -> dict[str, Any]:
    """Return the part of an input that a window of outputs depends on."""
    if channels is not None:
        values = values[..., channels]
    if values.shape[:2] == (1, 1):  # one value for each map
        corner = (0, 0)
    slices = []
    for axis in (0, 1):
        stride = how.settings["stride"][axis] if "stride" in how.settings else 1
        before, reach = _reach(how, axis, size[axis], values.shape[axis])
        first = corner[axis] * stride - before
        slices.append(slice(max(first, 0), max(min(first + reach, values.shape[axis]), 0)))
    part = values[slices[0], slices[1]]
    return {
        "origin": [slices[0].start, slices[1].start],
        "shape": list(part.shape),
        "whole": list(values.shape[:2]),
        "blob": floats(part),
    }
