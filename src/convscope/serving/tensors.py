"""Tensors of the Open Inference Protocol: in JSON, and in its binary extension.

References:
    Open Inference Protocol, version 2, "REST"; Triton, "Binary Tensor Data Extension".
"""

import itertools
import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from convscope.engines import INPUT
from convscope.serving.limits import (
    RefusedError,
    decode_base64,
    parse_json,
    require_possible,
    whole_number,
)
from convscope.types import FloatArray, UInt8Array

LENGTH_HEADER = "inference-header-content-length"
"""Header with the number of bytes of JSON before the binary tensors."""

_TYPES = (
    *("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
    *("FP16", "FP32", "FP64", "BYTES"),
)
_MOST_DIMENSIONS = 8

MUCH_JSON = 1 << 18
"""Bytes of JSON from which reading it is left to a thread: it takes some milliseconds."""

MANY_VALUES = 10_000
"""Number of values from which writing them as JSON is left to a thread, and written at a time: the
writer itself is C and lets no other thread in."""

_FEW_VALUES = 100
"""Number of values up to which plain Python rounds them sooner than NumPy."""

_TENS = np.array([float(f"1e{power}") for power in range(23)])
"""Powers of ten that are exact."""


@dataclass(frozen=True)
class Asked:
    """A request for an inference.

    Attributes:
        content: JSON of the request.
        images: Encoded images, or pixels of shape (height, width, channels), uint8.
    """

    content: dict[str, Any]
    images: "list[bytes | UInt8Array]"


def read_request(body: bytes, header_length: str | None, channels: int, most: int) -> Asked:
    """Return the images in a request for an inference.

    Args:
        body: JSON, or JSON and binary tensors, or one encoded image alone (length 0).
        header_length: `LENGTH_HEADER` of the request.
        channels: Channels of the model.
        most: Largest number of images in a request.

    Raises:
        RefusedError: If it does not follow the protocol, has another input than the model (400), or
            too many images (413).
    """
    if header_length is None:
        content, rest = parse_json(body), memoryview(b"")
    else:
        length = whole_number(header_length, len(body))
        if length is None:
            raise RefusedError(400, f"{LENGTH_HEADER} is not a length within the body")
        if length == 0:
            if not body:
                raise RefusedError(400, "the body is empty; send the bytes of an image")
            return Asked({}, [body])
        content, rest = parse_json(body[:length]), memoryview(body)[length:]
    inputs = content.get("inputs")
    if not isinstance(inputs, list) or not all(isinstance(each, dict) for each in inputs):
        raise RefusedError(
            400, 'the request needs "inputs": [{"name", "shape", "datatype", "data"}]'
        )
    names = [each.get("name") for each in inputs]
    if names != [INPUT]:
        raise RefusedError(400, f"the model has one input, '{INPUT}', not {_quoted(names)}")
    (given,) = inputs
    shape = _shape(given)
    size = parameters_of(given).get("binary_data_size")
    data: Any = given.get("data")
    if size is not None:
        if not _is_count(size) or size > len(rest):
            raise RefusedError(
                400, f"binary_data_size of '{INPUT}' is not a length within the body"
            )
        data, rest = rest[:size], rest[size:]
    elif data is None:
        raise RefusedError(400, f"'{INPUT}' has no data")
    if len(rest):
        raise RefusedError(400, f"the body has {len(rest)} bytes more than the tensors need")
    datatype = given.get("datatype")
    if datatype == "BYTES":
        return Asked(content, _encoded(data, shape, most, binary=size is not None))
    if datatype != "UINT8":
        raise RefusedError(
            400,
            f"'{INPUT}' is UINT8 (pixels, 0..255) or BYTES (image files), not "
            f"{datatype if datatype in _TYPES else 'a datatype of the protocol'}",
        )
    pixels = _pixels(data, shape, channels, most, binary=size is not None)
    return Asked(content, list(pixels))


def _shape(given: dict[str, Any]) -> list[int]:
    shape = given.get("shape")
    if (
        not isinstance(shape, list)
        or not 1 <= len(shape) <= _MOST_DIMENSIONS
        or not all(_is_count(length) for length in shape)
    ):
        raise RefusedError(
            400, f"the shape of '{INPUT}' has to be a list of numbers, at least 1 each"
        )
    return shape


def _encoded(data: Any, shape: list[int], most: int, *, binary: bool) -> "list[bytes | UInt8Array]":
    """Return the elements of a tensor of image files."""
    if not (len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)):
        raise RefusedError(400, f"image files come as shape [N] or [N, 1], not {shape}")
    require_possible(shape[0], most)
    elements = data if isinstance(data, list) else [data]
    if binary:
        elements = []
        # One more than there may be: millions of empty ones fit into a small body.
        while len(data) and len(elements) <= shape[0]:
            if len(data) < 4 or len(data) - 4 < (length := struct.unpack("<I", data[:4])[0]):
                raise RefusedError(400, f"an element of '{INPUT}' is longer than its data")
            elements.append(bytes(data[4 : 4 + length]))
            data = data[4 + length :]
    if len(elements) != shape[0]:
        there = "more" if len(elements) > shape[0] else len(elements)
        raise RefusedError(400, f"'{INPUT}' has {there} elements, but its shape says {shape[0]}")
    if binary:
        return elements
    if len(shape) == 2:
        elements = [each[0] if isinstance(each, list) and each else each for each in elements]
    return [decode_base64(each, f"element {i} of '{INPUT}'") for i, each in enumerate(elements)]


def _pixels(data: Any, shape: list[int], channels: int, most: int, *, binary: bool) -> UInt8Array:
    """Return a tensor of pixels, shape (n_images, height, width, channels)."""
    if len(shape) != 4 or shape[3] != channels:
        raise RefusedError(
            400, f"'{INPUT}' has the shape [N, height, width, {channels}], not {shape}"
        )
    require_possible(shape[0], most)
    if binary:
        values: npt.NDArray[Any] = np.frombuffer(data, np.uint8)
    else:
        try:
            values = np.asarray(_numbers(data))
        except OverflowError:  # a number too large for a float, among floats
            raise RefusedError(
                400, f"the data of '{INPUT}' has to be whole numbers, 0..255"
            ) from None
        whole = values.dtype.kind in "iu" or (
            values.dtype.kind == "f" and bool((values == np.rint(values)).all())
        )
        if not whole or (values.size and not 0 <= values.min() <= values.max() <= 255):
            raise RefusedError(400, f"the data of '{INPUT}' has to be whole numbers, 0..255")
    if values.size != math.prod(shape):
        raise RefusedError(
            400, f"'{INPUT}' has {values.size} values, but its shape {shape} needs another number"
        )
    return values.astype(np.uint8, copy=False).reshape(shape)


def _numbers(data: Any) -> list[int | float]:
    """Return the numbers in JSON data, row by row, whether they come flat or as nested lists.

    NumPy would give every text of a list the length of the longest, and lists of unequal lengths
    an array of objects.

    Raises:
        RefusedError: If the lists differ in depth or length, are too deep, or hold anything else.
    """
    level = data if isinstance(data, list) else [data]
    depth = 1
    while list in (kinds := set(map(type, level))):
        if kinds != {list} or len(set(map(len, level))) > 1 or depth == _MOST_DIMENSIONS:
            raise RefusedError(
                400,
                f"the data of '{INPUT}' is no tensor: send its numbers flat, or in lists of equal "
                f"lengths, at most {_MOST_DIMENSIONS} deep",
            )
        level = list(itertools.chain.from_iterable(level))
        depth += 1
    if not kinds <= {int, float}:
        raise RefusedError(400, f"the data of '{INPUT}' has to be whole numbers, 0..255")
    return level


@dataclass(frozen=True)
class Output:
    """A tensor of an answer.

    Attributes:
        name: Name.
        values: Array of float32, or of bytes (dtype object).
    """

    name: str
    values: npt.NDArray[Any]

    @property
    def datatype(self) -> str:
        """Datatype of the protocol."""
        return "BYTES" if self.values.dtype == object else "FP32"

    def binary(self) -> bytes:
        """Return the values in the binary extension: little-endian, row by row."""
        if self.values.dtype != object:
            return self.values.astype("<f4").tobytes()
        return b"".join(struct.pack("<I", len(each)) + each for each in self.values.ravel())

    def text(self) -> str:
        """Return the values as a list of JSON, flat."""
        flat = self.values.ravel()
        texts = []
        for start in range(0, flat.size, MANY_VALUES):
            piece = flat[start : start + MANY_VALUES]
            is_text = piece.dtype == object
            listed = [each.decode() for each in piece] if is_text else rounded(piece, 9)
            texts.append(json.dumps(listed)[1:-1])
        return f"[{', '.join(texts)}]"


def rounded(values: FloatArray, n_digits: int) -> list[float]:
    """Return values with some significant digits: each as `float(f"{value:.7g}")` does for 7.

    Args:
        values: Shape (n_values,), float32.
        n_digits: Number of digits, at most 9.
    """
    if len(values) <= _FEW_VALUES:
        return [float(f"{value:.{n_digits}g}") for value in values.tolist()]
    exact = values.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        power = n_digits - 1 - np.floor(np.log10(np.abs(exact)))
    is_sure = (power >= 0) & (power < len(_TENS))
    tens = _TENS[np.where(is_sure, power, 0).astype(int)]
    shifted = exact * tens
    whole = np.rint(shifted)
    # Near the middle of two numbers, or with a logarithm that is off by one, Python decides.
    is_sure &= np.abs(shifted - whole) < 0.4999
    is_sure &= (np.abs(whole) >= _TENS[n_digits - 1]) & (np.abs(whole) <= _TENS[n_digits])
    found = whole / tens
    found[~is_sure] = [float(f"{value:.{n_digits}g}") for value in exact[~is_sure].tolist()]
    numbers: list[float] = found.tolist()
    return numbers


def write_answer(
    head: dict[str, Any], outputs: Sequence[Output], binary: Sequence[bool]
) -> tuple[bytes, int | None]:
    """Return the body of an answer, and the length of its JSON if tensors follow it.

    Args:
        head: Model, version, and id.
        outputs: Tensors.
        binary: Whether each is binary.
    """
    texts, tail = [], []
    for output, as_binary in zip(outputs, binary, strict=True):
        entry: dict[str, Any] = {
            "name": output.name,
            "datatype": output.datatype,
            "shape": list(output.values.shape),
        }
        if as_binary:
            tail.append(output.binary())
            entry["parameters"] = {"binary_data_size": len(tail[-1])}
            texts.append(json.dumps(entry))
        else:
            texts.append(f'{json.dumps(entry)[:-1]}, "data": {output.text()}}}')
    text = f"{json.dumps({**head, 'outputs': []})[:-2]}{', '.join(texts)}]}}".encode()
    return text + b"".join(tail), len(text) if any(binary) else None


def parameters_of(given: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of a request, an input or an output.

    Raises:
        RefusedError: If they are no object.
    """
    found = given.get("parameters") or {}
    if not isinstance(found, dict):
        raise RefusedError(400, "parameters have to be an object, {...}")
    return found


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _quoted(names: list[Any]) -> str:
    return ", ".join(f"'{str(name)[:40]}'" for name in names[:4]) or "none"
