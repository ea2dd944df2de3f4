"""Signs of life of a process: for other hosts, which see neither its lock nor its id.

While it works, a process writes the time into a file every `BEAT_S` seconds. On its own host the
kernel knows better: there its lock counts, and where a file system has no locks, its id.
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
from convscope.storage import write_text

BEAT_S = 15.0
"""Seconds from one sign of life to the next."""

SILENT_S = 300.0
"""Seconds of silence after which a process on another host counts as dead. Clocks of hosts may
differ by a minute or two, and a busy file server may be late."""


def this_process() -> dict[str, Any]:
    """Return what tells this process apart: {"host": name, "pid": number}."""
    return {"host": platform.node(), "pid": os.getpid()}


def is_here(process: Mapping[str, Any]) -> bool:
    """Return whether a process, as `this_process` described it, is or was one of this host."""
    return process.get("host") == platform.node()


@contextlib.contextmanager
def beating(path: Path) -> Iterator[None]:
    """Write the time into the file `path` now and then, as long as the body runs.

    A beat that cannot be written is left out. The file goes at the end; a killed process leaves it.

    Args:
        path: The file; its folder exists.
    """
    ended = threading.Event()

    def beat() -> None:
        # A full disk is noticed, and told, by who writes what matters.
        with contextlib.suppress(StorageError, OSError):
            at = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
            write_text(path, json.dumps({"at": at}) + "\n")

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
    """Return when the last sign of life was given, in UTC; None if there is none to read."""
    try:
        return datetime.datetime.fromisoformat(json.loads(path.read_text(encoding="utf-8"))["at"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def is_alive(process: Mapping[str, Any], path: Path) -> bool:
    """Return whether a process seems to be at work, by its signs of life and on its host its id.

    Args:
        process: As `this_process` described it.
        path: Where it leaves its signs of life.
    """
    if is_here(process) and not _is_running(process.get("pid")):
        return False
    at = last_beat(path)
    if at is None:
        return False
    age = datetime.datetime.now(datetime.UTC) - at
    return age.total_seconds() < SILENT_S


def _is_running(pid: Any) -> bool:
    # Windows has no such question: its signal 0 is Ctrl-C. It always has locks, which answer it.
    if os.name != "posix" or not isinstance(pid, int):
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # it is somebody else's
    return True
