"""From image files to pixels: the one decoder of training, prediction and serving.

It needs numpy and Pillow only. Files are untrusted: only a fixed list of formats is tried, an image
that is too large is refused by its header, and a file that is cut short is refused, not patched.
"""

from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from convscope.errors import ShapeError
from convscope.images.deep import is_deep, peak_of, scale
from convscope.images.fit import Fit, resize
from convscope.images.formats import MAX_PIXELS, TURNS, opened
from convscope.images.metadata import orientation_of
from convscope.types import UInt8Array

_STRIP_PIXELS = 2**20

DECODER_VERSION = 4
"""Increased whenever the same file would give other pixels."""


def decode_image(
    source: Path | bytes | BinaryIO,
    *,
    channels: int,
    size: tuple[int, int] | None = None,
    fit: Fit = "squash",
    white: int | None = None,
    name: str = "",
    max_pixels: int = MAX_PIXELS,
) -> UInt8Array:
    """Return the pixels of an image, upright, on white, as 8-bit grey or RGB.

    The EXIF orientation is applied. Transparent pixels are composited on white. The first frame of
    an animation is taken. Whole-number images of up to 16 bits are scaled so that the largest value
    of their depth becomes 255. Images of 32-bit or floating-point values do not define white: it is
    `white`. Colour becomes grey by the luma of ITU-R 601.

    Args:
        source: Path, bytes of a file, or open binary file.
        channels: Number of channels: 1 for grey, 3 for RGB.
        size: (height, width) to which it is resized by Pillow's BILINEAR, which averages when it
            shrinks; None keeps the image's own size.
        fit: Method of fitting it to `size` if its aspect ratio, once upright, is another.
        white: White of 32-bit and floating-point images; None guesses it from the largest value,
            see `deep.choose_white`.
        name: Name of the image in messages; by default its path.
        max_pixels: Largest number of pixels; larger images are refused by their header, before
            anything is decoded, and those of which more would be made while they are resized, then.

    Returns:
        Shape (height, width, channels), uint8.

    Raises:
        ImageError: If this is not a whole image of a known format, is too large, or is on another
            scale than `white`.
        ShapeError: If `channels` is neither 1 nor 3.
    """
    if channels not in (1, 3):
        raise ShapeError(f"an image is decoded to 1 or 3 channels, not {channels}")
    with opened(source, name=name, max_pixels=max_pixels) as image:
        return pixels_of(
            image, channels=channels, size=size, fit=fit, white=white, max_pixels=max_pixels
        )


def pixels_of(
    image: Image.Image,
    *,
    channels: int,
    size: tuple[int, int] | None = None,
    fit: Fit = "squash",
    white: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> UInt8Array:
    """Return the pixels of an open image of Pillow; see `decode_image`."""
    turn = TURNS.get(orientation_of(image))
    flat = _flatten(image, "L" if channels == 1 else "RGB", white)
    if turn is not None:
        flat = flat.transpose(turn)
    if size is not None:
        flat = resize(flat, size, fit, max_pixels=max_pixels)
    return _array(flat, channels)


def _array(image: Image.Image, channels: int) -> UInt8Array:
    """Return the pixels of an image of mode "L" or "RGB".

    In strips, since Pillow makes two copies of what it hands over: of a photo of 108 million pixels
    650 MB, besides its own.
    """
    shape = (image.height, image.width, channels)
    n_rows = max(1, _STRIP_PIXELS // max(1, image.width))
    if n_rows >= image.height:
        return np.array(image, dtype=np.uint8).reshape(shape)
    pixels = np.empty(shape, dtype=np.uint8)
    for top in range(0, image.height, n_rows):
        strip = pixels[top : top + n_rows]
        box = (0, top, image.width, top + len(strip))
        strip[:] = np.asarray(image.crop(box)).reshape(strip.shape)
    return pixels


def _flatten(image: Image.Image, mode: str, white: int | None) -> Image.Image:
    """Return an image of any mode as `mode`, "L" or "RGB", composited on white."""
    if is_deep(image):
        image = Image.fromarray(scale(image, white))
    elif image.has_transparency_data:
        return _composite(image, mode)
    return image if image.mode == mode else image.convert(mode)


def _composite(image: Image.Image, mode: str) -> Image.Image:
    """Return a transparent image on white, as `mode`.

    In strips: the whole image and the white behind it would be four more copies of its pixels.
    """
    flat = Image.new(mode, image.size)
    n_rows = max(1, _STRIP_PIXELS // max(1, image.width))
    for top in range(0, image.height, n_rows):
        bottom = min(image.height, top + n_rows)
        strip = image.crop((0, top, image.width, bottom)).convert("RGBA")
        white = Image.new("RGBA", strip.size, (255, 255, 255, 255))
        flat.paste(Image.alpha_composite(white, strip).convert(mode), (0, top))
    return flat


def read_peak(source: Path | bytes | BinaryIO, *, name: str = "") -> float:
    """Return the largest value of an image that does not define white; see `deep.peak_of`.

    Args:
        source: Path, bytes of a file, or open binary file.
        name: Name of the image in messages; by default its path.

    Raises:
        ImageError: If it cannot be decoded, or its values cannot be brightness.
    """
    with opened(source, name=name, max_pixels=MAX_PIXELS) as image:
        return peak_of(image)
