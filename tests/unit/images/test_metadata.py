"""A whole picture is read, whatever its text, profile or camera data are like."""

import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from convscope.errors import ImageError
from convscope.images.decode import decode_image
from convscope.images.formats import read_header
from convscope.images.metadata import without_metadata

TURNED = Image.Exif()
TURNED[0x0112] = 6
TURNED[0x010F] = "A maker of cameras"
XMP_TURNED = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def text(size: int) -> bytes:
    """The body of a zTXt chunk that unpacks to so many letters."""
    return b"Comment\0\0" + zlib.compress(b"x" * size)


# After which chunk it stands (IHDR is first), and which chunks.
PNG_METADATA = {
    "text of more than a megabyte": ("IHDR", [(b"zTXt", text(1_200_000))]),
    "many texts of 70 megabytes together": ("IHDR", [(b"zTXt", text(1_000_000))] * 70),
    "XMP of more than a megabyte": (
        "IHDR",
        [(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b"x" * 1_200_000))],
    ),
    "text of more than a megabyte behind the pixels": ("IDAT", [(b"zTXt", text(1_200_000))]),
    "text of an unknown compression": ("IHDR", [(b"zTXt", b"Comment\0\7abc")]),
    "text of an unknown compression behind the pixels": ("IDAT", [(b"zTXt", b"Comment\0\7abc")]),
    "profile of more than a megabyte": ("IHDR", [(b"iCCP", text(1_200_000))]),
    "profile of an unknown compression": ("IHDR", [(b"iCCP", b"sRGB\0\7abc")]),
    "profile without a name": ("IHDR", [(b"iCCP", b"")]),
    "gamma cut short": ("IHDR", [(b"gAMA", b"\0")]),
    "primaries cut short": ("IHDR", [(b"cHRM", b"\0" * 9)]),
    "intent cut short": ("IHDR", [(b"sRGB", b"")]),
    "resolution cut short": ("IHDR", [(b"pHYs", b"\0" * 4)]),
    "camera data that are none": ("IHDR", [(b"eXIf", b"garbage")]),
    "animation cut short": ("IHDR", [(b"acTL", b"\0\0\0\1")]),
    "frames out of order": ("IHDR", [(b"acTL", b"\0\0\0\2" * 2), (b"fcTL", b"\0\0\0\7" * 7)]),
}


@pytest.mark.parametrize("case", PNG_METADATA)
def test_a_png_is_read_whatever_its_metadata(photo, encode, chunk, case):
    after, chunks = PNG_METADATA[case]
    content = encode(photo, "PNG")
    at = 33 if after == "IHDR" else len(content) - 12
    added = b"".join(chunk(kind, body) for kind, body in chunks)
    content = content[:at] + added + content[at:]
    np.testing.assert_array_equal(decode_image(content, channels=3), photo)
    header = read_header(content)
    assert (header.height, header.width, header.orientation) == (48, 64, 1)


def test_a_png_is_read_with_a_wrong_checksum_of_a_text_or_a_text_cut_off_at_the_end(
    photo, encode, chunk
):
    content = encode(photo, "PNG")
    broken = bytearray(chunk(b"tEXt", b"Comment\0hello"))
    broken[-1] ^= 1
    np.testing.assert_array_equal(
        decode_image(content[:33] + bytes(broken) + content[33:], channels=3), photo
    )
    cut = content[:-12] + chunk(b"tEXt", b"Comment\0" + b"x" * 500)[:100]
    np.testing.assert_array_equal(decode_image(cut, channels=3), photo)


@pytest.mark.parametrize("said_in", ["exif", "raw profile", "plain raw profile", "xmp"])
def test_a_turned_png_stays_turned_without_its_metadata(photo, encode, chunk, said_in):
    content = encode(photo, "PNG")
    raw = TURNED.tobytes()
    profile = f"\nexif\n{len(raw):8}\n{raw.hex()}".encode()
    bodies = {
        "exif": (b"eXIf", raw[6:]),
        "raw profile": (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(profile)),
        # Its checksum, taken for a part of the text, would be no digits.
        "plain raw profile": (b"tEXt", b"Raw profile type exif\0" + profile),
        "xmp": (
            b"iTXt",
            b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP_TURNED + b" " * 1_200_000),
        ),
    }
    added = chunk(*bodies[said_in]) + chunk(b"zTXt", text(1_200_000))
    content = content[:33] + added + content[33:]
    upright = np.rot90(photo, -1)
    np.testing.assert_array_equal(decode_image(content, channels=3), upright)
    header = read_header(content)
    assert (header.height, header.width, header.orientation) == (64, 48, 6)


def test_a_png_whose_pixels_are_broken_is_still_refused(photo, encode, chunk):
    content = encode(photo, "PNG")
    long_text = chunk(b"zTXt", text(1_200_000))
    cut = content[:33] + long_text + content[33 : len(content) // 2]
    with pytest.raises(ImageError, match="photo.png is (truncated|damaged)"):
        decode_image(cut, channels=3, name="photo.png")
    wrong = bytearray(content)
    wrong[20] ^= 1  # a bit of the width: the checksum of the header says so
    with pytest.raises(ImageError):
        decode_image(bytes(wrong[:33]) + long_text + bytes(wrong[33:]), channels=3)


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


# Resolution without a value: an entry of the directory that counts none.
EMPTY_RESOLUTION = (
    b"Exif\0\0II*\0\x08\0\0\0\2\0"
    + struct.pack("<HHII", 0x011A, 5, 0, 0)
    + struct.pack("<HHIHH", 0x0128, 3, 1, 2, 0)
    + b"\0" * 4
)
JPEG_METADATA = {
    "JFIF cut short": segment(0xE0, b"JFIF\0"),
    "Adobe cut short": segment(0xEE, b"Adobe"),
    "Photoshop data cut short": segment(0xED, b"Photoshop 3.0\0" + b"8BIM\4\4"),
    "profile cut short": segment(0xE2, b"ICC_PROFILE\0"),
    "profile of missing parts": segment(0xE2, b"ICC_PROFILE\0\1\5abc"),
    "camera data that are none": segment(0xE1, b"Exif\0\0garbage"),
    "camera data without a value": segment(0xE1, EMPTY_RESOLUTION),
    "camera data cut short": segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08\0\x05\0"),
    "XMP of a megabyte": segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"x" * 60_000) * 20,
    "comment of no text": segment(0xFE, bytes(range(256))),
    "list of further pictures that is none": segment(0xE2, b"MPF\0garbage"),
    "list of further pictures cut short": segment(0xE2, b"MPF\0II*\0\x08\0\0\0\1\0"),
}


@pytest.mark.parametrize("case", JPEG_METADATA)
def test_a_jpeg_is_read_whatever_its_metadata(photo, encode, case):
    plain = encode(photo, "JPEG", quality=95)
    content = plain[:2] + JPEG_METADATA[case] + plain[2:]
    pixels = decode_image(content, channels=3)
    np.testing.assert_array_equal(pixels, decode_image(plain, channels=3))
    assert read_header(content).orientation == 1


def test_a_turned_jpeg_stays_turned_without_its_metadata(photo, encode):
    plain = encode(photo, "JPEG", quality=95, exif=TURNED)
    content = plain[:2] + JPEG_METADATA["Photoshop data cut short"] + plain[2:]
    pixels = decode_image(content, channels=3)
    np.testing.assert_array_equal(pixels, decode_image(plain, channels=3))
    assert pixels.shape == (64, 48, 3)


def test_colours_of_a_jpeg_do_not_change_without_its_metadata(encode):
    """Adobe's segment says whether four channels are inverted."""
    stream = io.BytesIO()
    Image.new("CMYK", (16, 16), (200, 30, 60, 10)).save(stream, "JPEG", quality=95)
    plain = stream.getvalue()
    assert b"Adobe" in plain
    content = plain[:2] + JPEG_METADATA["Photoshop data cut short"] + plain[2:]
    np.testing.assert_array_equal(
        decode_image(content, channels=3), decode_image(plain, channels=3)
    )


def test_a_webp_is_read_whatever_its_metadata(photo, encode):
    plain = decode_image(encode(photo, "WEBP", lossless=True), channels=3)
    whole = encode(photo, "WEBP", lossless=True, exif=b"garbage", xmp=b"x" * 2_000_000)
    np.testing.assert_array_equal(decode_image(whole, channels=3), plain)
    assert read_header(whole).orientation == 1
    np.testing.assert_array_equal(decode_image(whole[:-1_000_000], channels=3), plain)
    turned = encode(photo, "WEBP", lossless=True, exif=TURNED.tobytes(), xmp=b"x" * 9_000)
    np.testing.assert_array_equal(decode_image(turned[:-5_000], channels=3), np.rot90(plain, -1))


def tiff_with(content: bytes, tag: int, kind: int, count: int, value: int) -> bytes:
    """A little-endian TIFF with one more entry, at the front of its directory."""
    (at,) = struct.unpack_from("<I", content, 4)
    (n_entries,) = struct.unpack_from("<H", content, at)
    entries = content[at + 2 : at + 2 + 12 * n_entries]
    directory = struct.pack("<H", n_entries + 1) + struct.pack("<HHII", tag, kind, count, value)
    end = len(content) + len(content) % 2
    return (
        content[:4]
        + struct.pack("<I", end)
        + content[8:].ljust(end - 8, b"\0")
        + directory
        + entries
        + b"\0" * 4
    )


TIFF_METADATA = {
    "description behind the end of the file": (270, 2, 500, 10_000_000),
    "name larger than the file": (269, 2, 10_000_000, 8),
    "profile behind the end of the file": (34675, 7, 300, 10_000_000),
    "XMP that is a number": (700, 4, 1, 7),
    "camera data behind the end of the file": (34665, 4, 1, 10_000_000),
    "camera data in the pixels": (34665, 4, 1, 8),
    "Photoshop data that are a number": (34377, 4, 1, 7),
    "resolution of nothing": (282, 5, 1, 10_000_000),
    "GDAL's metadata": (42112, 2, 4, 0),
}


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
@pytest.mark.parametrize("case", TIFF_METADATA)
def test_a_tiff_is_read_whatever_its_metadata(photo, encode, capfd, compression, case):
    content = tiff_with(encode(photo, "TIFF", compression=compression), *TIFF_METADATA[case])
    np.testing.assert_array_equal(decode_image(content, channels=3), photo)
    header = read_header(content)
    assert (header.height, header.width, header.orientation) == (48, 64, 1)
    assert capfd.readouterr() == ("", "")


def big_tiff(order: str, pixels: np.ndarray, tag: int, kind: int, count: int, value: int) -> bytes:
    """A BigTIFF of a picture, whose directory ends with one more entry, at the end of the file."""
    body = pixels.tobytes()
    entries = [
        *((256, 4, 1, 64), (257, 4, 1, 48), (258, 3, 3, 0), (259, 3, 1, 1), (262, 3, 1, 2)),
        *((273, 4, 1, 16), (277, 3, 1, 3), (278, 4, 1, 48), (279, 4, 1, len(body))),
    ]
    directory = struct.pack(f"{order}Q", len(entries) + 1)
    for name, form, n_values, number in entries:
        values = struct.pack(f"{order}4H", 8, 8, 8, 0)
        if name != 258:
            values = struct.pack(f"{order}{'H' if form == 3 else 'I'}", number).ljust(8, b"\0")
        directory += struct.pack(f"{order}HHQ", name, form, n_values) + values
    directory += struct.pack(f"{order}HHQQ", tag, kind, count, value)
    head = (b"II" if order == "<" else b"MM") + struct.pack(
        f"{order}HHHQ", 43, 8, 0, 16 + len(body)
    )
    return head + body + directory


@pytest.mark.parametrize("order", ["<", ">"])
def test_metadata_of_a_big_tiff_lose_their_type_and_nothing_else_changes(photo, order):
    content = big_tiff(order, photo, 270, 2, 500, 10_000_000)
    assert without_metadata(content) == content[:-18] + b"\0\0" + content[-16:]
    assert without_metadata(big_tiff(order, photo, 266, 3, 1, 0)) is None
    if order == ">":
        return  # Pillow reads BigTIFF in the other order only.
    for file in (content, content + b"\0" * 8):
        np.testing.assert_array_equal(decode_image(file, channels=3), photo)


def test_metadata_at_the_very_end_of_a_tiff_lose_their_type(photo, encode):
    content = tiff_with(encode(photo, "TIFF"), *TIFF_METADATA["GDAL's metadata"])
    (at,) = struct.unpack_from("<I", content, 4)
    end = at + 2 + 12 * 1
    one_entry = content[:at] + b"\1\0" + content[at + 2 : end]
    assert without_metadata(one_entry) == one_entry[:-10] + b"\0\0" + one_entry[-8:]


@pytest.mark.parametrize("file_format", ["AVIF", "HEIF"])
@pytest.mark.parametrize("bad", [b"garbage!", b"MM\0*\0\0\0\x08\xff\xff", b"\0" * 8])
def test_an_avif_or_heic_is_read_whatever_its_metadata(photo, encode, file_format, bad):
    plain = decode_image(encode(photo, file_format, quality=90), channels=3)
    exif = Image.Exif()
    exif[0x010F] = "A maker of cameras"
    content = encode(photo, file_format, quality=90, exif=exif.tobytes(), xmp=b"x" * 2_000_000)
    at = content.index(exif.tobytes()[6:])
    content = content[:at] + bad + content[at + len(bad) :]
    np.testing.assert_array_equal(decode_image(content, channels=3), plain)
    assert read_header(content).orientation == 1


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_a_copy_without_metadata_has_the_same_pixels(photo, encode, file_format):
    content = encode(photo, file_format, exif=TURNED.tobytes())
    copy = without_metadata(content)
    assert b"A maker" in content
    assert copy is not None
    np.testing.assert_array_equal(decode_image(copy, channels=3), decode_image(content, channels=3))
    for length in range(0, len(content), 7):
        without_metadata(content[:length])  # whatever is cut off, nothing is raised


def test_what_has_no_metadata_is_not_copied(photo, encode):
    assert without_metadata(encode(photo, "PNG")) is None
    assert without_metadata(encode(photo, "BMP")) is None
    assert without_metadata(b"This is no picture.") is None


def test_text_that_unpacks_to_gigabytes_takes_no_memory(tmp_path, photo, encode, chunk):
    """200 texts of 16 MB each, in a file of 3 MB, and an XMP of 1 GB."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(2**20)) for _ in range(1024)) + packer.flush()
    bombs = chunk(b"zTXt", text(2**24)) * 200
    bombs += chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + packed)
    content = encode(photo, "PNG")
    path = tmp_path / "bomb.png"
    path.write_bytes(content[:33] + bombs + content[33:])
    code = f"""
import resource
from pathlib import Path
from convscope.images.decode import decode_image
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
shape = decode_image(Path({str(path)!r}), channels=3).shape
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, shape)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    grown_kb, shape = done.stdout.strip().split(" ", 1)
    assert shape == "(48, 64, 3)"
    assert int(grown_kb) < 60_000
    assert done.stderr == ""
