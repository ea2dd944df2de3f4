"""Fingerprints for the search for near copies: thumbnails, brightness apart from colours."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from convscope.images.fit import without_bars
from convscope.types import UInt8Array

Int8Array = npt.NDArray[np.int8]

FINE_SIDE = 64
COARSE_SIDE = 32
COLOUR_SIDE = 8

_MIN_DETAIL = 2.0
"""Standard deviation over a thumbnail, in grey levels, below which there is nothing to be seen. Of
64 x 64 white pixels one that is black gives 4."""

_NOISE, _HOT_PIXELS = 24, 2e-5
"""Grey levels by which pixels of a covered lens differ, and the share of those that differ more."""

_AT_ONCE = 1024


@dataclass(frozen=True)
class Fingerprints:
    """Thumbnails by which images are compared; 1 or 4 KB each.

    Attributes:
        light: Shape (n_images, side, side), uint8, brightness; `side` is 64, or 32 if most images
            are smaller than 64 pixels.
        colours: Shape (n_images, 2, 8, 8), int8, half of the excess of red and blue over the
            brightness.
    """

    light: UInt8Array
    colours: Int8Array

    def __len__(self) -> int:
        return len(self.light)

    def take(self, places: npt.NDArray[np.intp]) -> "Fingerprints":
        """Return the fingerprints of some of the images."""
        return Fingerprints(self.light[places], self.colours[places])


def fingerprint(pixels: UInt8Array) -> tuple[UInt8Array, Int8Array]:
    """Return the thumbnails of one image, squashed to a square.

    Without the bars of a padded image, which are the most prominent thing in a thumbnail, and make
    images of one aspect ratio alike and copies of another aspect ratio different.

    Args:
        pixels: Shape (height, width, 1 or 3), uint8.

    Returns:
        Brightness, shape (64, 64) or, if a side has fewer than 64 pixels, (32, 32), uint8; and
        colours, shape (2, 8, 8), int8.
    """
    pixels = without_bars(pixels)
    side = FINE_SIDE if min(pixels.shape[:2]) >= FINE_SIDE else COARSE_SIDE
    grey = pixels.shape[2] == 1
    image = Image.fromarray(pixels[:, :, 0] if grey else pixels)
    light = np.array(_squash(image.convert("L"), side))
    if grey:
        return light, np.zeros((2, COLOUR_SIDE, COLOUR_SIDE), np.int8)
    small = np.array(_squash(image, COLOUR_SIDE), np.float32)  # (8, 8, 3)
    brightness = small @ np.array([0.299, 0.587, 0.114], np.float32)
    apart = np.stack([small[:, :, 0] - brightness, small[:, :, 2] - brightness]) / 2
    return light, apart.round().clip(-127, 127).astype(np.int8)


def is_blank(pixels: UInt8Array, prints: tuple[UInt8Array, Int8Array]) -> bool:
    """Return whether an image shows nothing but one colour, up to the noise of a camera.

    Args:
        pixels: Shape (height, width, 1 or 3), uint8.
        prints: Its thumbnails, from `fingerprint`.
    """
    if not are_blank(gather([prints]))[0]:
        return False
    # A thumbnail does not show a pinhole, nor the bars of a padded image.
    pixels = without_bars(pixels)
    colour = np.median(pixels[::8, ::8], axis=(0, 1)).astype(np.int16)
    n_other = sum(
        np.count_nonzero((np.abs(pixels[row : row + 256] - colour) > _NOISE).any(axis=2))
        for row in range(0, len(pixels), 256)
    )
    return bool(n_other <= _HOT_PIXELS * pixels.shape[0] * pixels.shape[1])


def are_blank(prints: Fingerprints) -> npt.NDArray[np.bool_]:
    """Return, shape (n_images,), of which images a thumbnail shows nothing but one colour."""
    blank = np.empty(len(prints), np.bool_)
    for start in range(0, len(prints), _AT_ONCE):
        block = slice(start, start + _AT_ONCE)
        # Over the area, in each channel; the colours are halved.
        light = prints.light[block].std(axis=(1, 2), dtype=np.float32)
        colours = 2 * prints.colours[block].std(axis=(2, 3), dtype=np.float32).max(axis=1)
        blank[block] = np.maximum(light, colours) < _MIN_DETAIL
    return blank


def gather(prints: Iterable[tuple[UInt8Array, Int8Array]]) -> Fingerprints:
    """Return the fingerprints of many images, from the results of `fingerprint`."""
    prints = list(prints)
    n_fine = sum(len(light) == FINE_SIDE for light, _ in prints)
    side = FINE_SIDE if 2 * n_fine >= len(prints) > 0 else COARSE_SIDE
    light = np.empty((len(prints), side, side), np.uint8)
    colours = np.empty((len(prints), 2, COLOUR_SIDE, COLOUR_SIDE), np.int8)
    for place, (picture, colour) in enumerate(prints):
        if len(picture) != side:
            picture = np.array(_squash(Image.fromarray(picture), side))
        light[place], colours[place] = picture, colour
    return Fingerprints(light, colours)


def _squash(image: Image.Image, side: int) -> Image.Image:
    if image.size == (side, side):
        return image
    return image.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=3.0)
