"""Copies of image files without what is no part of the picture.

Pillow gives a file up if it stumbles over its text, colour profile or camera data, or if they are
long. The picture needs none of them but the EXIF orientation. What is copied is never unpacked
(but for the orientation, up to a limit), so a copy is no larger than its file.
"""

import struct
import zlib
from collections.abc import Mapping

from PIL import Image

from convscope.images.containers import boxes

ORIENTATION = 274
"""Number of the EXIF tag that says how a picture is turned."""

_MAX_TEXT = 2**20


def without_metadata(content: bytes) -> bytes | None:
    """Return a copy of an image file without its metadata; a turned picture stays turned.

    Args:
        content: The file.

    Returns:
        The copy, or None if there is nothing to leave out or the format is none of PNG, JPEG, WebP,
        TIFF, AVIF and HEIF.
    """
    copy: bytes | None
    try:
        if content.startswith(b"\x89PNG\r\n\x1a\n"):
            copy = _bare_png(content)
        elif content.startswith(b"\xff\xd8\xff"):
            copy = _bare_jpeg(content)
        elif content.startswith(b"RIFF") and content[8:12] == b"WEBP":
            copy = _bare_webp(content)
        elif content[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            copy = _bare_tiff(content)
        elif content[4:8] == b"ftyp":
            copy = _bare_heif(content)
        else:
            return None
    except (struct.error, IndexError):  # It ends in the middle of its structure.
        return None
    return copy if copy != content else None


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; broken EXIF data counts as upright."""
    if image.format == "AVIF":
        # The container turns such a picture, and Pillow says so in the EXIF; XMP has no say.
        image.info.pop("xmp", None)
    try:
        value = image.getexif().get(ORIENTATION)
        return value if isinstance(value, int) and 1 <= value <= 8 else 1
    except Exception:
        return 1


def _exif_of(found: Mapping[str, bytes | str]) -> bytes:
    """Return EXIF data of nothing but the orientation; empty if the picture is upright.

    Args:
        found: Metadata under Pillow's names for them.
    """
    probe = Image.new("1", (1, 1))
    probe.info.update({key: value for key, value in found.items() if value})
    turned = orientation_of(probe)
    if turned == 1:
        return b""
    exif = Image.Exif()
    exif[ORIENTATION] = turned
    return exif.tobytes()


_PNG_KEPT = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
_PNG_TEXT = {b"tEXt", b"zTXt", b"iTXt"}


def _bare_png(content: bytes) -> bytes:
    """Return a PNG with the chunks that make its picture; of an animation the default image."""
    kept = [content[:8]]
    found: dict[str, bytes | str] = {}
    at = 8
    while at + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        end = at + 12 + length
        if not kind.isalpha():
            # No chunk begins here: for the decoder to judge.
            kept.append(content[at:])
            break
        if kind in _PNG_KEPT:
            kept.append(content[at:end])
        elif kind == b"eXIf":
            found["exif"] = b"Exif\0\0" + content[at + 8 : end - 4]
        elif kind in _PNG_TEXT:
            found |= _orientation_text(kind, content[at + 8 : end - 4])
        at = end
    if exif := _exif_of(found):
        body = b"eXIf" + exif.removeprefix(b"Exif\0\0")
        chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
        kept.insert(2, chunk)
    return b"".join(kept)


def _orientation_text(kind: bytes, body: bytes) -> dict[str, bytes | str]:
    """Return the text of a PNG that may say how it is turned, under Pillow's name for it."""
    key, _, text = body.partition(b"\0")
    if key == b"XML:com.adobe.xmp" and kind == b"iTXt":
        packed = text[:1] == b"\1"
        text = text[2:].split(b"\0", 2)[-1]
    elif key == b"Raw profile type exif":
        packed = kind == b"zTXt"
        text = text[1:] if packed else text
    else:
        return {}
    if packed:
        try:
            text = zlib.decompressobj().decompress(text, _MAX_TEXT)
        except zlib.error:
            return {}
    text = text[:_MAX_TEXT]
    if key == b"XML:com.adobe.xmp":
        return _xmp(text)
    return {"Raw profile type exif": text.decode("latin-1")}


def _xmp(text: bytes) -> dict[str, bytes | str]:
    # Versions of Pillow differ in where they look.
    return {"xmp": text, "XML:com.adobe.xmp": text.decode("latin-1")}


def _bare_jpeg(content: bytes) -> bytes | None:
    """Return a JPEG without comments and application segments that do not bear on its colours."""
    kept: list[bytes] = []
    exif = xmp = b""
    at = 2
    while at + 4 <= len(content):
        marker = content[at + 1]
        if content[at] != 0xFF or marker == 0xFF:
            at = content.find(b"\xff", at + 1)
            if at < 0:
                return None
            continue
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD9:
            at += 2
            continue
        if marker == 0xDA:
            head = _exif_of({"exif": exif, **_xmp(xmp)})
            if head:
                head = struct.pack(">HH", 0xFFE1, len(head) + 2) + head
            return b"".join([content[:2], head, *kept, content[at:]])
        (length,) = struct.unpack_from(">H", content, at + 2)
        if length < 2:
            return None
        segment = content[at : at + 2 + length]
        body = segment[4:]
        if body.startswith(b"Exif\0\0") and marker == 0xE1:
            exif = (exif + body[6:] if exif else body)[:_MAX_TEXT]
        elif body.startswith(b"http://ns.adobe.com/xap/1.0/\0") and marker == 0xE1:
            xmp = body.partition(b"\0")[2]
        elif not (0xE0 <= marker <= 0xEF or marker == 0xFE) or _bears_on_colour(marker, body):
            kept.append(segment)
        at += 2 + length
    return None


def _bears_on_colour(marker: int, body: bytes) -> bool:
    """Return whether libjpeg chooses the colour space by an application segment."""
    if marker == 0xE0:
        return body.startswith(b"JFIF\0") and len(body) >= 14
    return marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12


_WEBP_KEPT = {b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"}
_WEBP_EXIF, _WEBP_METADATA = 0x08, 0x20 | 0x08 | 0x04


def _bare_webp(content: bytes) -> bytes:
    """Return a WebP with the chunks that make its picture."""
    kept: list[bytes] = []
    exif = xmp = b""
    at = 12
    while at + 8 <= len(content):
        kind, length = struct.unpack_from("<4sI", content, at)
        end = at + 8 + length + length % 2
        if kind in _WEBP_KEPT:
            kept.append(content[at:end])
        elif kind == b"EXIF":
            exif = content[at + 8 : at + 8 + length]
        elif kind == b"XMP ":
            xmp = content[at + 8 : at + 8 + length]
        at = end
    if kept and kept[0].startswith(b"VP8X"):
        head = bytearray(kept[0])
        head[8] &= ~_WEBP_METADATA
        if new := _exif_of({"exif": exif, **_xmp(xmp)}):
            head[8] |= _WEBP_EXIF
            kept.append(b"EXIF" + struct.pack("<I", len(new)) + new + b"\0" * (len(new) % 2))
        kept[0] = bytes(head)
    body = b"WEBP" + b"".join(kept)
    return b"RIFF" + struct.pack("<I", len(body)) + body


# What decoding takes: sizes, depth, compression, colours, strips, tiles, and how it is turned.
_TIFF_KEPT = {
    *(254, 255, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320),
    *(322, 323, 324, 325, 332, 334, 338, 339, 340, 341, 347, *range(512, 522)),
    *(529, 530, 531, 532),
}


def _bare_tiff(content: bytes) -> bytes:
    """Return a TIFF whose first directory has metadata under a type that no reader knows."""
    order = "<" if content.startswith(b"II") else ">"
    if content[2:4] in (b"+\0", b"\0+"):
        (at,) = struct.unpack_from(f"{order}Q", content, 8)
        (count,) = struct.unpack_from(f"{order}Q", content, at)
        at, step = at + 8, 20
    else:
        (at,) = struct.unpack_from(f"{order}I", content, 4)
        (count,) = struct.unpack_from(f"{order}H", content, at)
        at, step = at + 2, 12
    copy = bytearray(content)
    for entry in range(at, min(at + count * step, len(content) - step + 1), step):
        (tag,) = struct.unpack_from(f"{order}H", content, entry)
        if tag not in _TIFF_KEPT:
            copy[entry + 2 : entry + 4] = b"\0\0"
    return bytes(copy)


def _bare_heif(content: bytes) -> bytes:
    """Return an AVIF or HEIF file whose EXIF and XMP bear a name that no reader knows.

    How the picture is turned does not depend on them: the container says it.
    """
    copy = bytearray(content)
    for kind, start, end in boxes(content, 0, len(content)):
        if kind != b"meta":
            continue
        for inner, first, last in boxes(content, start + 4, end):
            if inner != b"iinf":
                continue
            n_bytes = 2 if content[first] == 0 else 4
            for item, begin, _ in boxes(content, first + 4 + n_bytes, last):
                version = content[begin]
                at = begin + (8 if version == 2 else 10)
                if item == b"infe" and version >= 2 and content[at : at + 4] in (b"Exif", b"mime"):
                    copy[at : at + 4] = b"skip"
    return bytes(copy)
