"""Locks among processes, with three honest answers: taken, not to be had here, cannot be written.

A lock that another process holds is waited for or refused. On a file system without locks (some
NFS, CIFS and Lustre) work goes on without, which is said once. A folder that cannot be written to
is an error of its own.
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

_WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)

_without_locks: set[int] = set()
"""Devices of which the user has been told that they have no locks."""


@contextlib.contextmanager
def exclusive(
    path: Path, *, wait: bool, busy: str = "", on_wait: Callable[[], None] | None = None
) -> Iterator[bool]:
    """Hold a lock on the file `path`, among all processes that see it.

    The kernel drops the lock when its process ends, however it ends, so a killed process leaves
    nothing to clean up. The (empty) file stays.

    Args:
        path: The lock file; made if absent.
        wait: True waits for the other process, False refuses at once.
        busy: The message of the refusal.
        on_wait: Called before a wait, if there has to be one.

    Yields:
        True if the lock is held; False if this file system has no locks. Who removes what others
        may be writing must not do so then.

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
    `exclusive` waits or refuses. While somebody has the lock exclusively, this waits. The kernel
    drops the process's share when it ends, however it ends.

    Args:
        path: The lock file; made if absent.
        holder: Whatever has to be garbage collected before the lock is given back.

    Raises:
        StorageError: If the lock file cannot be written.
    """
    stream = _open_lock(path)
    weakref.finalize(holder, stream.close)
    # Windows has shared locks with pywin32 only; but there a file that is mapped stays anyway.
    with contextlib.suppress(ImportError):
        _wait_for(stream, path, shared=True)


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
            f"{path.parent} is on a file system without locks; going on without: let only one "
            "convscope at a time write there, or move it to a local disk (--out, CONVSCOPE_CACHE)"
        )
