"""A look at one file: whether it can be read, and what of it is compared with others."""

import contextlib
import hashlib
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from convscope.datasets.checks.fingerprints import Int8Array, fingerprint, is_blank
from convscope.datasets.folders.scan import read_bytes
from convscope.errors import ImageError, UnreadFormatError
from convscope.images.decode import decode_image, read_peak
from convscope.images.formats import ImageHeader, read_header
from convscope.types import UInt8Array

_LARGE_PIXELS = 2**25
"""Pictures of more pixels, each of which takes 300 MB and more, are decoded one at a time."""

_LARGE = threading.Lock()


@dataclass(frozen=True)
class Look:
    """Result of decoding one file; `fault` is "" and the rest is set if it can be read.

    For an image that does not define white, only the largest value is set at first.
    """

    name: str
    part: str
    class_name: str
    fault: str
    unread_format: bool = False
    header: ImageHeader | None = None
    key: str = ""
    print: tuple[UInt8Array, Int8Array] | None = None
    blank: bool = False
    peak: float | None = None


def look_at(root: Path, place: tuple[str, str, str]) -> Look:
    """Return the look at one file of a folder.

    Args:
        root: Folder.
        place: Part, class and name of the file.
    """
    part, class_name, name = place
    try:
        content = read_bytes(root, name)
        header = read_header(content, name=name)
        if header.white is None:
            peak = read_peak(content, name=name)
            return Look(name, part, class_name, "", header=header, peak=peak)
        with _alone_if_large(header):
            prints = _prints(decode_image(content, channels=3, name=name))
    except ImageError as error:
        unread = isinstance(error, UnreadFormatError)
        return Look(name, part, class_name, str(error), unread)
    return Look(name, part, class_name, "", header=header, **prints)


def look_again(root: Path, look: Look, white: int) -> Look:
    """Return the look at an image with its pixels, now that white is known."""
    if look.peak is None:
        return look
    try:
        content = read_bytes(root, look.name)
        pixels = decode_image(content, channels=3, white=white, name=look.name)
    except ImageError as error:  # It changed meanwhile.
        return Look(look.name, look.part, look.class_name, str(error))
    return replace(look, **_prints(pixels))


def _prints(pixels: UInt8Array) -> dict[str, Any]:
    """Return what of an image is compared with others, as fields of a look."""
    # No copy of the pixels: they may be hundreds of megabytes.
    digest = hashlib.sha256(f"{pixels.shape}".encode())
    digest.update(pixels.data)
    prints = fingerprint(pixels)
    return {"key": digest.hexdigest(), "print": prints, "blank": is_blank(pixels, prints)}


def _alone_if_large(header: ImageHeader) -> contextlib.AbstractContextManager[object]:
    return _LARGE if header.height * header.width > _LARGE_PIXELS else contextlib.nullcontext()
