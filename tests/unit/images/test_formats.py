"""AVIF of the web and HEIC of phones."""

import contextlib
import subprocess
import sys
import warnings

import numpy as np
import pytest
from PIL import Image

from convscope.errors import ImageError, UnreadFormatError
from convscope.images.containers import container_of
from convscope.images.decode import decode_image
from convscope.images.find import is_image
from convscope.images.formats import read_header

MODERN = pytest.mark.parametrize("file_format", ["AVIF", "HEIF"])


@MODERN
def test_the_pixels_come_back_close(photo, encode, file_format):
    pixels = decode_image(encode(photo, file_format, quality=95), channels=3)
    assert pixels.shape == photo.shape
    assert np.abs(pixels.astype(int) - photo).mean() < 3


@MODERN
def test_grey_alpha_and_header(photo, encode, file_format):
    grey = photo[:, :, 0]
    content = encode(grey, file_format, quality=95)
    assert np.abs(decode_image(content, channels=1)[:, :, 0].astype(int) - grey).mean() < 3
    clear = np.dstack([photo, np.zeros(photo.shape[:2], np.uint8)])
    content = encode(clear, file_format, quality=95)
    assert (decode_image(content, channels=3) == 255).all()
    header = read_header(content)
    assert (header.format, header.height, header.width) == (file_format, 48, 64)
    assert header.alpha
    assert not header.animated
    assert header.white == 255


@MODERN
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_picture_is_set_upright_once(encode, file_format, orientation):
    # One bright corner on a dark ground, wider than high.
    stored = np.zeros((64, 128, 3), dtype=np.uint8)
    stored[:32, :32] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encode(stored, file_format, quality=90, exif=exif.tobytes())
    pixels = decode_image(content, channels=1)[:, :, 0]
    corner = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1),
              7: (-1, -1), 8: (-1, 0)}[orientation]  # fmt: skip
    assert pixels.shape == ((64, 128) if orientation < 5 else (128, 64))
    bright = {(row, column) for row in (0, -1) for column in (0, -1) if pixels[row, column] > 200}
    assert bright == {corner}
    header = read_header(content)
    assert (header.height, header.width) == pixels.shape


def test_of_several_pictures_the_primary_one_is_taken(encode):
    colours = [(240, 0, 0), (0, 240, 0), (0, 0, 240)]
    first, *others = (Image.new("RGB", (64, 64), colour) for colour in colours)
    content = encode(
        np.asarray(first), "HEIF", quality=95, save_all=True, append_images=others, primary_index=1
    )
    np.testing.assert_allclose(decode_image(content, channels=3)[32, 32], colours[1], atol=6)
    assert read_header(content).animated
    content = encode(np.asarray(first), "AVIF", quality=95, save_all=True, append_images=others)
    np.testing.assert_allclose(decode_image(content, channels=3)[32, 32], colours[0], atol=6)
    assert read_header(content).animated


@MODERN
def test_what_is_cut_off_is_refused(encode, file_format):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    content = encode(noise, file_format, quality=90)
    for share in (0.02, 0.3, 0.6, 0.95):
        with pytest.raises(ImageError, match=r"^photo\.heic [^\n]+$"):
            decode_image(content[: int(len(content) * share)], channels=3, name="photo.heic")


@MODERN
def test_too_large_a_picture_is_refused_by_its_header(photo, encode, file_format):
    content = encode(photo, file_format)
    with pytest.raises(ImageError, match=r"pixels; at most 3,071 pixels"):
        decode_image(content, channels=3, max_pixels=48 * 64 - 1)
    # What the header claims: 65,000 x 65,000 pixels, in the property `ispe`.
    at = content.index(b"ispe") + 8
    huge = content[:at] + (65_000).to_bytes(4, "big") * 2 + content[at + 8 :]
    with pytest.raises(ImageError, match=r"is too large \(4,225,000,000 pixels; at most"):
        read_header(huge)


def test_the_brands_of_the_container_tell_what_is_in_it():
    def head(*brands: bytes) -> bytes:
        body = brands[0] + b"\0\0\0\0" + b"".join(brands[1:])
        return (len(body) + 8).to_bytes(4, "big") + b"ftyp" + body + b"\0\0\1\0meta"

    assert container_of(head(b"avif", b"mif1", b"miaf")) == "AVIF"
    assert container_of(head(b"mif1", b"avif", b"miaf")) == "AVIF"
    assert container_of(head(b"mif1", b"heic")) == "HEIF"
    assert container_of(head(b"heic", b"mif1", b"MiHB")) == "HEIF"
    assert container_of(head(b"mif1", b"miaf")) == "HEIF"
    assert container_of(head(b"isom", b"mp42")) is None
    assert container_of(b"\xff\x0a\0\0") == "JXL"
    assert container_of(b"\x89PNG\r\n\x1a\n") is None
    assert container_of(b"") is None


@pytest.mark.parametrize("suffix", ["avif", "heic", "HEIC", "heif", "hif"])
def test_their_suffixes_are_those_of_images(suffix):
    assert is_image(f"IMG_0001.{suffix}")


def test_a_heic_without_its_reader_names_the_command(photo, encode, monkeypatch, tmp_path):
    path = tmp_path / "IMG_1.jpg"
    path.write_bytes(encode(photo, "HEIF"))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # so that it cannot be imported
    with pytest.raises(UnreadFormatError) as caught:
        decode_image(path, channels=3)
    assert str(caught.value) == (
        f"{path} is a HEIC image, the format of phones; to read it: pip install 'convscope[heic]'"
    )


def test_an_avif_that_this_pillow_cannot_read_names_the_command(monkeypatch):
    # None: Pillow before 11.3, which has no such file.
    monkeypatch.setitem(sys.modules, "PIL.AvifImagePlugin", None)
    with pytest.raises(UnreadFormatError, match=r"pip install 'pillow>=11\.3'$"):
        read_header(b"\0\0\0\x14ftypavif\0\0\0\0avif", name="a.avif")


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\xff\x0a\xfa\x7f\x01", "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\xff\x4f\xff\x51\0\x29", "JPEG 2000"),
    ],
)
def test_a_format_that_is_not_read_says_what_to_do(head, kind):
    with pytest.raises(UnreadFormatError, match=rf"a\.bin is a {kind} image, .*convert it to PNG"):
        decode_image(head, channels=3, name="a.bin")


def test_nothing_is_imported_for_them_before_one_comes(photo, encode):
    code = """
import sys
import convscope.images.decode
print(sorted({"pillow_heif", "_pillow_heif", "PIL.AvifImagePlugin"} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@MODERN
def test_they_warn_of_nothing(photo, encode, capfd, file_format):
    exif = Image.Exif()
    exif[0x010F] = "A maker of cameras"
    content = encode(photo, file_format, exif=exif.tobytes())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for cut in range(0, len(content), len(content) // 40):
            damaged = content[:cut] + bytes([content[cut] ^ 0x55]) + content[cut + 1 :]
            with contextlib.suppress(ImageError):
                decode_image(damaged, channels=3)
    assert capfd.readouterr() == ("", "")
