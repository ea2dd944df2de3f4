"""convscope's own copy of a dataset: four .npy files and a note of their origin."""

import contextlib
import json
from pathlib import Path

import numpy as np

from convscope.datasets.published.collection import ARRAY_NAMES, Collection, Parts, reading
from convscope.errors import IntegrityError
from convscope.storage import atomic_path, npy_header, write_text
from convscope.types import UInt8Array

# Written last, so that its presence marks the arrays as complete.
MANIFEST = "source.json"
_FORMAT = 1


def is_cache(folder: Path, collection: Collection) -> bool:
    """Return whether `folder` holds a finished copy of this dataset, damaged or not."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError, RecursionError):
        # A manifest that cannot be read is worth a message, unless it is a foreign file.
        return folder.name == collection.name
    return (
        isinstance(manifest, dict)
        and manifest.get("dataset") == collection.name
        and manifest.get("format") == _FORMAT
    )


def read_cache(folder: Path, collection: Collection) -> tuple[Parts, str, dict[str, str]]:
    """Return the arrays, their origin, and their digests.

    The arrays are mapped from disk, copy-on-write: several processes share one copy in memory,
    and writing into them changes no file.

    Raises:
        IntegrityError: If a file is missing, damaged or not what it should be.
    """
    with reading(folder / MANIFEST):
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        origin = str(manifest["source"])
        recorded = {name: str(manifest["sha256"][name]) for name in ARRAY_NAMES}
    arrays: dict[str, UInt8Array] = {}
    for name in ARRAY_NAMES:
        path = folder / f"{name}.npy"
        with reading(path):
            # np.asarray drops the memmap subclass, which slows every slice down.
            arrays[name] = np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))
    parts = Parts(**arrays)
    try:
        digests = collection.check(parts, recorded)
    except IntegrityError as error:
        raise IntegrityError(f"{folder} is damaged: {error}") from error
    return parts, origin, digests


def write_cache(
    folder: Path, collection: Collection, parts: Parts, origin: str, digests: dict[str, str]
) -> None:
    """Write the arrays, then the note that marks them as complete.

    Raises:
        StorageError: If the disk is full or the folder cannot be written to; nothing is left.
    """
    manifest = {
        "format": _FORMAT,
        "dataset": collection.name,
        "source": origin,
        "sha256": digests,
    }
    try:
        # Between here and the last line, the folder is not a finished copy for anyone.
        (folder / MANIFEST).unlink(missing_ok=True)
        for name, array in parts.arrays().items():
            with atomic_path(folder / f"{name}.npy") as temporary:
                _save(temporary, array)
        write_text(folder / MANIFEST, json.dumps(manifest, indent=2) + "\n")
    except BaseException:
        # An unfinished copy is useless and may be what fills the disk.
        for name in ARRAY_NAMES:
            with contextlib.suppress(OSError):
                (folder / f"{name}.npy").unlink(missing_ok=True)
        raise


def _save(path: Path, array: UInt8Array) -> None:
    with path.open("wb") as stream:
        stream.write(npy_header(array.shape, array.dtype))
        stream.write(np.ascontiguousarray(array).data)
