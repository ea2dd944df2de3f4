"""Pillow, opened with care: known formats, a limit by the header, no warnings, plain errors."""

import contextlib
import io
import logging
import os
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

import numpy as np

# Naming the plugins registers just these formats; else Pillow would import all that it has.
from PIL import (
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    ImageFile,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    PpmImagePlugin,  # noqa: F401
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from convscope.errors import ImageError

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
"""The formats that are tried, by Pillow's names; the suffix of a file is not trusted."""

MAX_PIXELS = 2**27
"""The most pixels of one image: 134 million, which is 400 MB as RGB; phones reach 108 million."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation but 1, which is upright."""

_IMAGE_WIDTH, _IMAGE_LENGTH, _ORIENTATION = 256, 257, 274
_EXIF_KEYS = {"exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"}

# Pillow logs some faults of a file; without a handler Python prints them on standard error.
logging.getLogger("PIL").addHandler(logging.NullHandler())


@contextlib.contextmanager
def opened(source: Path | bytes | BinaryIO, *, name: str, max_pixels: int) -> Iterator[Image.Image]:
    """Yield an image whose header has been read and whose pixels have not.

    Whatever goes wrong with it, in here or in the body, becomes an ImageError that names it.

    Args:
        source: A path, the bytes of a file, or an open binary file.
        name: What to call it in messages; "" for its path.
        max_pixels: Larger images are refused.

    Raises:
        ImageError: If the image cannot be read.
    """
    label = name or _label(source)
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(_quiet)
            stream: BinaryIO
            if isinstance(source, Path):
                stream = stack.enter_context(source.open("rb"))
            elif isinstance(source, bytes):
                stream = io.BytesIO(source)
            else:
                stream = source if source.seekable() else io.BytesIO(source.read())
            stream.seek(0)
            if not stream.read(1):
                raise ImageError("is empty (0 bytes)")
            image = stack.enter_context(Image.open(stream, formats=FORMATS))
            if image.width * image.height > max_pixels:
                raise ImageError(
                    f"is too large ({image.width:,} x {image.height:,} pixels; at most "
                    f"{max_pixels:,} pixels are decoded); make it smaller"
                )
            yield image
    except Exception as error:
        _refuse(label, error, max_pixels)


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What an image's header says; its pixels may still turn out to be broken.

    Attributes:
        format: Pillow's name ("PNG").
        mode: Pillow's name ("RGB", "P", "CMYK", "I;16").
        height: Rows after the EXIF orientation is applied, in pixels.
        width: Columns likewise.
        grey: Whether it holds no colour.
        alpha: Whether pixels may be transparent.
        animated: Whether it has more than one frame or page.
        orientation: EXIF orientation, 1 (upright) to 8.
    """

    format: str
    mode: str
    height: int
    width: int
    grey: bool
    alpha: bool
    animated: bool
    orientation: int


def read_header(
    source: Path | bytes | BinaryIO, *, name: str = "", max_pixels: int = MAX_PIXELS
) -> ImageHeader:
    """Return what an image's header says, without decoding its pixels.

    Args:
        source: A path, the bytes of a file, or an open binary file.
        name: What to call the image in messages; by default its path.
        max_pixels: Larger images are refused.

    Raises:
        ImageError: If this is not an image of a known format, or is too large.
    """
    with opened(source, name=name, max_pixels=max_pixels) as image:
        # Before the EXIF is asked for, which may change them.
        height, width = image.height, image.width
        grey, alpha = _is_grey(image), image.has_transparency_data
        orientation = 1
        # Asking a PNG without EXIF in its header for it would decode the pixels.
        if image.format != "PNG" or _EXIF_KEYS & image.info.keys():
            orientation = orientation_of(image)
        # Some versions of Pillow turn the size of a TIFF by themselves; its tags do not.
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            height, width = image.tag_v2[_IMAGE_LENGTH], image.tag_v2[_IMAGE_WIDTH]
        if orientation >= 5:
            height, width = width, height
        return ImageHeader(
            format=image.format or "",
            mode=image.mode,
            height=height,
            width=width,
            grey=grey,
            alpha=alpha,
            # The further pictures in a camera's MPO file are views, not an animation.
            animated=image.format != "MPO" and bool(getattr(image, "is_animated", False)),
            orientation=orientation,
        )


def _is_grey(image: Image.Image) -> bool:
    if image.mode in ("P", "PA"):
        colours = np.array(image.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
        return bool((colours == colours[:, :1]).all())
    return image.mode in ("1", "L", "LA", "La", "F") or image.mode.startswith("I")


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation; broken EXIF data counts as upright."""
    try:
        value = image.getexif().get(_ORIENTATION)
        return value if value in TURNS else 1
    except Exception:
        return 1


def _label(source: Path | bytes | BinaryIO) -> str:
    if isinstance(source, Path):
        return str(source)
    if isinstance(source, bytes):
        return f"the image of {len(source):,} bytes"
    return str(getattr(source, "name", "") or "the image")


def _refuse(label: str, error: Exception, max_pixels: int) -> NoReturn:
    """Raise an ImageError of one line for anything that Pillow or the system said."""
    text = " ".join(str(error).split())
    if isinstance(error, ImageError):
        reason = text
    elif isinstance(error, UnidentifiedImageError):
        reason = f"is not a whole image of a known kind ({', '.join(FORMATS)})"
    elif isinstance(error, Image.DecompressionBombError):
        stated = re.search(r"\d+", text)
        pixels = f"{int(stated[0]):,} pixels" if stated else "by its header"
        reason = f"is too large ({pixels}; at most {max_pixels:,} are decoded); make it smaller"
    elif isinstance(error, MemoryError):
        reason = "needs more memory than there is"
    elif isinstance(error, OSError) and error.errno is not None:
        reason = f"cannot be read ({os.strerror(error.errno)})"
    elif "truncated" in text.lower():
        reason = "is truncated: the file ends before the image does"
    else:
        reason = f"is damaged ({text[:120] or type(error).__name__})"
    raise ImageError(f"{label} {reason}") from error


class _Quiet:
    """Keep Pillow's warnings inside, and truncated files refused, while any thread decodes.

    `warnings.catch_warnings` works on the whole process, so threads that each entered and left it
    on their own would restore each other's filters. The first one in enters, the last one out
    leaves.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._filters = warnings.catch_warnings()
        self._lenient = False

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
                # Other libraries of the process may have switched this on.
                self._lenient = ImageFile.LOAD_TRUNCATED_IMAGES
                ImageFile.LOAD_TRUNCATED_IMAGES = False

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                ImageFile.LOAD_TRUNCATED_IMAGES = self._lenient
                self._filters.__exit__(*sys.exc_info())


_quiet = _Quiet()
