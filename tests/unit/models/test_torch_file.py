"""PyTorch's older layout, written here without PyTorch; its tensors need not be contiguous."""

import contextlib
import io
import pickle
import struct
import sys
import types
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from convscope.errors import DataError
from convscope.models._torch_file import read_tensors

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001


@pytest.fixture
def torch(monkeypatch):
    """What a pickle names of PyTorch, for it to be written."""
    modules = types.ModuleType("torch"), types.ModuleType("torch._utils")
    modules[0]._utils = modules[1]
    for name in ("FloatStorage", "LongStorage", "Size"):
        setattr(modules[0], name, type(name, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2(*_):
        raise AssertionError("only its name is written")

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    modules[1]._rebuild_tensor_v2 = _rebuild_tensor_v2
    for module in modules:
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return modules[0]


class Storage:
    def __init__(self, key: str, numbers: np.ndarray) -> None:
        self.key, self.numbers = key, numbers


class Tensor:
    def __init__(self, storage: Storage, offset: int, shape: tuple, strides: tuple) -> None:
        self.parts = storage, offset, shape, strides, False, OrderedDict()

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.parts


def write(path: Path, state: object, storages: list[Storage]) -> bytes:
    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if not isinstance(value, Storage):
                return None
            name = "LongStorage" if value.numbers.dtype == np.int64 else "FloatStorage"
            kind = getattr(sys.modules["torch"], name)
            return ("storage", kind, value.key, "cpu", len(value.numbers), None)

    stream = io.BytesIO()
    for value in (MAGIC, VERSION, {"little_endian": True}):
        pickle.dump(value, stream, 2)
    Pickler(stream, 2).dump(state)
    keys = sorted(storage.key for storage in storages)
    pickle.dump(keys, stream, 2)
    for storage in sorted(storages, key=lambda s: s.key):
        stream.write(struct.pack("<q", len(storage.numbers)))
        stream.write(storage.numbers.tobytes())
    path.write_bytes(stream.getvalue())
    return stream.getvalue()


@pytest.fixture
def two(torch) -> tuple[object, list[Storage]]:
    """A matrix that lies transposed in its storage, behind other numbers; and a count."""
    floats = Storage("10", np.arange(8, dtype=np.float32))
    counts = Storage("9", np.array([1000], np.int64))
    state = OrderedDict(matrix=Tensor(floats, 2, (2, 3), (1, 2)), n=Tensor(counts, 0, (), ()))
    return state, [floats, counts]


def test_tensors_come_in_the_order_of_their_axes(two, tmp_path):
    write(tmp_path / "w.pth", *two)
    found = read_tensors(tmp_path / "w.pth")
    assert list(found) == ["matrix", "n"]
    assert found["matrix"].tolist() == [[2, 4, 6], [3, 5, 7]]
    assert found["matrix"].dtype == np.float32
    assert found["matrix"].flags.writeable
    assert found["n"] == 1000


def test_wherever_it_is_cut_off_it_is_refused(two, tmp_path):
    content = write(tmp_path / "w.pth", *two)
    for end in range(len(content)):
        (tmp_path / "w.pth").write_bytes(content[:end])
        with pytest.raises(DataError, match=r"w\.pth"):
            read_tensors(tmp_path / "w.pth")


def test_whatever_byte_is_wrong_it_is_read_or_refused(two, tmp_path):
    content = write(tmp_path / "w.pth", *two)
    for place in range(len(content)):
        for value in (0, 46, 99, 255):
            changed = bytearray(content)
            changed[place] = value
            (tmp_path / "w.pth").write_bytes(bytes(changed))
            with contextlib.suppress(DataError):
                read_tensors(tmp_path / "w.pth")


def test_a_tensor_that_looks_beyond_its_storage_is_refused(torch, tmp_path):
    floats = Storage("0", np.arange(4, dtype=np.float32))
    for tensor in (
        Tensor(floats, 2, (3,), (1,)),
        Tensor(floats, 0, (2, 2), (3, 1)),
        Tensor(floats, -1, (2,), (1,)),
        Tensor(floats, 3, (2,), (-1,)),
        Tensor(floats, 0, (2**40,), (0.5,)),
        Tensor(floats, 0, (2**20,), (0,)),  # one number, repeated
    ):
        write(tmp_path / "w.pth", OrderedDict(w=tensor), [floats])
        with pytest.raises(DataError, match="truncated or damaged"):
            read_tensors(tmp_path / "w.pth")


def test_a_pickle_that_names_anything_else_is_refused(torch, tmp_path):
    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "made",)

    write(tmp_path / "w.pth", OrderedDict(w=Evil()), [])
    with pytest.raises(DataError, match="which no file of weights needs; refused"):
        read_tensors(tmp_path / "w.pth")
    assert not (tmp_path / "made").exists()


def test_other_files_are_named(torch, tmp_path):
    place = tmp_path / "w.pth"
    place.write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match="newer layout"):
        read_tensors(place)
    place.write_bytes(pickle.dumps(1))
    with pytest.raises(DataError, match="not a file of PyTorch"):
        read_tensors(place)
    write(place, OrderedDict(w=3), [])
    with pytest.raises(DataError, match="something other than tensors"):
        read_tensors(place)
    with pytest.raises(DataError, match="No such file"):
        read_tensors(tmp_path / "nowhere.pth")
