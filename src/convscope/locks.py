"""Locks among processes, with three explicit outcomes: taken, not supported, not writable.

A lock that another process holds is waited for or refused. On a file system without locks (some
NFS, CIFS and Lustre) work continues without, with a single warning. A folder that cannot be written
to is a separate error.
"""

import contextlib
import errno
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from convscope.errors import LockTakenError, StorageError
from convscope.progress import console_progress
from convscope.storage import storage_errors

LOCK = ".lock"
"""File that whoever works in a run folder, or in that of a study, holds locked."""

STATE_LOCK = ".state.lock"
"""File that is locked while the entries of a run are changed."""

_WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)

_without_locks: set[int] = set()
"""Devices without locks that the user has been warned about."""


@contextlib.contextmanager
def exclusive(
    path: Path, *, wait: bool, busy: str = "", on_wait: Callable[[], None] | None = None
) -> Iterator[bool]:
    """Hold a lock on the file `path`, among all processes that see it.

    The kernel drops the lock when its process ends, for whatever reason, so a killed process leaves
    nothing to clean up. The (empty) file stays.

    Args:
        path: Lock file; created if absent.
        wait: Whether to wait for the other process, or raise at once.
        busy: Message of the error.
        on_wait: Function called before a wait, if one is needed.

    Yields:
        True if the lock is held; False if this file system has no locks. Code that removes files
        that others may be writing must not do so then.

    Raises:
        LockTakenError: If `wait` is False and another process holds the lock.
        StorageError: If the lock file cannot be written.
    """
    with _open_lock(path) as stream:
        held = _lock(stream, path)
        if held is None:
            if not wait:
                raise LockTakenError(busy or f"{path} is in use by another process")
            if on_wait is not None:
                on_wait()
            held = _wait_for(stream, path)
        yield held


def share_while_alive(path: Path, holder: object) -> None:
    """Share a lock on the file `path` for as long as `holder` lives.

    Any number of holders share it, in this process and in others; until the last is gone,
    `exclusive` waits or refuses. This waits while another process has it exclusively. The kernel
    drops the process's share when it ends, however it ends.

    Args:
        path: Lock file; created if absent.
        holder: Object whose garbage collection releases the lock.

    Raises:
        StorageError: If the lock file cannot be written.
    """
    stream = _open_lock(path)
    weakref.finalize(holder, stream.close)
    # Windows has shared locks with pywin32 only; but a mapped file stays there anyway.
    with contextlib.suppress(ImportError):
        _wait_for(stream, path, shared=True)


def writer_lock(entry: Path) -> Path:
    """Return the path of the lock held while an entry of the cache is made, opened or removed.

    What a killed process left of an entry (`.KEY-*.part`) has the lock of that entry.
    """
    return entry.parent / "locks" / f"{entry.name.removeprefix('.').partition('-')[0]}.lock"


def readers_lock(entry: Path) -> Path:
    """Return the path of the lock shared by all processes that read an entry of the cache."""
    return writer_lock(entry).with_suffix(".readers")


def _open_lock(path: Path) -> BinaryIO:
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a+b")


def _wait_for(stream: BinaryIO, path: Path, *, shared: bool = False) -> bool:
    # Windows gives up after ten seconds; it is asked again.
    while (held := _lock(stream, path, wait=True, shared=shared)) is None:
        time.sleep(0.05)
    return held


def _lock(stream: BinaryIO, path: Path, *, wait: bool = False, shared: bool = False) -> bool | None:
    """Return True with the lock, False where there are no locks, None if it is taken."""
    import portalocker

    flags = portalocker.LockFlags.SHARED if shared else portalocker.LockFlags.EXCLUSIVE
    if not wait:
        flags |= portalocker.LockFlags.NON_BLOCKING
    try:
        portalocker.lock(stream, flags)
    except portalocker.AlreadyLocked:
        return None
    except portalocker.LockException as error:
        cause = error.__cause__
        if not isinstance(cause, OSError):
            raise StorageError(f"cannot lock {path} ({error})") from error
        if cause.errno not in _WITHOUT_LOCKS:
            raise StorageError(f"cannot lock {path} ({cause.strerror})") from error
        _say_once(path)
        return False
    return True


def _say_once(path: Path) -> None:
    device = path.parent.stat().st_dev
    if device not in _without_locks:
        _without_locks.add(device)
        console_progress().say(
            f"{path.parent} is on a file system without locks; continuing without: let only one "
            "convscope at a time write there, or move it to a local disk (--out, CONVSCOPE_CACHE)"
        )
