"""Fitting images of one aspect ratio to a size of another."""

from fractions import Fraction
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

from convscope.images.formats import MAX_PIXELS, too_large
from convscope.types import UInt8Array

Fit = Literal["squash", "crop", "pad"]
"""Method: "squash" ignores the aspect ratio; "crop" keeps it and takes the centre, which loses two
edges; "pad" keeps it and the whole image, between two bars of `PADDING`."""

FITS: tuple[str, ...] = get_args(Fit)

MAX_SIDE = 16_384
"""Longest side of a model's input, in pixels."""

PADDING = 127
"""Grey of the bars. Most scalings turn it into about zero, the value with which convolutions pad
their own borders, so that a network sees the image end rather than an object of some colour."""


def resize(
    image: Image.Image, size: tuple[int, int], fit: Fit, *, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Return an image at a size, by Pillow's BILINEAR, which averages when it shrinks.

    Args:
        image: Image of mode "L" or "RGB".
        size: (height, width) of the result.
        fit: Method if its aspect ratio is another.
        max_pixels: Largest number of pixels between its two passes.

    Raises:
        ImageTooLargeError: If the image is so narrow and high that there would be more.
    """
    height, width = size
    if (image.height, image.width) == (height, width):
        return image
    if fit == "squash":
        return _resized(image, (width, height), (0, 0, image.width, image.height), max_pixels)
    if fit == "crop":
        # The box may begin and end within a pixel: the aspect ratio is kept exactly.
        scale = min(image.height / height, image.width / width)
        # Halves of what is left out; rounding must not put them outside of the image.
        left = max(0.0, (image.width - scale * width) / 2)
        top = max(0.0, (image.height - scale * height) / 2)
        box = (left, top, image.width - left, image.height - top)
        return _resized(image, (width, height), box, max_pixels)
    inner = inner_size((image.height, image.width), size)[::-1]
    padded = Image.new(image.mode, (width, height), (PADDING,) * len(image.getbands()))
    whole = _resized(image, inner, (0, 0, image.width, image.height), max_pixels)
    padded.paste(whole, ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return padded


def inner_size(given: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """Return the size between the bars of a padded image, at least one pixel each way.

    In exact arithmetic, halves to even: every engine of an export has whole numbers, and not every
    one float64.

    Args:
        given: (height, width) of the image.
        size: (height, width) with the bars.

    Examples:
        >>> inner_size((392, 512), (224, 224))
        (172, 224)
    """
    (rows, columns), (height, width) = given, size
    return (
        min(height, max(1, round(Fraction(rows * width, columns)))),
        min(width, max(1, round(Fraction(columns * height, rows)))),
    )


def without_bars(image: UInt8Array) -> UInt8Array:
    """Return a padded image without its bars, not copied; others, and grey ones, as they are.

    Args:
        image: Shape (height, width, channels), 0..255.
    """
    for axis in (0, 1):
        lines = image.swapaxes(0, axis)
        before, after = _n_of_padding(lines), _n_of_padding(lines[::-1])
        if before < len(lines):
            image = lines[before : len(lines) - after].swapaxes(0, axis)
    return image


def _n_of_padding(lines: UInt8Array) -> int:
    """Return how many lines there are before the first that is not all of `PADDING`."""
    # Line by line: an image may be hundreds of megabytes, and most have no bar.
    shown = (place for place, line in enumerate(lines) if (line != PADDING).any())
    return next(shown, len(lines))


def _resized(
    image: Image.Image,
    size: tuple[int, int],
    box: tuple[float, float, float, float],
    max_pixels: int,
) -> Image.Image:
    """Return a box (left, top, right, bottom) of an image at a size (width, height).

    Columns first, each pass rounded to whole numbers: Pillow 13 would begin with the rows of an
    image that loses many more of them, earlier versions and our exports never do.
    """
    # A column of pixels is a small file at any height, but not as wide as the result.
    if size[0] * image.height > max(max_pixels, size[0] * size[1]):
        sizes = (f"{width:,} x {image.height:,}" for width in (image.width, size[0]))
        raise too_large("{} pixels, {} while it is resized".format(*sizes), max_pixels)
    how = Image.Resampling.BILINEAR
    left, top, right, bottom = box
    narrow = image.resize((size[0], image.height), how, box=(left, 0, right, image.height))
    return narrow.resize(size, how, box=(0, top, size[0], bottom))


def to_aspect(images: UInt8Array, size: tuple[int, int], fit: Fit) -> UInt8Array:
    """Return images cropped or padded to the aspect ratio of a size, at their own scale.

    For images that come as arrays: the model resizes them afterwards.

    Args:
        images: Shape (batch, height, width, channels), 0..255.
        size: (height, width) whose aspect ratio is wanted.
        fit: Method; "squash" returns the images as they are.

    Returns:
        Shape (batch, new height, new width, channels); the aspect ratio is met to within a pixel.
    """
    rows, columns = images.shape[1:3]
    if fit == "squash" or rows * size[1] == columns * size[0]:
        return images
    choose: Any = min if fit == "crop" else max
    scale = choose(rows / size[0], columns / size[1])
    for axis, wanted in ((1, max(1, round(scale * size[0]))), (2, max(1, round(scale * size[1])))):
        spare = images.shape[axis] - wanted
        if spare > 0:
            images = np.take(images, np.arange(spare // 2, spare // 2 + wanted), axis=axis)
        elif spare < 0:
            bars = [(0, 0)] * 4
            bars[axis] = (-spare // 2, -spare - (-spare // 2))
            images = np.pad(images, bars, constant_values=PADDING)
    return images
