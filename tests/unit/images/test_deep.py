"""Images of more than 8 bits: what is white in them."""

import io

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from convscope.errors import ImageError
from convscope.images.decode import decode_image, read_peak
from convscope.images.deep import choose_white
from convscope.images.formats import read_header


def tiff(values: np.ndarray, *, photometric: int | None = None, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "TIFF", **options)
    content = stream.getvalue()
    if photometric is None:
        return content
    # Pillow writes deep images as 1, black is zero.
    entry = b"\x06\x01\x03\0\1\0\0\0"
    assert content.count(entry + b"\1\0") == 1
    return content.replace(entry + b"\1\0", entry + bytes([photometric, 0]))


def one_row(*values: float, dtype: type = np.float32) -> np.ndarray:
    return np.array([values], dtype=dtype)


@pytest.mark.parametrize(
    ("peaks", "white"),
    [
        ([0.2, 1.0], 1),
        ([0.2, 1.0001], 1),
        ([1.1], 1),
        ([1.2], 255),
        ([0.3, 255.0], 255),
        ([270.0], 255),
        ([300.0], 65535),
        ([0.1, 7.0, 65535.0], 65535),
        ([0.0], 1),
        ([], None),
    ],
)
def test_white_is_the_least_that_fits_all(peaks, white):
    assert choose_white(peaks) == white


def test_the_peak_of_a_file_is_its_largest_value():
    assert read_peak(tiff(one_row(0.25, 0.75))) == 0.75
    assert read_peak(tiff(one_row(-0.01, 1.0001))) == pytest.approx(1.0001)
    # Whole numbers are never shares of 1.
    assert read_peak(tiff(one_row(0, 1, dtype=np.int32))) == 255
    assert read_peak(tiff(one_row(0, 900, dtype=np.int32))) == 900
    with pytest.raises(ImageError, match="a.tif holds values that are negative"):
        read_peak(tiff(one_row(-1, 3)), name="a.tif")


def test_a_given_white_scales_whatever_the_largest_value_is():
    for values in (one_row(0, 0.5), one_row(0, 0.5, 1.05)):
        pixels = decode_image(tiff(values), channels=1, white=1)
        assert pixels.ravel().tolist() == [0, 128, 255][: values.size]
    dark = decode_image(tiff(one_row(0.2, 0.8)), channels=1, white=255)
    assert dark.ravel().tolist() == [0, 1]
    whole = decode_image(tiff(one_row(0, 200, dtype=np.int32)), channels=1, white=65535)
    assert whole.ravel().tolist() == [0, 1]


def test_overshoot_of_resampling_is_cut_off():
    pixels = decode_image(tiff(one_row(-0.02, 0, 1, 1.08)), channels=1)
    assert pixels.ravel().tolist() == [0, 0, 255, 255]


def test_another_scale_than_white_is_refused_in_one_line():
    with pytest.raises(ImageError) as caught:
        decode_image(tiff(one_row(0, 213)), channels=1, white=1, name="new.tif")
    assert str(caught.value) == (
        "new.tif holds values up to 213, but white is 1 in the training images; "
        "convert it to their scale"
    )


def test_white_does_not_touch_files_that_say_it():
    eight = one_row(0, 100, 255, dtype=np.uint8)
    sixteen = one_row(0, 25700, 65535, dtype=np.uint16)
    for values in (eight, sixteen):
        pixels = decode_image(tiff(values), channels=1, white=1)
        assert pixels.ravel().tolist() == [0, 100, 255]


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
@pytest.mark.parametrize(
    ("values", "upright"),
    [
        (one_row(0, 25700, 65535, dtype=np.uint16), [0, 100, 255]),
        (one_row(0, 0.2, 1), [0, 51, 255]),
    ],
)
def test_white_is_zero_is_turned_over_in_deep_files_too(values, upright, compression):
    black_is_zero = tiff(values, compression=compression)
    assert decode_image(black_is_zero, channels=1).ravel().tolist() == upright
    white_is_zero = tiff(values, photometric=0, compression=compression)
    assert decode_image(white_is_zero, channels=1).ravel().tolist() == [
        255 - value for value in upright
    ]


@pytest.mark.parametrize(
    ("values", "white"),
    [
        (one_row(0, 9, dtype=np.uint8), 255),
        (one_row(0, 9, dtype=np.uint16), 65535),
        (one_row(0, 9, dtype=np.int32), None),
        (one_row(0, 1), None),
    ],
)
def test_the_header_says_what_white_is(values, white):
    assert read_header(tiff(values)).white == white


def test_twelve_bits_are_white_at_4095():
    packed = bytes([0x00, 0x0F, 0xFF, 0x80, 0x00, 0x00])  # 0, 4095, 2048, 0 in 12 bits each
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    directory[256], directory[257], directory[258] = 4, 1, 12
    directory[259], directory[262], directory[277] = 1, 1, 1
    directory[278], directory[279] = 1, len(packed)
    directory[273] = 0  # Pillow adds where the directory ends.
    content = b"II*\0\x08\0\0\0" + directory.tobytes(8) + packed
    assert read_header(content).white == 4095
    assert decode_image(content, channels=1).ravel().tolist() == [0, 255, 128, 0]
