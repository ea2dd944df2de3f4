"""Images that packs in the cache hold already, so that a new pack need not decode them again.

An image is known by its origin: a hash of the file's content and of all settings that decide its
pixels. Each pack lists the origins of its images and the hashes of their pixels.
"""

import contextlib
import hashlib
import math
import struct
import threading
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from convscope.datasets.folders._pack_store import IMAGES, ORIGINS, read_manifest
from convscope.storage import npy_header
from convscope.types import UInt8Array, hashes_of

_ENTRY = struct.Struct("32s8s")
"""Origin of an image and hash of its pixels, in the order of the images."""

_Place = tuple[BinaryIO, int, str]
"""File of a pack, position of an image in it, and hash of the pixels."""


def list_origins(origins: Sequence[bytes], hashes: Sequence[str]) -> tuple[bytes, str]:
    """Return the list of a pack's origins, and its digest for the manifest.

    Args:
        origins: Origin of each image, 32 bytes.
        hashes: Hash of the pixels of each, as `hashes_of` returns it.
    """
    both = zip(origins, map(bytes.fromhex, hashes), strict=True)
    content = b"".join(_ENTRY.pack(*entry) for entry in both)
    return content, hashlib.sha256(content).hexdigest()


class OlderImages:
    """Images of known origin in existing packs, which are held open.

    Args:
        shape: Shape of an image.
        places: Place of each image, by its origin.
    """

    def __init__(self, shape: tuple[int, ...], places: dict[bytes, _Place]) -> None:
        self._shape = shape
        self._places = places
        self._lock = threading.Lock()

    def take(self, origin: bytes) -> tuple[UInt8Array, str] | None:
        """Return the pixels of an image and their hash, or None if no pack has it undamaged."""
        if origin not in self._places:
            return None
        file, position, expected = self._places[origin]
        # Read, not mapped: the pack may be removed meanwhile, and over a network a mapped page that
        # is gone kills the process.
        with contextlib.suppress(OSError, ValueError):
            with self._lock:
                file.seek(position)
                content = file.read(math.prod(self._shape))
            pixels = np.frombuffer(content, np.uint8).reshape(self._shape)
            if hashes_of([pixels]) == [expected]:
                return pixels, expected
        return None


@contextlib.contextmanager
def open_older_images(
    packed: Path, shape: tuple[int, ...], wanted: Collection[bytes]
) -> Iterator[OlderImages]:
    """Find images in the packs of the cache, and hold these packs open.

    Args:
        packed: Folder of packs.
        shape: Shape of an image.
        wanted: Origins of the images.
    """
    places: dict[bytes, _Place] = {}
    with contextlib.ExitStack() as opened:
        packs: list[Path] = []
        with contextlib.suppress(OSError):  # there is none yet
            packs += packed.iterdir()
        for pack in packs:
            with contextlib.suppress(OSError):  # removed meanwhile
                content = _read_origins(pack, shape)
                start = len(npy_header((len(content) // _ENTRY.size, *shape), np.uint8))
                rows = {
                    origin: (start + row * math.prod(shape), pixels.hex())
                    for row, (origin, pixels) in enumerate(_ENTRY.iter_unpack(content))
                    if origin in wanted and origin not in places
                }
                if rows:
                    file = opened.enter_context((pack / IMAGES).open("rb"))
                    places |= {origin: (file, *row) for origin, row in rows.items()}
        yield OlderImages(shape, places)


def _read_origins(pack: Path, shape: tuple[int, ...]) -> bytes:
    """Return the list of a pack's origins; empty if there is none, or it is damaged."""
    manifest = read_manifest(pack)
    # Packs of earlier versions have none.
    if "origins" not in manifest or manifest["shape"][1:] != list(shape):
        return b""
    content = (pack / ORIGINS).read_bytes()
    return content if hashlib.sha256(content).hexdigest() == manifest["origins"] else b""
