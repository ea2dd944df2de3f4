"""A folder in which one process works at a time: its lock and, for other hosts, its heartbeat."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from convscope import heartbeat
from convscope.errors import LockTakenError, StorageError
from convscope.locks import LOCK, exclusive
from convscope.progress import console_progress
from convscope.remote import fetch, settle

HEARTBEAT = ".heartbeat"
"""File of the heartbeat of the process that works in a folder."""


@contextlib.contextmanager
def at_work(folder: Path, doing: str) -> Iterator[None]:
    """Keep other processes out of a folder, and write a heartbeat in it.

    At the end, what is at the address of the folder is made equal to it, if it has one.

    Args:
        folder: Folder; created if absent.
        doing: What is done with it, for messages: "trained".

    Raises:
        LockTakenError: If another process works in it.
        StorageError: If it cannot be written to.
    """
    busy = f"{folder} is being {doing} by another process; wait for it or stop it"
    with exclusive(folder / LOCK, wait=False, busy=busy) as held:
        _require_silence(folder, doing, held=held)
        try:
            with heartbeat.beating(folder / HEARTBEAT):
                yield
        finally:
            settle(folder)


def is_taken(folder: Path) -> bool:
    """Return whether a process works in a folder: on this host by its lock, else its heartbeat."""
    process = heartbeat.process_of(folder / HEARTBEAT)
    try:
        with exclusive(folder / LOCK, wait=False) as held:
            # A free lock says little about another host: many file systems keep locks to one.
            if held and heartbeat.is_here(process):
                return False
    except LockTakenError:
        return True
    except StorageError:
        pass  # a folder of another user
    return heartbeat.is_alive(process, folder / HEARTBEAT)


def _require_silence(folder: Path, doing: str, *, held: bool) -> None:
    """Reject a folder in which a process works whose lock is not seen: on another host."""
    file = folder / HEARTBEAT
    fetch(file)
    process = heartbeat.process_of(file)
    if (held and heartbeat.is_here(process)) or not heartbeat.is_alive(process, file):
        return
    # It may have been killed since its last heartbeat; a further one would show that it was not.
    # Older versions did not write who they are.
    whose = f"process {process['pid']} on {process['host']}" if process else "another process"
    watched_s = 3 * heartbeat.BEAT_S
    console_progress().say(
        f"{folder} was being {doing} by {whose} a moment ago; "
        f"checking for {watched_s:.0f} s whether it still is"
    )
    before, end = heartbeat.last_beat(file), time.monotonic() + watched_s
    while time.monotonic() < end:
        time.sleep(min(1.0, heartbeat.BEAT_S))
        fetch(file)
        if heartbeat.last_beat(file) != before:
            raise LockTakenError(f"{folder} is being {doing} by {whose}; wait for it or stop it")
    # What it did at an address until it was killed.
    fetch(folder)
