"""Careful use of Pillow: known formats, a limit by the header, no warnings, plain errors."""

import contextlib
import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

import numpy as np

# Naming the plugins registers only these formats; otherwise Pillow would import all of its own.
from PIL import (
    BmpImagePlugin,  # noqa: F401
    GifImagePlugin,  # noqa: F401
    Image,
    JpegImagePlugin,  # noqa: F401
    PngImagePlugin,  # noqa: F401
    PpmImagePlugin,  # noqa: F401
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from convscope.errors import ImageError, ImageTooLargeError, UnreadFormatError
from convscope.images.containers import HEAD_BYTES, container_of, largest_area, prepare
from convscope.images.deep import is_deep, stated_white
from convscope.images.metadata import orientation_of, without_metadata
from convscope.images.quiet import QUIET, quieten_libtiff
from convscope.images.room import Room
from convscope.images.scans import require_few_scans
from convscope.images.tiff import read_rightly, unread_kind

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF", "HEIF")
"""Accepted formats, by Pillow's names; the suffix of a file is not trusted."""

_PLAIN = FORMATS[:-2]
"""Formats that every Pillow reads; the others are tried if the content says so."""

MAX_PIXELS = 2**27
"""Largest number of pixels: 134 million, 400 MB as RGB; phones reach 108 million."""

_ROOM = Room(MAX_PIXELS)
"""Of all images that are open with their pixels."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Operation that undoes each EXIF orientation but 1, which is upright."""

_MAX_COPIED = 2**28
"""Largest number of bytes that are copied to read a file without its metadata."""

_IMAGE_WIDTH, _IMAGE_LENGTH = 256, 257
_EXIF_KEYS = {"exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"}


@contextlib.contextmanager
def opened(
    source: Path | bytes | BinaryIO, *, name: str, max_pixels: int, pixels: bool = True
) -> Iterator[Image.Image]:
    """Yield an image whose header has been read, and on request its pixels.

    Waits while other threads have many pixels open, so the body must not open another image.

    A file that Pillow rejects is read again without its metadata, so that broken or long text,
    profiles and camera data do not cost the picture. Any exception, here or in the body, becomes an
    ImageError that names the file.

    Args:
        source: Path, bytes of a file, or open binary file.
        name: Name in messages; "" for its path.
        max_pixels: Largest number of pixels; larger images are refused.
        pixels: Whether to decode the pixels.

    Raises:
        ImageError: If the image cannot be read.
    """
    label = name or _label(source)
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(QUIET)
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
            room = stack.enter_context(contextlib.ExitStack())
            try:
                image = _open(stream, max_pixels, room if pixels else None)
            except (ImageError, MemoryError, Image.DecompressionBombError):
                raise
            except Exception as error:
                room.close()
                bare = _open_bare(stream, max_pixels, room if pixels else None)
                if bare is None:
                    if isinstance(error, UnidentifiedImageError) and (kind := unread_kind(stream)):
                        raise UnreadFormatError(kind) from None
                    raise
                image = bare
            yield stack.enter_context(image)
    except Exception as error:
        refuse(label, error, max_pixels)


def _open(stream: BinaryIO, max_pixels: int, room: contextlib.ExitStack | None) -> Image.Image:
    """Return an image of a known format; pixels are decoded after a check of its header.

    Args:
        stream: File.
        max_pixels: Largest number of pixels.
        room: What is to hold the room of the pixels; None if they are not decoded.
    """
    stream.seek(0)
    head = stream.read(HEAD_BYTES)
    stream.seek(0)
    container = container_of(head)
    area = 0
    if container is not None:
        prepare(container)
        if (area := largest_area(stream.read())) > max_pixels:
            raise too_large(f"{area:,} pixels", max_pixels)
        stream.seek(0)
    is_tiff = container is None and head[:2] in (b"II", b"MM")
    if is_tiff:
        quieten_libtiff()
    with read_rightly(stream) if is_tiff else contextlib.nullcontext():
        image = Image.open(stream, formats=_PLAIN if container is None else (container,))
    _check_size(image, max_pixels)
    if room is not None:
        if image.format in ("JPEG", "MPO"):
            _require_few_scans(stream)
        room.enter_context(_ROOM.taken(max(area, image.width * image.height)))
        image.load()
        # Some decoders learn the true size from the pixels only.
        _check_size(image, max_pixels)
    return image


def _require_few_scans(stream: BinaryIO) -> None:
    place = stream.tell()
    stream.seek(0)
    require_few_scans(stream.read())
    stream.seek(place)


def _open_bare(
    stream: BinaryIO, max_pixels: int, room: contextlib.ExitStack | None
) -> Image.Image | None:
    """Return the image without its metadata; None if even that cannot be read."""
    # The fault of the file itself is more informative than that of a copy.
    with contextlib.suppress(Exception):
        stream.seek(0)
        content = stream.read(_MAX_COPIED + 1)
        copy = without_metadata(content) if len(content) <= _MAX_COPIED else None
        if copy is not None:
            return _open(io.BytesIO(copy), max_pixels, room)
    return None


def _check_size(image: Image.Image, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise too_large(f"{image.width:,} x {image.height:,} pixels", max_pixels)


def too_large(stated: str, max_pixels: int) -> ImageTooLargeError:
    """Return the error of an image of too many pixels, whose message begins with a verb."""
    return ImageTooLargeError(
        f"is too large ({stated}; at most {max_pixels:,} pixels are decoded); make it smaller"
    )


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """Contents of an image's header; its pixels may still turn out to be broken.

    Attributes:
        format: Pillow's name of the format ("PNG").
        mode: Pillow's name of the mode ("RGB", "P", "CMYK", "I;16").
        height: Height in pixels after the EXIF orientation is applied.
        width: Width in pixels after the EXIF orientation is applied.
        grey: Whether it has no colour.
        alpha: Whether pixels may be transparent.
        animated: Whether it has more than one frame or page.
        orientation: EXIF orientation, 1 (upright) to 8.
        white: Value of a white pixel; None if the file does not define it (floating-point, 32-bit).
    """

    format: str
    mode: str
    height: int
    width: int
    grey: bool
    alpha: bool
    animated: bool
    orientation: int
    white: int | None


def read_header(source: Path | bytes | BinaryIO, *, name: str = "") -> ImageHeader:
    """Return the contents of an image's header, without decoding its pixels.

    Args:
        source: Path, bytes of a file, or open binary file.
        name: Name of the image in messages; by default its path.

    Raises:
        ImageError: If this is not an image of a known format, or has more than `MAX_PIXELS`.
    """
    with opened(source, name=name, max_pixels=MAX_PIXELS, pixels=False) as image:
        # Before reading the EXIF data, which may change them.
        height, width = image.height, image.width
        grey, alpha = _is_grey(image), image.has_transparency_data
        orientation = 1
        # For a PNG without EXIF in its header, asking for it would decode the pixels.
        if image.format != "PNG" or _EXIF_KEYS & image.info.keys():
            orientation = orientation_of(image)
        # Some versions of Pillow rotate the size of a TIFF by themselves; its tags do not.
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
            animated=_is_animated(image),
            orientation=orientation,
            white=stated_white(image),
        )


def _is_animated(image: Image.Image) -> bool:
    if image.format == "MPO":
        # Further pictures in a camera's file are views, not an animation.
        return False
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # there is a further frame, but it is broken
        return True


def _is_grey(image: Image.Image) -> bool:
    if image.mode in ("P", "PA"):
        colours = np.array(image.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
        return bool((colours == colours[:, :1]).all())
    return image.mode in ("1", "L", "LA", "La") or is_deep(image)


def may_pass(error: ImageError) -> bool:
    """Return whether the system failed and not the file, which may then be read another time.

    Pillow's own refusals are OSErrors too, but without a number.
    """
    cause = error.__cause__
    return isinstance(cause, MemoryError) or (
        isinstance(cause, OSError) and cause.errno is not None
    )


def _label(source: Path | bytes | BinaryIO) -> str:
    if isinstance(source, Path):
        return str(source)
    if isinstance(source, bytes):
        return f"the image of {len(source):,} bytes"
    return str(getattr(source, "name", "") or "the image")


def refuse(label: str, error: Exception, max_pixels: int) -> NoReturn:
    """Raise a one-line ImageError for any exception of Pillow or the system.

    Args:
        label: Name of the image, with which the message begins.
        error: Exception.
        max_pixels: Largest number of pixels that was allowed.
    """
    # Pillow may quote bytes of the file.
    text = "".join(each if each.isprintable() else "?" for each in " ".join(str(error).split()))
    if isinstance(error, UnreadFormatError | ImageTooLargeError):
        raise type(error)(f"{label} {text}") from None
    if isinstance(error, ImageError):
        reason = text
    elif isinstance(error, UnidentifiedImageError):
        reason = f"is not a whole image of a known kind ({', '.join(FORMATS)})"
    elif isinstance(error, Image.DecompressionBombError):
        stated = re.search(r"\d+", text)
        size = f"{int(stated[0]):,} pixels" if stated else "by its header"
        raise ImageTooLargeError(f"{label} {too_large(size, max_pixels)}") from None
    elif isinstance(error, MemoryError):
        reason = "needs more memory than there is"
    elif isinstance(error, OSError) and error.errno is not None:
        reason = f"cannot be read ({os.strerror(error.errno)})"
    elif "truncated" in text.lower():
        reason = "is truncated: the file ends before the image does"
    else:
        reason = f"is damaged ({text[:120] or type(error).__name__})"
    raise ImageError(f"{label} {reason}") from error
