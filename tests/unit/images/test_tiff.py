"""TIFF files that Pillow alone reads wrongly, and kinds that are not read."""

import struct

import numpy as np
import pytest
from PIL import TiffImagePlugin

from convscope.errors import ImageError, UnreadFormatError
from convscope.images.decode import decode_image
from convscope.images.formats import read_header

GREY, RGB, CMYK, LAB = 1, 2, 5, 8


def tiff(
    bands: np.ndarray,
    photometric: int,
    *,
    planes: bool = False,
    big_endian: bool = False,
    **tags: int,
) -> bytes:
    """An uncompressed TIFF of bands of shape (height, width, bands)."""
    height, width, count = bands.shape
    order, head = (">", b"MM\0*") if big_endian else ("<", b"II*\0")
    bands = bands.astype(bands.dtype.newbyteorder(order))
    parts = [bands[..., band].tobytes() for band in range(count)] if planes else [bands.tobytes()]
    starts = np.cumsum([8, *map(len, parts)]).tolist()
    entries: dict[int, list[int]] = {
        256: [width],
        257: [height],
        258: [8 * bands.itemsize] * count,
        259: [1],
        262: [photometric],
        273: starts[:-1],
        277: [count],
        278: [height],
        279: [len(part) for part in parts],
        284: [2 if planes else 1],
        339: [{"u": 1, "i": 2, "f": 3}[bands.dtype.kind]] * count,
    }
    entries |= {int(name.removeprefix("tag_")): [value] for name, value in tags.items()}
    at = starts[-1] + 2 + 12 * len(entries) + 4
    listed, beyond = struct.pack(f"{order}H", len(entries)), b""
    for tag, values in sorted(entries.items()):
        kind, letter = (4, "I") if tag in (273, 279) else (3, "H")
        data = struct.pack(f"{order}{len(values)}{letter}", *values)
        if len(data) > 4:
            beyond, data = beyond + data, struct.pack(f"{order}I", at + len(beyond))
        listed += struct.pack(f"{order}HHI", tag, kind, len(values)) + data.ljust(4, b"\0")
    ifd = listed + bytes(4) + beyond
    return head + struct.pack(f"{order}I", starts[-1]) + b"".join(parts) + ifd


def ramp(count: int, dtype: str = "uint16") -> np.ndarray:
    """Bands that go from black to white, each from another side."""
    column = np.linspace(0, 1, 16)
    bands = [np.tile(column, (12, 1)), np.tile(column[::-1], (12, 1)), np.full((12, 16), 0.5)]
    white = np.iinfo(dtype).max if np.dtype(dtype).kind in "ui" else 1
    return (np.stack((bands * 5)[:count], axis=2) * white).astype(dtype)


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize(
    ("count", "photometric", "tags"),
    [(3, RGB, {}), (4, RGB, {"tag_338": 2}), (4, CMYK, {}), (1, GREY, {})],
)
def test_planes_give_the_pixels_of_the_same_bands_beside_each_other(
    count, photometric, tags, dtype, big_endian
):
    bands = ramp(count, dtype)
    files = (
        tiff(bands, photometric, planes=planes, big_endian=big_endian, **tags)
        for planes in (True, False)
    )
    in_planes, beside = (decode_image(file, channels=3) for file in files)
    assert np.ptp(beside) > 200
    np.testing.assert_array_equal(in_planes, beside)


def test_a_single_plane_in_which_white_is_zero_is_inverted():
    pixels = decode_image(tiff(ramp(1, "uint8"), 0, planes=True), channels=1)
    assert pixels[0, [0, -1], 0].tolist() == [255, 0]


def test_opening_planes_leaves_pillow_as_it_was():
    with pytest.raises(ImageError):
        decode_image(tiff(ramp(3), RGB, planes=True)[:-50], channels=3)
    decode_image(tiff(ramp(3), RGB, planes=True), channels=3)
    assert not TiffImagePlugin.READ_LIBTIFF


@pytest.mark.parametrize(
    ("file", "kind", "remedy"),
    [
        (tiff(ramp(13), GREY), "13 grey bands of 16-bit whole numbers", "three of its bands"),
        (tiff(ramp(3, "uint8"), GREY), "3 grey bands of 8-bit whole numbers", "it as 8-bit grey"),
        (tiff(ramp(3, "float32"), RGB), "3 RGB bands of 32-bit floating-point numbers", "it as"),
        (tiff(ramp(1, "float64"), GREY), "1 grey band of 64-bit floating-point numbers", "it as"),
        (tiff(ramp(3), LAB), "3 LAB bands of 16-bit whole numbers", "it as"),
        (tiff(ramp(2, "uint8"), GREY, planes=True, tag_338=2), "numbers in separate planes", "it"),
        (tiff(ramp(3, "uint8"), RGB, tag_259=34712), "numbers, compressed by method 34712", "it"),
    ],
)
def test_a_kind_that_is_not_read_is_named_with_what_to_save(file, kind, remedy):
    with pytest.raises(UnreadFormatError) as caught:
        decode_image(file, channels=3, name="a.tif")
    message = str(caught.value)
    assert message.startswith("a.tif is a TIFF of ")
    assert f"{kind}, a kind that is not read; save {remedy}" in message
    assert "\n" not in message


def test_compressed_numbers_in_big_endian_are_refused_not_turned_twice():
    # The tags alone decide: nothing here is compressed.
    file = tiff(ramp(1, "float32"), GREY, big_endian=True, tag_259=8)
    with pytest.raises(UnreadFormatError, match="1 grey band of 32-bit big-endian floating-point"):
        decode_image(file, channels=1)


def test_half_a_file_is_no_kind_of_its_own():
    beyond = len(tiff(ramp(13), GREY))
    with pytest.raises(ImageError, match="is not a whole image of a known kind") as caught:
        decode_image(tiff(ramp(13), GREY, tag_273=beyond), channels=1)
    assert not isinstance(caught.value, UnreadFormatError)


def test_the_white_of_colour_is_that_of_the_file():
    assert read_header(tiff(ramp(3), RGB)).white == 65535
    assert read_header(tiff(ramp(3), RGB, planes=True)).white == 65535
    assert read_header(tiff(ramp(4), CMYK)).white == 65535
    assert read_header(tiff(ramp(3, "uint8"), RGB)).white == 255


@pytest.mark.parametrize(("largest", "white"), [(255, 255), (4095, 65535)])
def test_a_colour_ppm_of_more_than_8_bits_is_deep(largest, white):
    values = ramp(3).astype(">u2" if largest > 255 else "u1").tobytes()
    header = read_header(b"P6 16 12 %d\n" % largest + values)
    assert header.white == white


@pytest.mark.parametrize("colour", [2, 4, 6])
@pytest.mark.parametrize(("bits", "white"), [(8, 255), (16, 65535)])
def test_a_colour_png_of_16_bits_is_deep(chunk, colour, bits, white):
    size = (16).to_bytes(4, "big") * 2
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size + bytes([bits, colour, 0, 0, 0]))
    assert read_header(content + chunk(b"IDAT", b"") + chunk(b"IEND", b"")).white == white
