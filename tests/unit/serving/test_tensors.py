"""Tensors of a request, at the limits of what is allowed."""

import json
import struct

import pytest

from convscope.serving.limits import RefusedError
from convscope.serving.tensors import read_request


def read(given: dict, tail: bytes = b"", most: int = 9) -> list:
    """Return the images of a request with one input."""
    if tail:
        given = {**given, "parameters": {"binary_data_size": len(tail)}}
    head = json.dumps({"inputs": [{"name": "pixels", **given}]}).encode()
    return read_request(head + tail, str(len(head)), 1, most).images


@pytest.mark.parametrize("value", [-1, -1.0, 256])
def test_pixels_are_from_0_to_255(value):
    given = {"shape": [1, 1, 1, 1], "datatype": "UINT8"}
    assert [read({**given, "data": [fine]})[0].item() for fine in (0, 255)] == [0, 255]
    with pytest.raises(RefusedError, match=r"whole numbers, 0..255") as refused:
        read({**given, "data": [value]})
    assert refused.value.status == 400


def test_an_element_is_as_long_as_it_states():
    given = {"shape": [1], "datatype": "BYTES"}
    assert read(given, struct.pack("<I", 10) + b"0123456789") == [b"0123456789"]
    # As a limit of all bytes, with those of the length itself, 12 would be in order.
    for tail in (struct.pack("<I", 12) + b"0123456789", b"\1\0\0"):
        with pytest.raises(RefusedError, match="longer than its data") as refused:
            read(given, tail)
        assert refused.value.status == 400


@pytest.mark.parametrize(
    ("given", "tail"),
    [
        ({"shape": [3], "datatype": "BYTES"}, (struct.pack("<I", 1) + b"x") * 3),
        ({"shape": [3], "datatype": "BYTES"}, b"\xff" * 9),
        ({"shape": [3, 1, 1, 1], "datatype": "UINT8"}, b"\xff" * 9),
    ],
)
def test_images_are_counted_before_they_are_read(given, tail):
    with pytest.raises(RefusedError, match="3 images in one request") as refused:
        read(given, tail, most=2)
    assert refused.value.status == 413
