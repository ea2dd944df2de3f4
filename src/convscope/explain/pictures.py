"""Pixels of an explanation: feature maps, filters, and heat laid over an image."""

import numpy as np

from convscope.types import FloatArray, UInt8Array

_SIDE = 320
"""Side of the large pictures in pixels."""
_TILE, _GAP = 88, 6
"""Side of a feature map in a strip, and gap between two of them, in pixels."""


def feature_map(values: FloatArray) -> UInt8Array:
    """Return a feature map as a picture of (tile, tile, 3)."""
    from matplotlib import colormaps

    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    coloured = (255 * np.asarray(colormaps["viridis"](scaled))[..., :3]).astype(np.uint8)
    return _resized(coloured, _TILE, _TILE)


def filter_of(kernel: FloatArray) -> UInt8Array:
    """Return a filter, shape (rows, columns, 1 or 3) in [0, 1], as a picture of (40, 40, 3)."""
    pixels = (255 * kernel).astype(np.uint8)
    return _resized(pixels if pixels.shape[-1] == 3 else pixels.repeat(3, axis=-1), 40, 40)


def overlaid(image: UInt8Array, heat: FloatArray, *, least: float = 0.0) -> UInt8Array:
    """Return the image with hot parts in colour, and the rest in grey.

    Args:
        image: Shape (height, width, 1 or 3).
        heat: Shape (rows, columns), laid over the whole image.
        least: Value that has the full colour even if none is as large.
    """
    from matplotlib import colormaps

    base = enlarged(image)
    height, width = base.shape[:2]
    top = max(least, float(heat.max()))
    scaled = heat / top if top > 0 else heat
    from PIL import Image

    wide = Image.fromarray(scaled.astype(np.float32)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    strength = np.clip(np.asarray(wide), 0, 1)
    colours = np.asarray(colormaps["inferno"](strength))[..., :3] * 255
    grey = base.mean(axis=-1, keepdims=True)
    share = 0.75 * strength[..., None]
    return np.asarray((1 - share) * (0.6 * grey + 0.4 * base) + share * colours, dtype=np.uint8)


def enlarged(image: UInt8Array) -> UInt8Array:
    """Return an image, grey or in colour, as a large picture in colour."""
    height, width = image.shape[:2]
    factor = _SIDE / max(height, width)
    rgb = image if image.shape[-1] == 3 else image.repeat(3, axis=-1)
    return _resized(rgb, round(factor * height), round(factor * width))


def _resized(pixels: UInt8Array, height: int, width: int) -> UInt8Array:
    from PIL import Image

    # The pixels of small images should be visible as such.
    small = max(pixels.shape[:2]) <= 128
    how = Image.Resampling.NEAREST if small else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(pixels).resize((width, height), how))


def strip(tiles: list[UInt8Array]) -> UInt8Array:
    """Return pictures of equal size in one row."""
    return grid(tiles, columns=len(tiles))


def grid(tiles: list[UInt8Array], columns: int = 16) -> UInt8Array:
    """Return pictures of equal size side by side on white."""
    side_y, side_x = tiles[0].shape[:2]
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    sheet = np.full(
        (rows * (side_y + _GAP) - _GAP, columns * (side_x + _GAP) - _GAP, 3), 255, np.uint8
    )
    for index, tile in enumerate(tiles):
        y, x = divmod(index, columns)
        top, left = y * (side_y + _GAP), x * (side_x + _GAP)
        sheet[top : top + side_y, left : left + side_x] = tile
    return sheet
