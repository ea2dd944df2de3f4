"""Tensors of a PyTorch file, read without PyTorch and without executing anything from it.

The layout is the older one of `torch.save`: pickles of a magic number, a version, the machine, the
object and the names of its storages, then each storage as its length and its raw numbers. A
pickle may name any function to be called; here four names are accepted, and any other is
refused.
"""

import io
import math
import pickle
import struct
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from convscope.errors import DataError

Array = npt.NDArray[Any]

_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001
_MOST_BYTES = 2**31
_LENGTH = struct.Struct("<q")
_DTYPES = {"FloatStorage": "<f4", "LongStorage": "<i8"}


@dataclass(frozen=True)
class _Storage:
    """Array of numbers that tensors are views of."""

    key: str
    dtype: str
    length: int


class _Tensor:
    """Stand-in for `torch._utils._rebuild_tensor_v2`: a view of a storage, not yet read."""

    def __init__(self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> None:
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def of(self, numbers: Mapping[str, Array]) -> Array:
        """Return its numbers, in the order of its axes: a tensor need not be contiguous."""
        values = numbers[self.storage.key]
        last = self.offset + sum(
            (side - 1) * step for side, step in zip(self.shape, self.strides, strict=True)
        )
        numbers_ok = all(type(n) is int and n >= 0 for n in (*self.shape, *self.strides, last))
        if not numbers_ok or self.offset < 0 or (0 not in self.shape and last >= len(values)):
            raise ValueError("a tensor exceeds its storage")
        if math.prod(self.shape) > len(values):  # a step of 0 repeats a number without end
            raise ValueError("a tensor exceeds its storage")
        view = np.lib.stride_tricks.as_strided(
            values[self.offset :],
            self.shape,
            tuple(step * values.itemsize for step in self.strides),
            writeable=False,
        )
        return view.copy()


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _Tensor,
    **{("torch", name): name for name in _DTYPES},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise DataError(
                f"it asks for {module}.{name}, which no file of weights needs; refused"
            ) from None

    def persistent_load(self, pid: Any) -> _Storage:
        kind, storage, key, _, length, *_ = pid
        if kind != "storage" or not isinstance(key, str) or type(length) is not int:
            raise ValueError("a storage is not described as PyTorch does it")
        return _Storage(key, _DTYPES[storage], length)


def read_tensors(path: Path) -> dict[str, Array]:
    """Return the tensors of a `state_dict` by name, as separate arrays.

    Args:
        path: File that `torch.save` wrote in its older layout, as PyTorch did before 1.6.

    Raises:
        DataError: If the file is damaged, is larger than 2 GiB, has another layout, or names
            anything but tensors.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DataError("it is larger than 2 GiB")
        content = path.read_bytes()
        if content.startswith(b"PK"):
            raise DataError("it is in PyTorch's newer layout, a zip archive, which is not read")
        stream = io.BytesIO(content)
        if _load(stream) != _MAGIC or _load(stream) != _VERSION:
            raise DataError("it is not a file of PyTorch's older layout")
        machine, state, keys = _load(stream), _load(stream), _load(stream)
        if machine.get("little_endian") is not True:
            raise DataError("it was written on a big-endian machine")
        tensors = {name: value for name, value in state.items() if isinstance(value, _Tensor)}
        if len(tensors) != len(state) or not all(isinstance(name, str) for name in tensors):
            raise DataError("it holds something other than tensors")
        wanted = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
        numbers = {key: _read_storage(stream, wanted[key]) for key in keys}
        return {name: tensor.of(numbers) for name, tensor in tensors.items()}
    except DataError as error:
        raise DataError(f"{path} cannot be used: {error}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error
    # What unpickling raises for wrong bytes depends on the bytes.
    except Exception as error:
        raise DataError(f"{path} is truncated or damaged; download it again") from error


def _load(stream: io.BytesIO) -> Any:
    return _Unpickler(stream).load()


def _read_storage(stream: io.BytesIO, storage: _Storage) -> Array:
    (length,) = _LENGTH.unpack(stream.read(_LENGTH.size))
    if length != storage.length:
        raise ValueError("a storage has another length than stated")
    dtype = np.dtype(storage.dtype)
    raw = stream.read(length * dtype.itemsize) if length >= 0 else b""
    return np.frombuffer(raw, dtype, count=length)
