"""The IDX files of MNIST and of sets in its format, gzipped or not."""

import gzip
import hashlib
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from convscope.datasets.published.collection import LocalForm, Parts, reading
from convscope.errors import IntegrityError
from convscope.progress import Progress
from convscope.types import UInt8Array

# Official names of the files, by the array that each of them holds.
FILES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}
_UNSIGNED_BYTES = 0x08
# The largest official file has 47 MB; a gzip that unpacks to more than this is not one.
_LARGEST_BYTES = 200_000_000


def idx_form(*subfolders: str) -> LocalForm:
    """Return the form of four IDX files, packed or unpacked, here or in `subfolders`."""
    names = tuple(f"{name}{end}" for name in FILES.values() for end in (".gz", ""))
    return LocalForm(names, read_idx_folder, (".", *subfolders))


def read_idx_folder(folder: Path, progress: Progress) -> Parts:
    """Read the four official files.

    Raises:
        IntegrityError: If one is missing or damaged.
    """
    arrays: dict[str, UInt8Array] = {}
    with progress.task(f"Reading {folder.name}", len(FILES), "files") as step:
        for part, name in FILES.items():
            paths = [folder / f"{name}.gz", folder / name]
            found = [path for path in paths if path.is_file()]
            if not found:
                raise IntegrityError(f"{folder} lacks {name}.gz")
            arrays[part] = read_idx(found[0])
            if part.endswith("images"):
                arrays[part] = arrays[part][..., np.newaxis]  # (n, height, width, 1)
            step(1)
    return Parts(**arrays)


def read_idx(path: Path) -> UInt8Array:
    """Read one IDX file of unsigned bytes.

    The format: two zero bytes, the type, the number of axes, each axis as a big-endian 32-bit
    integer, then the values in C order.

    Returns:
        An array of the shape that the file states.

    Raises:
        IntegrityError: If it is damaged or not such a file.
    """
    with reading(path):
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            data = stream.read(_LARGEST_BYTES + 1)
        zeros, kind, n_axes = struct.unpack_from(">HBB", data)
        if zeros != 0 or kind != _UNSIGNED_BYTES or len(data) > _LARGEST_BYTES:
            raise IntegrityError(f"{path} is not an IDX file of bytes, as MNIST's are")
        shape = struct.unpack_from(f">{n_axes}I", data, 4)
        return np.frombuffer(data, np.uint8, offset=4 + 4 * n_axes).reshape(shape).copy()


def digest_idx(array: UInt8Array) -> str:
    """Return the SHA-256 of the unpacked IDX file that holds `array`, as hex digits.

    These digests can be compared with those that others publish about the files.

    Args:
        array: Images of shape (n, height, width, 1), or labels of shape (n,).
    """
    shape = array.shape[:3]
    digest = hashlib.sha256(struct.pack(">HBB", 0, _UNSIGNED_BYTES, len(shape)))
    digest.update(struct.pack(f">{len(shape)}I", *shape))
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def gz_md5(md5: Mapping[str, str]) -> dict[str, str]:
    """Return MD5s by file name, from MD5s by name of the array."""
    return {f"{FILES[part]}.gz": digest for part, digest in md5.items()}
