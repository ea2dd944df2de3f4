import contextlib
import io
import resource
import struct
import subprocess
import sys
import threading
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from convscope.errors import ImageError, ShapeError
from convscope.images import decode
from convscope.images.decode import decode_image
from convscope.images.formats import read_header

PHOTO = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)


def encode(image: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


def png_claiming(width: int, height: int) -> bytes:
    """A small file whose header claims any size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


@pytest.mark.parametrize("channels", [1, 3])
def test_a_large_image_comes_in_strips_with_little_memory_besides(
    channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "_STRIP_PIXELS", 2**17, raising=False)
    pixels = np.random.default_rng(0).integers(0, 256, (1500, 1900, channels), dtype=np.uint8)
    content = encode(Image.fromarray(pixels.squeeze()), "BMP")
    tracemalloc.start()  # which knows NumPy's memory and not Pillow's
    found = decode_image(content, channels=channels)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(found, pixels)
    assert found.flags.writeable
    # One strip is a twentieth of the image, and Pillow makes two copies of it.
    assert peak < 1.3 * pixels.nbytes


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize("how", ["path", "bytes", "stream"])
def test_pixels_come_back_as_they_went_in(tmp_path: Path, file_format: str, how: str) -> None:
    content = encode(Image.fromarray(PHOTO), file_format)
    path = tmp_path / "photo.img"
    path.write_bytes(content)
    source = {"path": path, "bytes": content, "stream": io.BytesIO(content)}[how]
    pixels = decode_image(source, channels=3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, PHOTO)


@pytest.mark.parametrize("file_format", ["JPEG", "WEBP", "GIF"])
def test_lossy_formats_come_back_close(file_format: str) -> None:
    smooth = np.asarray(Image.fromarray(PHOTO).resize((80, 48)).resize((160, 96)))
    pixels = decode_image(encode(Image.fromarray(smooth), file_format), channels=3)
    assert pixels.shape == smooth.shape
    assert np.abs(pixels.astype(int) - smooth).mean() < 12


def test_size_is_height_by_width_and_bilinear() -> None:
    pixels = decode_image(encode(Image.fromarray(PHOTO)), channels=3, size=(10, 15))
    expected = Image.fromarray(PHOTO).resize((15, 10), Image.Resampling.BILINEAR)
    assert pixels.shape == (10, 15, 3)
    np.testing.assert_array_equal(pixels, np.asarray(expected))


def test_grey_and_colour_convert_into_each_other() -> None:
    grey = PHOTO[:, :, 0]
    as_rgb = decode_image(encode(Image.fromarray(grey)), channels=3)
    np.testing.assert_array_equal(as_rgb, np.repeat(grey[:, :, None], 3, axis=2))
    as_grey = decode_image(encode(Image.fromarray(PHOTO)), channels=1)
    assert as_grey.shape == (24, 40, 1)
    np.testing.assert_allclose(as_grey[:, :, 0], PHOTO @ [0.299, 0.587, 0.114], atol=0.51)


@pytest.mark.parametrize("channels", [0, 2, 4])
def test_other_channels_are_refused(channels: int) -> None:
    with pytest.raises(ShapeError, match="1 or 3 channels"):
        decode_image(encode(Image.fromarray(PHOTO)), channels=channels)


# Odd modes


def encode_deep(values: np.ndarray, file_format: str) -> bytes:
    """Encode 16-bit grey values; some versions of Pillow read them as PPM, but do not write it."""
    if file_format == "PPM":
        height, width = values.shape
        return f"P5\n{width} {height}\n65535\n".encode() + values.astype(">u2").tobytes()
    return encode(Image.fromarray(values), file_format)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled_not_clipped(file_format: str) -> None:
    deep = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)
    pixels = decode_image(encode_deep(deep, file_format), channels=1)
    np.testing.assert_array_equal(pixels[:, :, 0], np.rint(deep / 257))


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "PPM"])
def test_dark_sixteen_bit_images_stay_dark(file_format: str) -> None:
    deep = np.full((4, 4), 514, dtype=np.uint16)
    assert (decode_image(encode_deep(deep, file_format), channels=1) == 2).all()


@pytest.mark.parametrize(("white", "scale"), [(1.0, 255), (255.0, 1), (65535.0, 1 / 257)])
def test_floats_are_scaled_by_their_largest_value(white: float, scale: float) -> None:
    values = np.linspace(0, white, 16, dtype=np.float32).reshape(4, 4)
    pixels = decode_image(encode(Image.fromarray(values), "TIFF"), channels=1)
    np.testing.assert_allclose(pixels[:, :, 0], values * scale, atol=0.51)


@pytest.mark.parametrize("bad", [-1.0, 80000.0, np.nan, np.inf])
def test_floats_without_meaning_are_refused(bad: float) -> None:
    values = np.array([[0.5, bad]], dtype=np.float32)
    with pytest.raises(ImageError, match="negative, above 65535 or not finite"):
        decode_image(encode(Image.fromarray(values), "TIFF"), channels=1)


def test_one_bit_is_black_and_white() -> None:
    bits = np.random.default_rng(0).random((9, 13)) > 0.5
    pixels = decode_image(encode(Image.fromarray(bits)), channels=3)
    np.testing.assert_array_equal(pixels[:, :, 1], bits * 255)


def test_transparent_is_white_and_half_transparent_half_white() -> None:
    colours = np.zeros((1, 3, 4), dtype=np.uint8)
    colours[0, :, 3] = [0, 128, 255]
    pixels = decode_image(encode(Image.fromarray(colours)), channels=3)
    np.testing.assert_allclose(pixels[0, :, 0], [255, 127, 0], atol=1)


def test_grey_with_alpha() -> None:
    la = np.zeros((1, 2, 2), dtype=np.uint8)
    la[0, :, 1] = [0, 255]
    pixels = decode_image(encode(Image.fromarray(la)), channels=1)
    assert pixels[0, :, 0].tolist() == [255, 0]


def test_palette_with_transparency() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    pixels = decode_image(encode(image, transparency=0), channels=3)
    assert pixels[0].tolist() == [[255, 255, 255], [200, 100, 50]]
    plain = decode_image(encode(image), channels=3)
    assert plain[0].tolist() == [[10, 20, 30], [200, 100, 50]]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_images_are_put_on_white_in_strips(monkeypatch, mode, channels) -> None:
    monkeypatch.setattr(decode, "_STRIP_PIXELS", 7 * 40)
    alpha = np.random.default_rng(1).integers(0, 256, (24, 40, 1), dtype=np.uint8)
    image = Image.fromarray(np.concatenate([PHOTO, alpha], axis=2), "RGBA").convert(mode)
    options = {"transparency": bytes(range(256))} if mode == "P" else {}
    content = encode(image, **options)
    rgba = Image.open(io.BytesIO(content)).convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    whole = Image.alpha_composite(white, rgba).convert("L" if channels == 1 else "RGB")
    heights = []
    composite = Image.alpha_composite

    def seen(below: Image.Image, above: Image.Image) -> Image.Image:
        heights.append(above.height)
        return composite(below, above)

    monkeypatch.setattr(Image, "alpha_composite", seen)
    found = decode_image(content, channels=channels)
    assert np.array_equal(found, np.asarray(whole).reshape(found.shape))
    assert heights == [7, 7, 7, 3]


def test_transparent_colour_of_grey_rgb_and_deep_images() -> None:
    grey = Image.fromarray(np.array([[0, 90]], dtype=np.uint8))
    assert decode_image(encode(grey, transparency=0), channels=1).ravel().tolist() == [255, 90]
    rgb = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], dtype=np.uint8))
    pixels = decode_image(encode(rgb, transparency=(1, 2, 3)), channels=3)
    assert pixels[0].tolist() == [[255, 255, 255], [4, 5, 6]]
    deep = Image.fromarray(np.array([[257, 25700]], dtype=np.uint16))
    assert decode_image(encode(deep, transparency=257), channels=1).ravel().tolist() == [255, 100]


@pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
def test_cmyk_has_the_right_colours(file_format: str) -> None:
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    pixels = decode_image(encode(cyan, file_format), channels=3)
    np.testing.assert_allclose(pixels[8, 8], [0, 255, 255], atol=8)


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animations_give_their_first_frame(file_format: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("#f00000", "#00f000", "#0000f0")]
    options = {"lossless": True} if file_format == "WEBP" else {}
    content = encode(frames[0], file_format, save_all=True, append_images=frames[1:], **options)
    pixels = decode_image(content, channels=3)
    np.testing.assert_allclose(pixels[4, 4], [240, 0, 0], atol=2)
    assert read_header(content).animated


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(file_format: str, orientation: int) -> None:
    # One bright corner on a dark ground, wider than high.
    stored = np.zeros((16, 32, 3), dtype=np.uint8)
    stored[:8, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if file_format == "WEBP" else {}
    content = encode(Image.fromarray(stored), file_format, exif=exif, **options)
    pixels = decode_image(content, channels=1)[:, :, 0]
    # Which corner of the upright image is the first stored pixel: (row, column) of it.
    corner = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1),
              7: (-1, -1), 8: (-1, 0)}[orientation]  # fmt: skip
    assert pixels.shape == ((16, 32) if orientation < 5 else (32, 16))
    bright = {(row, column) for row in (0, -1) for column in (0, -1) if pixels[row, column] > 200}
    assert bright == {corner}
    header = read_header(content)
    assert (header.height, header.width) == pixels.shape
    assert header.orientation == orientation


def test_broken_exif_counts_as_upright() -> None:
    content = encode(Image.fromarray(PHOTO), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\0")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode_image(content, channels=3).shape == PHOTO.shape


# What is refused


def test_truncated_files_are_refused_everywhere_they_can_be_cut(tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    for file_format in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM"):
        content = encode(image, file_format)
        for share in (0.3, 0.6, 0.95):
            path = tmp_path / f"cut.{file_format.lower()}"
            path.write_bytes(content[: int(len(content) * share)])
            with pytest.raises(ImageError) as caught:
                decode_image(path, channels=3)
            assert str(path) in str(caught.value)
            assert "\n" not in str(caught.value)


def test_truncation_is_refused_even_if_somebody_allowed_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    content = encode(Image.fromarray(PHOTO), "JPEG")
    with pytest.raises(ImageError, match="truncated"):
        decode_image(content[: len(content) * 2 // 3], channels=3)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"This is no picture.\n", "is not a whole image of a known kind"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not a whole image of a known kind"),
        (
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
            "is not a whole image of a known kind",
        ),
        (b"\x89PNG\r\n\x1a\n", "photo.png"),
    ],
)
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=reason) as caught:
        decode_image(path, channels=3)
    assert str(caught.value).startswith(str(path))
    with pytest.raises(ImageError, match=reason):
        read_header(path)


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.png cannot be read \(No such file"):
        decode_image(tmp_path / "gone.png", channels=3)
    with pytest.raises(ImageError, match=r"cannot be read \(Is a directory"):
        decode_image(tmp_path, channels=3)


def test_messages_name_what_the_caller_names() -> None:
    with pytest.raises(ImageError, match=r"^upload 3 is empty"):
        decode_image(b"", channels=3, name="upload 3")
    with pytest.raises(ImageError, match="the image of 5 bytes is not a whole image"):
        decode_image(b"hello", channels=3)


@pytest.mark.parametrize("side", [50_000, 12_000])
def test_bombs_are_refused_by_their_header(side: int) -> None:
    # 12,000 is below the limit at which Pillow refuses by itself, and above ours.
    with pytest.raises(ImageError, match="is too large"):
        decode_image(png_claiming(side, side), channels=3)
    with pytest.raises(ImageError, match="is too large"):
        read_header(png_claiming(side, side))


def test_bombs_are_not_allocated(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_claiming(50_000, 50_000))
    code = f"""
import resource
from pathlib import Path
from convscope.images.decode import decode_image
from convscope.errors import ImageError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    decode_image(Path({str(path)!r}), channels=3)
except ImageError as error:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    grown_kb, message = done.stdout.split(" ", 1)
    assert int(grown_kb) < 20_000
    assert "2,500,000,000 pixels" in message
    assert done.stderr == ""


def test_max_pixels_can_be_lower() -> None:
    content = encode(Image.fromarray(PHOTO))
    assert decode_image(content, channels=3, max_pixels=24 * 40).shape == (24, 40, 3)
    with pytest.raises(ImageError, match=r"40 x 24 pixels; at most 959 pixels"):
        decode_image(content, channels=3, max_pixels=24 * 40 - 1)


def test_nothing_leaks_from_pillow(capfd: pytest.CaptureFixture[str]) -> None:
    """No warning, no log line, nothing on standard error, in threads too."""
    files = [
        png_claiming(12_000, 12_000),  # a DecompressionBombWarning in Pillow
        encode(Image.fromarray(PHOTO), "TIFF", compression="tiff_lzw")[:400],
        encode(Image.fromarray(PHOTO), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05\0"),
        encode(Image.fromarray(PHOTO).convert("P"), transparency=bytes(range(256))),
    ]
    before = list(warnings.filters)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")

        def work() -> None:
            for content in files * 20:
                with contextlib.suppress(ImageError):
                    decode_image(content, channels=3)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert caught == []
    assert list(warnings.filters) == before
    assert capfd.readouterr() == ("", "")


def test_headers_say_what_is_grey() -> None:
    palette = Image.new("P", (2, 2))
    palette.putpalette([0, 0, 0, 9, 9, 9])
    assert read_header(encode(palette)).grey
    palette.putpalette([0, 0, 0, 9, 9, 10])
    assert not read_header(encode(palette)).grey
    assert read_header(encode(Image.new("I;16", (2, 2)))).grey
    assert read_header(encode(Image.new("LA", (2, 2)))).grey
    assert not read_header(encode(Image.new("RGB", (2, 2)))).grey


def test_the_decoder_needs_no_framework() -> None:
    code = """
import sys
import convscope.images.decode
heavy = {"keras", "tensorflow", "scipy", "matplotlib", "sklearn", "pooch"}
print(sorted(heavy & sys.modules.keys()))
print([name for name in ("PIL.EpsImagePlugin", "PIL.PsdImagePlugin") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "[]"]


def test_decoding_keeps_memory_flat() -> None:
    content = encode(
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (500, 500, 3), dtype=np.uint8))
    )
    for _ in range(20):
        decode_image(content, channels=3)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(200):
        decode_image(content, channels=3)
    # One image is 750 KB; kept ones would add up to 150 MB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 15_000


def test_bytes_of_the_file_that_pillow_quotes_do_not_reach_the_terminal(monkeypatch, tmp_path):
    file = tmp_path / "odd.png"
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(file)

    def quote(*_):
        raise ValueError("Token too long: P4\x00\x1b[31m\n0")

    monkeypatch.setattr(Image.Image, "load", quote)
    with pytest.raises(ImageError) as caught:
        decode_image(file, channels=1)
    assert str(caught.value) == f"{file} is damaged (Token too long: P4??[31m 0)"
