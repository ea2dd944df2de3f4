"""Refusal of ONNX files whose values are in other files.

A tensor of an ONNX file may name another file that holds its values. An engine reads them from
there, so that a model of a stranger could answer with the contents of a file of this machine.
`convscope export` writes all values into its one file. The base installation lacks the package
`onnx`, but to find such a tensor is a walk over the fields of a protocol buffer.

References:
    ONNX's `onnx.proto`, and "External Data" in its documentation; Protocol Buffers, "Encoding".
"""

from collections.abc import Iterator
from pathlib import Path

from convscope.errors import RunError

PARTS: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        **{5: "TensorProto", 10: "TensorProto", 6: "GraphProto", 11: "GraphProto"},
        **{22: "SparseTensorProto", 23: "SparseTensorProto"},
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {},
}
"""Fields of ONNX's messages that may hold tensors: the kind of message by field, by kind."""

_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
"""Fields of a tensor: where the other file is, and whether there is one (0 for none)."""

_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
_LONGEST_VARINT = 10
_LARGEST_TAG = 2**32 - 1

_ORT_MARK = slice(4, 8), b"ORTM"
"""Place and value by which ONNX Runtime takes bytes for its other format, which is not ONNX."""


def require_self_contained(content: bytes, path: Path) -> None:
    """Check that no tensor of an ONNX file has its values in another file.

    Args:
        content: Bytes of the file.
        path: Path of the file, for the message.

    Raises:
        RunError: If one has, or if this is no ONNX file.
    """
    place, mark = _ORT_MARK
    try:
        if content[place] == mark:
            raise ValueError
        external = _is_external(content)
    except (ValueError, IndexError):
        raise RunError(f"{path} is no ONNX file; export the model again") from None
    if external:
        raise RunError(
            f"{path} is not opened: values of its model are in another file, which could be any "
            "file of yours; use a model that convscope exported, which is one file"
        )


def _is_external(content: bytes) -> bool:
    """Return whether a tensor in a message of ONNX says that its values are elsewhere.

    Raises:
        ValueError: If it is no protocol buffer.
        IndexError: If it ends too early.
    """
    waiting = [("ModelProto", 0, len(content))]
    while waiting:
        kind, start, end = waiting.pop()
        for field, wire_type, value, after in _fields(content, start, end):
            if kind == "TensorProto" and (
                field == _EXTERNAL_DATA
                or (field == _DATA_LOCATION and (wire_type != _VARINT or value != 0))
            ):
                return True
            if wire_type == _LENGTH and field in PARTS[kind]:
                waiting.append((PARTS[kind][field], value, after))
    return False


def _fields(content: bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield the fields of a message.

    Args:
        content: Bytes around it.
        start: Place of its first byte.
        end: Place after its last byte.

    Yields:
        Number and wire type of each field; its value, if it is a varint, or else the place of its
        first byte; and the place after its last byte.
    """
    place = start
    while place < end:
        tag, place = _varint(content, place)
        number, wire_type = tag >> 3, tag & 7
        if number == 0 or tag > _LARGEST_TAG:
            raise ValueError
        value = place
        if wire_type == _VARINT:
            value, place = _varint(content, place)
        elif wire_type == _LENGTH:
            length, value = _varint(content, place)
            place = value + length
        elif wire_type in (_EIGHT_BYTES, _FOUR_BYTES):
            place += 8 if wire_type == _EIGHT_BYTES else 4
        else:  # groups, which ONNX does not have
            raise ValueError
        if place > end:
            raise ValueError
        yield number, wire_type, value, place


def _varint(content: bytes, place: int) -> tuple[int, int]:
    """Return the number at a place, and the place after it."""
    number = 0
    for shift in range(0, 7 * _LONGEST_VARINT, 7):
        byte = content[place]
        place += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, place
    raise ValueError
