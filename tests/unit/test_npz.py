"""Files of arrays whose headers lie, or that unpack to far more than they are."""

import io
import zipfile

import numpy as np
import pytest

from convscope import npz


def packed(**arrays) -> io.BytesIO:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream


def stating(shape, content=b"", name="labels.npy") -> io.BytesIO:
    """An archive with one array whose header states a shape."""
    array, stream = io.BytesIO(), io.BytesIO()
    header = {"descr": "<i8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(array, header)
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr(name, array.getvalue() + content)
    return stream


@pytest.mark.parametrize(
    "arrays",
    [
        {"labels": np.arange(3), "ids": np.array(["a", "bc", ""])},
        {"labels": np.zeros((3, 0), np.uint8), "ids": np.array(["", "", ""])},
        {"labels": np.asfortranarray(np.ones((3, 2)))},
    ],
)
def test_what_numpy_wrote_is_sound(arrays):
    stream = packed(**arrays)
    npz.require_sound(stream, 3)
    assert sorted(np.load(stream).files) == sorted(arrays)
    npz.require_sound(packed(single=np.array(1.5), text=np.array("x"), none=np.empty(0)))


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        (stating((10**15,)), "'labels.npy' is not as large as it states"),
        (stating((2,), bytes(8)), "'labels.npy' is not as large as it states"),
        (stating((2,), bytes(16)), "'labels.npy' is not of 3 images"),
        (stating((10**15,), name="labels"), "'labels' is no array"),
        (stating((), bytes(8)), "'labels.npy' is not of 3 images"),
        (packed(labels=np.array([{}] * 3)), "'labels.npy' is not as large as it states"),
        (io.BytesIO(b"PK no archive"), "File is not a zip file"),
        (io.BytesIO(), "File is not a zip file"),
    ],
)
def test_what_lies_is_refused_before_it_is_read(stream, said):
    with pytest.raises(ValueError, match=said):
        npz.require_sound(stream, 3)


def test_what_unpacks_to_far_more_is_refused(monkeypatch):
    stream = packed(labels=np.zeros(10**6))
    npz.require_sound(stream)
    monkeypatch.setattr(npz, "_FREE_BYTES", 2**20)
    with pytest.raises(ValueError, match="far larger than the file"):
        npz.require_sound(stream)
    npz.require_sound(packed(labels=np.random.default_rng(0).random(10**6)))
