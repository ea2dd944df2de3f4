"""Heartbeat of a process: for other hosts, which see neither its lock nor its id.

While it works, a process writes the time into a file every `BEAT_S` seconds. On its own host the
kernel is more reliable: there its lock counts or, on a file system without locks, its id.
"""

import contextlib
import datetime
import json
import os
import platform
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from convscope.errors import StorageError
from convscope.storage import read_object, write_text

BEAT_S = 15.0
"""Seconds between heartbeats."""

SILENT_S = 300.0
"""Seconds of silence after which a process on another host counts as dead. Clocks of hosts may
differ by a minute or two, and a busy file server may be late."""


def this_process() -> dict[str, Any]:
    """Return the identity of this process: {"host": name, "pid": number}."""
    return {"host": platform.node(), "pid": os.getpid()}


def is_here(process: Mapping[str, Any]) -> bool:
    """Return whether a process, as described by `this_process`, is or was on this host."""
    return process.get("host") == platform.node()


@contextlib.contextmanager
def beating(path: Path) -> Iterator[None]:
    """Write the time and this process into the file `path` periodically, while the body runs.

    A beat that cannot be written is skipped. The file is removed at the end; a killed process
    leaves it.

    Args:
        path: File in an existing folder.
    """
    ended = threading.Event()

    def beat() -> None:
        # A full disk is noticed, and reported, where important files are written.
        with contextlib.suppress(StorageError, OSError):
            at = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
            write_text(path, json.dumps({"at": at, **this_process()}) + "\n")

    def go_on() -> None:
        while not ended.wait(BEAT_S):
            beat()

    beat()
    thread = threading.Thread(target=go_on, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def last_beat(path: Path) -> datetime.datetime | None:
    """Return the time of the last heartbeat, in UTC; None if there is none to read."""
    try:
        return datetime.datetime.fromisoformat(read_object(path)["at"])
    except (ValueError, TypeError, KeyError):
        return None


def process_of(path: Path) -> dict[str, Any]:
    """Return the process whose heartbeat it is, as `this_process`; empty if that is not known."""
    return {key: value for key, value in read_object(path).items() if key != "at"}


def is_alive(process: Mapping[str, Any], path: Path) -> bool:
    """Return whether a process seems to be at work, by its heartbeat and on its host its id.

    Args:
        process: Description by `this_process`.
        path: File of its heartbeat.
    """
    if is_here(process) and not _is_running(process.get("pid")):
        return False
    at = last_beat(path)
    if at is None:
        return False
    age = datetime.datetime.now(datetime.UTC) - at
    return age.total_seconds() < SILENT_S


def _is_running(pid: Any) -> bool:
    # Windows has no such query: its signal 0 is Ctrl-C. It always has locks, which answer it.
    if os.name != "posix" or not isinstance(pid, int):
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # it belongs to another user
    return True
