"""From image files to pixels: the one decoder of training, prediction and serving.

It needs numpy and Pillow only. Files are untrusted: only a fixed list of formats is tried, an image
that is too large is refused by its header, and a file that is cut short is refused, not patched.
"""

import glob
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import BinaryIO, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, TiffImagePlugin

from convscope.errors import DataError, ImageError, ShapeError
from convscope.images.formats import MAX_PIXELS, TURNS, opened, orientation_of
from convscope.types import UInt8Array

DECODER_VERSION = 1
"""Goes up whenever the same file would give other pixels."""

_SUFFIXES = "bmp dib gif jfif jpe jpeg jpg pbm pgm png pnm ppm tif tiff webp"
IMAGE_SUFFIXES = frozenset(f".{suffix}" for suffix in _SUFFIXES.split())
"""Files with these suffixes, in small or capital letters, count as images."""

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


@dataclass
class Skipped:
    """What a walk through a folder passed over.

    Attributes:
        hidden: Files and folders whose name starts with a dot, and `__MACOSX`.
        others: Files whose suffix is not that of an image.
        loops: Links to folders that the walk had been in, or was in.
    """

    hidden: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    loops: list[Path] = field(default_factory=list)


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of this name is passed over."""
    return name.startswith(".") or name == "__MACOSX"


def is_image(name: str) -> bool:
    """Return whether a file of this name counts as an image, by its suffix."""
    return PurePath(name).suffix.lower() in IMAGE_SUFFIXES


def walk_images(
    folder: Path, *, skipped: Skipped | None = None, above: Iterable[Path] = ()
) -> list[Path]:
    """Return the image files in a folder and below, sorted by path.

    Links are followed, but no folder is entered twice, so a loop of links ends. Things that are
    neither files nor folders (pipes, devices) count as not images. A dangling link counts by its
    suffix, so that its image is missed rather than forgotten.

    Args:
        folder: Where to look.
        skipped: Is told what was passed over.
        above: Folders that links must not lead back into.

    Raises:
        DataError: If a folder cannot be listed.
    """
    skipped = skipped if skipped is not None else Skipped()
    found: list[Path] = []
    entered = {_identity(place) for place in above}
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        identity = _identity(place)
        if identity in entered:
            skipped.loops.append(place)
            continue
        entered.add(identity)
        for path in list_folder(place):
            kind = kind_of(path)
            if is_hidden(path.name):
                skipped.hidden.append(path)
            elif kind == "folder":
                waiting.append(path)
            elif kind != "other" and is_image(path.name):
                found.append(path)
            else:
                skipped.others.append(path)
    return sorted(found, key=lambda path: path.parts)


def list_folder(place: Path) -> list[Path]:
    """Return what is in a folder, sorted by name, hidden things too.

    Raises:
        DataError: If it cannot be listed.
    """
    try:
        return [place / name for name in sorted(os.listdir(place))]  # noqa: PTH208 - strings sort
    except OSError as error:
        raise DataError(f"the folder {place} cannot be listed ({error.strerror})") from error


def kind_of(path: Path) -> Literal["file", "folder", "other", "dangling"]:
    """Return what a path leads to; links are followed, and "dangling" is one that leads nowhere."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return "dangling"
    if stat.S_ISDIR(mode):
        return "folder"
    return "file" if stat.S_ISREG(mode) else "other"


def _identity(place: Path) -> tuple[int, int]:
    status = place.stat()
    return status.st_dev, status.st_ino


def find_images(sources: Iterable[Path | str]) -> list[Path]:
    """Return the image files that `sources` name, each once, in that order.

    A file that is named is taken whatever its suffix. Folders are searched to their depth, and what
    is in them, or matches a pattern, is sorted; there, hidden files are skipped.

    Args:
        sources: Files, folders, and patterns such as "photos/**/*.jpg".

    Raises:
        DataError: If a source does not exist, or none has an image.
    """
    # A dictionary keeps the first of each, in order.
    found: dict[Path, None] = {}
    sources = list(sources)
    for source in sources:
        for path in _find(Path(source).expanduser()):
            found.setdefault(path)
    if not found:
        named = ", ".join(str(source) for source in sources) or "nothing"
        raise DataError(f"no image in {named}; name image files, a folder or a quoted pattern")
    return list(found)


def _find(source: Path) -> Iterator[Path]:
    if source.is_dir():
        yield from walk_images(source)
    elif os.path.lexists(source):
        yield source
    elif glob.has_magic(str(source)):
        matches = (Path(match) for match in glob.iglob(str(source), recursive=True))  # noqa: PTH207
        yield from sorted(path for path in matches if path.is_file() and is_image(path.name))
    else:
        raise DataError(f"there is no file or folder {source}")
