"""Scans of a JPEG: each goes over all pixels, whatever few bytes it has."""

import re

from convscope.errors import ImageError

MAX_SCANS = 100
"""Files of cameras have one, progressive ones of web sites about ten."""

# Data of the picture have a zero, or one of these marks of its own, behind each byte of ones.
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])")
_START_OF_IMAGE, _END_OF_IMAGE, _START_OF_SCAN = 0xD8, 0xD9, 0xDA

_FIRST_WITH_LENGTH = 0xC0
"""A decoder discards the markers below, and nothing behind them."""


def require_few_scans(content: bytes) -> None:
    """Reject a JPEG that keeps the decoder busy: with 87 bytes a scan, minutes for each megabyte.

    Args:
        content: The whole file; pictures after the first do not count.

    Raises:
        ImageError: If it has more than `MAX_SCANS` scans.
    """
    n_scans, at = 0, 0
    while (found := _MARKER.search(content, at)) is not None:
        at = found.end()
        marker = found[1][0]
        if marker == _END_OF_IMAGE:
            return
        if marker == _START_OF_IMAGE or marker < _FIRST_WITH_LENGTH:
            continue
        n_scans += marker == _START_OF_SCAN
        if n_scans > MAX_SCANS:
            raise ImageError(
                f"is a JPEG of more than {MAX_SCANS} scans, which takes long to decode; save it "
                "again in an image editor"
            )
        # What it holds may look like markers, such as a small version of the picture.
        at += int.from_bytes(content[at : at + 2], "big")
