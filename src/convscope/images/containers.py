"""Formats of modern cameras and phones: how to tell them by content, and what reads each.

AVIF and HEIF files share one container, so Pillow's plugins take one for the other; here its brands
decide. The plugins are imported when the first such file comes, so that nobody else waits for them.
"""

import importlib
import struct
from collections.abc import Iterator
from typing import Literal

from convscope.errors import UnreadFormatError
from convscope.machine import installed_versions

Container = Literal["AVIF", "HEIF", "JXL", "JP2"]

HEAD_BYTES = 256
"""How much of the beginning of a file `container_of` looks at, in bytes."""

_AVIF = {b"avif", b"avis"}
_HEIF = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
# The container with whatever is in it.
_ANY = {b"mif1", b"msf1"}
# More in one place are no picture; libheif has such a limit too.
_MAX_BOXES = 20_000
_JXL = (b"\xff\x0a", b"\x00\x00\x00\x0cJXL \r\n\x87\n")
_JP2 = (b"\xff\x4f\xff\x51", b"\x00\x00\x00\x0cjP  \r\n\x87\n")


def container_of(head: bytes) -> Container | None:
    """Return which of these formats a file has, None if it has another.

    Args:
        head: The first `HEAD_BYTES` of the file, or all of it.

    References:
        ISO/IEC 14496-12 (the box `ftyp`), ISO/IEC 23008-12 (HEIF), ISO/IEC 18181-2 (JPEG XL),
        ISO/IEC 15444-1 (JPEG 2000).
    """
    if head.startswith(_JXL):
        return "JXL"
    if head.startswith(_JP2):
        return "JP2"
    if head[4:8] != b"ftyp":
        return None
    end = int.from_bytes(head[:4], "big")
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, min(end, len(head)), 4))]
    for brand in brands:
        if brand in _AVIF:
            return "AVIF"
        if brand in _HEIF:
            return "HEIF"
    return "HEIF" if _ANY & set(brands) else None


def prepare(container: Container) -> None:
    """Import what lets Pillow read a format.

    Raises:
        UnreadFormatError: If nothing here can; the message says what to install or to do.
    """
    if container == "JXL":
        # Of the plugins for Pillow, none gives the size before it has decoded everything.
        raise UnreadFormatError(
            "is a JPEG XL image, a format that is not read; convert it to PNG or JPEG"
        )
    if container == "JP2":
        raise UnreadFormatError(
            "is a JPEG 2000 image, a format that is not read; convert it to PNG or JPEG"
        )
    if container == "AVIF" and not _reads_avif():
        raise UnreadFormatError(
            "is an AVIF image, which this Pillow cannot read; pip install 'pillow>=11.3'"
        )
    if container == "HEIF":
        try:
            plugin = importlib.import_module("pillow_heif")
        except ImportError:
            raise UnreadFormatError(
                "is a HEIC image, the format of phones; to read it: pip install 'convscope[heic]'"
            ) from None
        plugin.register_heif_opener()


def reader_version(container: Container) -> str:
    """Return the version of what reads a format, beside Pillow's own; "" if there is none."""
    if container != "HEIF":
        return ""
    return installed_versions(["pillow_heif"]).get("pillow_heif", "")


def _reads_avif() -> bool:
    try:
        plugin = importlib.import_module("PIL.AvifImagePlugin")
    except ImportError:
        return False
    return bool(plugin.SUPPORTED)


def largest_area(content: bytes) -> int:
    """Return the most pixels that an AVIF or HEIF file states for any picture in it.

    A picture may be cut out of a larger one, which has to be decoded all the same.

    Args:
        content: The file.

    Returns:
        Width times height of the largest property `ispe`; 0 if there is none.
    """
    return max(_areas(content, 0, len(content), (b"meta", b"iprp", b"ipco")), default=0)


def _areas(content: bytes, start: int, end: int, way: tuple[bytes, ...]) -> Iterator[int]:
    """Yield the areas stated below the boxes that `way` names, from the outer to the inner."""
    for kind, first, last in boxes(content, start, end):
        if way and kind == way[0]:
            # Version and flags come first in this one.
            inside = first + 4 if kind == b"meta" else first
            yield from _areas(content, inside, last, way[1:])
        elif not way and kind == b"ispe" and last - first >= 12:
            width, height = struct.unpack_from(">II", content, first + 4)
            yield width * height


def boxes(content: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind of each box in a stretch of a file, and where its body begins and ends."""
    for _ in range(_MAX_BOXES):
        if at + 8 > end:
            return
        length, kind = struct.unpack_from(">I4s", content, at)
        head = 8
        if length == 1 and at + 16 <= end:
            (length,) = struct.unpack_from(">Q", content, at + 8)
            head = 16
        elif length == 0:
            length = end - at
        if length < head:
            return
        yield kind, at + head, min(at + length, end)
        at += length
