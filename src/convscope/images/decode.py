"""From image files to pixels: the one decoder of training, prediction and serving.

It needs numpy and Pillow only. Files are untrusted: only a fixed list of formats is tried, an image
that is too large is refused by its header, and a file that is cut short is refused, not patched.
"""

from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, TiffImagePlugin

from convscope.errors import ImageError, ShapeError
from convscope.images.formats import MAX_PIXELS, TURNS, opened, orientation_of
from convscope.types import UInt8Array

DECODER_VERSION = 1
"""Goes up whenever the same file would give other pixels."""

_BITS_PER_SAMPLE = 258


def decode_image(
    source: Path | bytes | BinaryIO,
    *,
    channels: int,
    size: tuple[int, int] | None = None,
    name: str = "",
    max_pixels: int = MAX_PIXELS,
) -> UInt8Array:
    """Return the pixels of an image, upright, on white, as 8-bit grey or RGB.

    The EXIF orientation is applied. Transparent pixels are composited on white. Of an animation the
    first frame is taken. Whole-number images of up to 16 bits are scaled so that the largest value
    that their depth can hold becomes 255. Images of 32-bit or floating-point values do not say what
    white is: it is taken to be 1 (floating-point only), 255 or 65535, the least of these that no
    value exceeds. Colour becomes grey by the luma of ITU-R 601.

    Args:
        source: A path, the bytes of a file, or an open binary file.
        channels: 1 for grey, 3 for RGB.
        size: (height, width) to which the whole image is squashed by Pillow's BILINEAR, which
            averages when it shrinks; None keeps the image's own size.
        name: What to call the image in messages; by default its path.
        max_pixels: Larger images are refused by their header, before anything is decoded.

    Returns:
        Shape (height, width, channels), uint8.

    Raises:
        ImageError: If this is not a whole image of a known format, or is too large.
        ShapeError: If `channels` is neither 1 nor 3.
    """
    if channels not in (1, 3):
        raise ShapeError(f"an image is decoded to 1 or 3 channels, not {channels}")
    with opened(source, name=name, max_pixels=max_pixels) as image:
        image.load()
        turn = TURNS.get(orientation_of(image))
        flat = _flatten(image, "L" if channels == 1 else "RGB")
        if turn is not None:
            flat = flat.transpose(turn)
        if size is not None and (flat.height, flat.width) != tuple(size):
            flat = flat.resize((size[1], size[0]), Image.Resampling.BILINEAR)
        pixels: UInt8Array = np.array(flat, dtype=np.uint8)
        return pixels.reshape(flat.height, flat.width, channels)


def _flatten(image: Image.Image, mode: str) -> Image.Image:
    """Return an image of any mode as `mode`, "L" or "RGB", composited on white."""
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_scale(image))
    elif image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, (255, 255, 255, 255)), rgba)
    return image if image.mode == mode else image.convert(mode)


def _scale(image: Image.Image) -> UInt8Array:
    """Return deep grey values scaled to 0..255; shape (height, width)."""
    values: npt.NDArray[np.float32] = np.asarray(image).astype(np.float32)
    least, most = values.min(), values.max()
    if not (np.isfinite(least) and np.isfinite(most)) or least < 0 or most > 65535:
        raise ImageError("holds values that are negative, above 65535 or not finite")
    if image.mode.startswith("I;16") and isinstance(image, TiffImagePlugin.TiffImageFile):
        # Cameras of 12 bits store them as such.
        white = 2 ** int(image.tag_v2.get(_BITS_PER_SAMPLE, (16,))[0]) - 1
    elif image.mode == "F" or isinstance(image, TiffImagePlugin.TiffImageFile):
        guesses = (1, 255, 65535) if image.mode == "F" else (255, 65535)
        white = next(guess for guess in guesses if most <= guess)
    else:
        white = 65535
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        values[values == transparent] = white
    scaled: UInt8Array = np.rint(values * (255 / white)).clip(0, 255).astype(np.uint8)
    return scaled
