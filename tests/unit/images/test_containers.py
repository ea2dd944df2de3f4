"""The boxes of AVIF and HEIC files, whose lengths are stated in three ways."""

import struct

import pytest

from convscope.images.containers import boxes, largest_area


def box(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def long_box(kind: bytes, body: bytes = b"") -> bytes:
    """A box whose length is stated in 64 bits."""
    return struct.pack(">I4sQ", 1, kind, 16 + len(body)) + body


def open_box(kind: bytes, body: bytes = b"") -> bytes:
    """A box that goes on to the end of the file."""
    return struct.pack(">I4s", 0, kind) + body


def bodies(content: bytes) -> list[tuple[bytes, bytes]]:
    return [(kind, content[first:last]) for kind, first, last in boxes(content, 0, len(content))]


@pytest.mark.parametrize("last", [box, long_box, open_box])
@pytest.mark.parametrize("body", [b"", b"x", b"a longer body"])
def test_the_last_box_of_a_file_is_found_however_its_length_is_stated(last, body):
    content = long_box(b"ftyp", b"avif") + box(b"free") + last(b"mdat", body)
    assert bodies(content) == [(b"ftyp", b"avif"), (b"free", b""), (b"mdat", body)]


def test_a_box_that_is_cut_off_ends_with_the_file():
    content = box(b"ftyp") + long_box(b"mdat", b"12345678")[:-3]
    assert list(boxes(content, 0, len(content))) == [(b"ftyp", 8, 8), (b"mdat", 24, 29)]


@pytest.mark.parametrize("rest", [b"\0\0\0\x09mda", long_box(b"mdat")[:15], b"\0\0\0\7mdat"])
def test_a_head_that_is_cut_off_or_shorter_than_itself_is_no_box(rest):
    assert bodies(box(b"ftyp", b"avif") + rest) == [(b"ftyp", b"avif")]


@pytest.mark.parametrize("wrap", [box, long_box])
def test_the_area_of_a_picture_is_found_in_boxes_of_either_length(wrap):
    sizes = [wrap(b"ispe", struct.pack(">III", 0, *size)) for size in ((3, 5), (40, 20))]
    properties = wrap(b"iprp", wrap(b"ipco", b"".join(sizes)))
    assert largest_area(box(b"ftyp", b"avif") + wrap(b"meta", b"\0" * 4 + properties)) == 800
