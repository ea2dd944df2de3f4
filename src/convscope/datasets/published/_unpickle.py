"""Reading pickles of CIFAR batches without executing anything from them.

A pickle may name any function to be called. Not here: the three numpy names in the official batches
are replaced by stand-ins that hold bytes, and any other name is refused.
"""

import io
import pickle
from typing import Any

import numpy as np

from convscope.errors import IntegrityError
from convscope.types import UInt8Array


class _Dtype:
    """Stand-in for numpy.dtype; only bytes are accepted."""

    def __init__(self, code: Any = None, *_: Any) -> None:
        if code not in ("u1", b"u1"):
            raise IntegrityError(f"a pickled array is of type {code!r}, not of unsigned bytes")

    def __setstate__(self, state: Any) -> None:
        del state  # byte order and alignment: bytes have none


class _Array:
    """Stand-in for numpy.ndarray."""

    array: UInt8Array

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, column_major, raw = state
        if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes):
            raise IntegrityError("a pickled array does not consist of unsigned bytes")
        order = "F" if column_major else "C"
        self.array = np.frombuffer(raw, np.uint8).reshape(shape, order=order)  # type: ignore[call-overload]


def _reconstruct(*_: Any) -> _Array:
    return _Array()


_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise IntegrityError(
                f"a pickle asks for {module}.{name}, which no CIFAR batch needs; refused"
            ) from None


def unpickle_batch(data: bytes) -> dict[bytes, Any]:
    """Return the contents of a pickled CIFAR batch: bytes, lists, numbers and uint8 arrays.

    Args:
        data: Contents of the file, as Python 2 wrote it.

    Raises:
        IntegrityError: If it names anything else. Damaged bytes raise other errors too.
    """
    batch = _Unpickler(io.BytesIO(data), encoding="bytes").load()
    if not isinstance(batch, dict):
        raise IntegrityError(f"a pickled batch holds a {type(batch).__name__}, not a dict")
    return {
        key: value.array if isinstance(value, _Array) else value for key, value in batch.items()
    }
