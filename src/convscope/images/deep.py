"""Images of more than 8 bits per channel: the value of white.

A file of whole numbers of up to 16 bits states its number of bits. Floating-point and 32-bit files
do not: the same picture may run to 1, to 255 or to 65535. For a single file that can only be
guessed; for a folder it is decided once, so that an image is not brighter than its neighbour
because of one pixel.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, TiffImagePlugin

from convscope.errors import ImageError
from convscope.types import UInt8Array

WHITES = (1, 255, 65535)
"""Possible values of white if the file does not state it; 1 for floating-point values only."""

TOLERANCE = 0.1
"""Share of white by which values may exceed it: resizing and sharpening overshoot at edges."""

_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262
_WHITE_IS_ZERO = 0


def is_deep(image: Image.Image) -> bool:
    """Return whether the pixels of an image have more than 8 bits; of colour Pillow keeps 8."""
    return image.mode == "F" or image.mode.startswith("I")


def stated_white(image: Image.Image) -> int | None:
    """Return the value of white that the file states; None if it states none.

    Args:
        image: Image of any mode whose pixels are not loaded yet; of a deep one they may be.
    """
    if not is_deep(image):
        return 65535 if _is_cut(image) else 255
    if image.mode == "F":
        return None
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        if not image.mode.startswith("I;16"):
            return None
        # 12-bit cameras store them as such.
        return int(2 ** int(image.tag_v2.get(_BITS_PER_SAMPLE, (16,))[0]) - 1)
    return 65535


def _is_cut(image: Image.Image) -> bool:
    """Return whether Pillow will cut the channels of an image to 8 bits."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return int(max(image.tag_v2.get(_BITS_PER_SAMPLE, (1,)))) > 8
    if not isinstance(image, ImageFile.ImageFile) or image.format not in ("PNG", "PPM"):
        return False
    # How the decoder is to unpack: a mode, or a mode and the largest value.
    how: Any = image.tile[0][3] if image.tile else ""
    return bool(how.endswith(";16B") if isinstance(how, str) else how[1] > 255)


def peak_of(image: Image.Image) -> float:
    """Return the largest value of an image that does not define white.

    Whole numbers are never fractions of 1, so for them it is at least 255.

    Raises:
        ImageError: If the values cannot be brightness: some are negative, not finite or above the
            largest white.
    """
    values = _values(image)
    most = _peak(values)
    return most if image.mode == "F" else max(most, 255.0)


def choose_white(peaks: Iterable[float]) -> int | None:
    """Return white for images that do not define it: the least of `WHITES` that no value exceeds.

    Args:
        peaks: Result of `peak_of` for each image.

    Returns:
        White, or None if there is no such image.

    Examples:
        >>> choose_white([0.7, 1.0001]), choose_white([0.7, 90]), choose_white([])
        (1, 255, None)
    """
    most = max(peaks, default=None)
    if most is None:
        return None
    return next(white for white in WHITES if most <= white * (1 + TOLERANCE))


def scale(image: Image.Image, white: int | None = None) -> UInt8Array:
    """Return deep grey values scaled so that white becomes 255; shape (height, width).

    Args:
        image: Image in a mode that `is_deep`.
        white: White if the file does not state it; None guesses it from the largest value.

    Raises:
        ImageError: If the values cannot be brightness, or are on another scale than `white`.
    """
    values = _values(image)
    most = _peak(values)
    stated = stated_white(image)
    if stated is not None:
        white = stated
    elif white is None:
        white = choose_white([peak_of(image)])
    elif most > white * (1 + TOLERANCE):
        raise ImageError(
            f"holds values up to {most:g}, but white is {white} in the training images; "
            "convert it to their scale"
        )
    assert white is not None
    whole = values * (255 / white)
    # In place: four bytes a pixel, and the image may be large.
    np.rint(whole, out=whole)
    scaled: UInt8Array = whole.clip(0, 255, out=whole).astype(np.uint8)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        # Pillow inverts values of 8 bits only.
        if image.tag_v2.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
            scaled = 255 - scaled
    elif isinstance(transparent := image.info.get("transparency"), int):
        scaled[values == transparent] = 255
    return scaled


def _values(image: Image.Image) -> npt.NDArray[np.float32]:
    return np.asarray(image).astype(np.float32)


def _peak(values: npt.NDArray[np.float32]) -> float:
    least, most = float(values.min()), float(values.max())
    if (
        not (np.isfinite(least) and np.isfinite(most))
        or least < -TOLERANCE * max(most, 0)
        or most > WHITES[-1] * (1 + TOLERANCE)
    ):
        raise ImageError("holds values that are negative, above 65535 or not finite")
    return most
