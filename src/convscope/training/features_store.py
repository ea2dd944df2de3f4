"""The feature cache as a folder of sets: who uses which, and which are evicted for space."""

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from convscope.errors import LockTakenError, StorageError
from convscope.locks import exclusive, readers_lock, share_while_alive, writer_lock
from convscope.storage import read_object

FEATURES, MANIFEST, DONE, ROWS = "features.npy", "manifest.json", "rows_done", "rows.txt"
"""Files of a set: the array, the description of its origin, the progress, a key for each row."""

_UNUSED_S = 30 * 24 * 3600
_MARGIN_BYTES = 256 * 2**20
"""Space left free for other files: models, tables, pictures."""


def make_room(folder: Path, n_bytes: int) -> None:
    """Evict the least recently used feature sets until the new one fits.

    Nothing is evicted if that would not be enough, nor is a set that a process has mapped: its
    space would not be freed before the process closes it.
    """
    root = folder.parent
    others = [path for path in _others(folder) if _is_idle(path)]
    others.sort(key=_last_used, reverse=True)
    needed, free = n_bytes + _MARGIN_BYTES, shutil.disk_usage(root).free
    enough = free + sum(map(_size, others)) >= needed
    while enough and free < needed and others:
        _remove(others.pop())
        free = shutil.disk_usage(root).free
    if free < needed:
        raise StorageError(
            f"the features need {n_bytes / 2**30:.1f} GiB and {root} has {free / 2**30:.1f} GiB "
            "free; free some space, set CONVSCOPE_CACHE to a folder on another disk, or use "
            "smaller images (--image-size) or fewer views (--set backbone.views=1)"
        )


def sets_of(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the other finished sets that have a key for each row, with their manifests."""
    for other in sorted(_others(folder), key=_last_used, reverse=True):
        manifest = read_object(other / MANIFEST)
        if manifest and (other / ROWS).is_file():
            yield other, manifest


def open_set(folder: Path, shape: tuple[int, ...], storage: str) -> npt.NDArray[Any] | None:
    """Return finished features, or None if there are none or they are incomplete.

    The caller holds the lock of the set, so that nobody removes it meanwhile.
    """
    if not (folder / MANIFEST).is_file():
        return None
    try:
        array = np.load(folder / FEATURES, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if array.shape != shape or array.dtype != np.dtype(storage):
        return None
    # The base of every view of it, so it lives as long as anything reads the file.
    share_while_alive(readers_lock(folder), array)
    # np.asarray drops the memmap subclass, which slows every slice down.
    return np.asarray(array)


def seconds_of(folder: Path) -> float:
    """Return the seconds that computing a set took; 0 if its manifest does not say."""
    try:
        return float(read_object(folder / MANIFEST)["seconds"])
    except (ValueError, KeyError, TypeError):
        return 0.0


def drop_unused(folder: Path) -> None:
    """Remove other sets that were not used for a month."""
    for path in _others(folder):
        if time.time() - _last_used(path) > _UNUSED_S:
            _remove(path)


def _others(folder: Path) -> list[Path]:
    apart = (folder.name, "locks")
    return [path for path in folder.parent.iterdir() if path.is_dir() and path.name not in apart]


@contextlib.contextmanager
def _idle(folder: Path) -> Iterator[bool]:
    """Keep other processes from computing or opening a set.

    Yields:
        True if the locks are held; False on a file system without locks, where use cannot be seen.

    Raises:
        LockTakenError: If a process computes it or has it mapped.
    """
    # In this order: a process that opens a set holds the first lock while it takes the second.
    with (
        exclusive(writer_lock(folder), wait=False) as alone,
        exclusive(readers_lock(folder), wait=False) as unread,
    ):
        yield alone and unread


def _is_idle(folder: Path) -> bool:
    with contextlib.suppress(LockTakenError), _idle(folder) as idle:
        return idle
    return False


def _remove(folder: Path) -> None:
    with contextlib.suppress(LockTakenError), _idle(folder) as idle:
        if idle:
            shutil.rmtree(folder, ignore_errors=True)


def _size(path: Path) -> int:
    try:
        return (path / FEATURES).stat().st_size
    except OSError:
        return 0


def _last_used(path: Path) -> float:
    for name in (MANIFEST, DONE):
        with contextlib.suppress(OSError):
            return (path / name).stat().st_mtime
    return 0.0
