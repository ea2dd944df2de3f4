"""TIFF files that Pillow would read wrongly, and the kinds that it does not read."""

import contextlib
import threading
from collections.abc import Iterator
from typing import BinaryIO

from PIL import TiffImagePlugin

from convscope.errors import UnreadFormatError
from convscope.wording import counted

_BITS, _COMPRESSION, _PHOTOMETRIC = 258, 259, 262
_SAMPLES, _PLANES, _SAMPLE_FORMAT = 277, 284, 339
# Where the pixels lie and how many bytes they take: of strips, of tiles.
_PLACES = ((273, 279), (324, 325))

_PALETTE, _RGB, _LAB = 3, 2, 8
_COLOURS = {0: "inverted grey", 1: "grey", _RGB: "RGB", 5: "CMYK", 6: "YCbCr", _LAB: "LAB"}
_NUMBERS = {1: "whole numbers", 2: "signed whole numbers", 3: "floating-point numbers"}

_switching = threading.Lock()


def tags_of(stream: BinaryIO) -> TiffImagePlugin.ImageFileDirectory_v2:
    """Return the tags of the first image of a TIFF file.

    Raises:
        Exception: Whatever Pillow raises for damaged ones.
    """
    stream.seek(0)
    head = stream.read(8)
    if 43 in head[2:4]:  # BigTIFF, for files above 4 GB
        head += stream.read(8)
    tags = TiffImagePlugin.ImageFileDirectory_v2(head)
    stream.seek(tags.next)
    tags.load(stream)
    return tags


@contextlib.contextmanager
def read_rightly(stream: BinaryIO) -> Iterator[None]:
    """Have Pillow open a TIFF file so that it takes no pixels for others.

    Bands that lie one after the other, not compressed, it would take for 8 bits if they have 16,
    and would ignore that white is zero. libtiff, by which it reads compressed files, does neither.

    Args:
        stream: The file.

    Raises:
        UnreadFormatError: If it is of a kind that neither reads rightly.
    """
    try:
        tags = tags_of(stream)
        in_planes = tags.get(_PLANES) == 2
        wrong = _read_wrongly(tags)
    except Exception:  # Pillow says what is wrong with a damaged file.
        in_planes = wrong = False
    if wrong:
        raise UnreadFormatError(_not_read(tags))
    # All threads share the switch, and other files are read wrongly by libtiff.
    with _switching:
        usual = TiffImagePlugin.READ_LIBTIFF
        TiffImagePlugin.READ_LIBTIFF = usual or in_planes
        try:
            yield
        finally:
            TiffImagePlugin.READ_LIBTIFF = usual


def _read_wrongly(tags: TiffImagePlugin.ImageFileDirectory_v2) -> bool:
    """Return whether even libtiff gives Pillow the bands or bytes of a file in another order."""
    in_planes = tags.get(_PLANES) == 2
    if in_planes and tags.get(_SAMPLES, 1) > 1:
        return tags.get(_PHOTOMETRIC) in (0, 1, _PALETTE, _LAB)
    # It turns them to the order of the machine, after which Pillow turns them once more.
    turned = tags.prefix == b"MM" and (in_planes or tags.get(_COMPRESSION, 1) != 1)
    bits, numbers = tags.get(_BITS, (1,))[0], tags.get(_SAMPLE_FORMAT, (1,))[0]
    return turned and bits > 8 and (bits, numbers) != (16, 1)


def unread_kind(stream: BinaryIO) -> str:
    """Return what kind of TIFF a whole file is that Pillow did not identify, and what to do.

    Returns:
        The end of a message, which begins with a verb; "" if it is no TIFF, or a damaged one.
    """
    with contextlib.suppress(Exception):
        tags = tags_of(stream)
        end = stream.seek(0, 2)
        for offsets, counts in _PLACES:
            places = list(zip(tags.get(offsets, ()), tags.get(counts, ()), strict=True))
            if places and all(at + count <= end for at, count in places):
                return _not_read(tags)
    return ""


def _not_read(tags: TiffImagePlugin.ImageFileDirectory_v2) -> str:
    """Return the end of a message about a kind of TIFF that is not read."""
    bits = tags.get(_BITS, (1,))
    n_bands = max(tags.get(_SAMPLES, 1), len(bits))
    colours = _COLOURS.get(tags.get(_PHOTOMETRIC, 0), "")
    numbers = _NUMBERS.get(tags.get(_SAMPLE_FORMAT, (1,))[0], "numbers")
    if tags.prefix == b"MM" and bits[0] > 8:
        numbers = f"big-endian {numbers}"
    kind = counted(n_bands, f"{colours} band".strip()) + f" of {bits[0]}-bit {numbers}"
    if n_bands > 1 and tags.get(_PLANES) == 2:
        kind += " in separate planes"
    if tags.get(_COMPRESSION, 1) not in TiffImagePlugin.COMPRESSION_INFO:
        kind += f", compressed by method {tags[_COMPRESSION]}"
    remedy = "it as 8-bit grey or RGB"
    if n_bands > 3 and colours in ("grey", "RGB"):
        remedy = "three of its bands as 8-bit RGB"
    return f"is a TIFF of {kind}, a kind that is not read; save {remedy}"
