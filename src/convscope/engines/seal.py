"""Facts and a checksum at the end of an ONNX file, by which a damaged file is refused.

An ONNX file is a protocol buffer, which may be followed by more entries of its repeated fields.
Facts are entries of its `metadata_props`, where every ONNX tool finds them. The last entry is the
SHA-256 of all bytes before its value, so that nothing in the file is outside of it.

References:
    ONNX's `onnx.proto` (ModelProto, field 14: StringStringEntryProto with key 1 and value 2);
    Protocol Buffers, "Encoding": repeated fields of concatenated messages are concatenated.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from convscope.errors import IntegrityError

_CHECKSUM = "convscope.sha256"
_METADATA = 14 << 3 | 2
_KEY, _VALUE = 1 << 3 | 2, 2 << 3 | 2
_N_DIGITS = 64
_LONGEST_VARINT = 5


def sealed(model: bytes, facts: Mapping[str, str]) -> bytes:
    """Return an ONNX file with facts and a checksum.

    Args:
        model: ONNX file.
        facts: Values by key, such as "convscope.spec".
    """
    content = model + b"".join(_entry(key, value) for key, value in facts.items())
    content += _entry(_CHECKSUM, "0" * _N_DIGITS)[:-_N_DIGITS]
    return content + hashlib.sha256(content).hexdigest().encode()


def require_whole(content: bytes, path: Path) -> None:
    """Check a file that `sealed` made.

    Args:
        content: Bytes of the file.
        path: Path of the file, for the message.

    Raises:
        IntegrityError: If a byte of it was changed, or it is no exported model of convscope.
    """
    body, digits = content[:-_N_DIGITS], content[-_N_DIGITS:]
    if not body.endswith(_entry(_CHECKSUM, "0" * _N_DIGITS)[:-_N_DIGITS]):
        raise IntegrityError(
            f"{path} is damaged, or not a model that convscope exported: it does not end in its "
            "checksum; export it again"
        )
    if hashlib.sha256(body).hexdigest().encode() != digits:
        raise IntegrityError(
            f"{path} is damaged: its bytes do not match its own checksum; copy or export it again"
        )


def checksum_of(content: bytes) -> str:
    """Return the checksum that ends a file that `sealed` made."""
    return content[-_N_DIGITS:].decode("ascii", "replace")


def read_checksum(path: Path) -> str:
    """Return the checksum that ends a file that `sealed` made, without reading the rest of it.

    Raises:
        OSError: If the file cannot be read, or is shorter than that.
    """
    with path.open("rb") as file:
        file.seek(-_N_DIGITS, os.SEEK_END)
        return checksum_of(file.read())


def fact_in(content: bytes, key: str) -> str:
    """Return a fact of a file that `sealed` made and `require_whole` passed.

    Raises:
        ValueError: If there is none of that key.
    """
    mark = _field(_KEY, key.encode()) + bytes([_VALUE])
    start = content.rfind(mark)
    if start < 0:
        raise ValueError(f"it has no {key}")
    start += len(mark)
    length = shift = 0
    for byte in content[start : start + _LONGEST_VARINT]:
        start += 1
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    return content[start : start + length].decode()


def _entry(key: str, value: str) -> bytes:
    inner = _field(_KEY, key.encode()) + _field(_VALUE, value.encode())
    return _field(_METADATA, inner)


def _field(tag: int, content: bytes) -> bytes:
    return bytes([tag]) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])
