"""The folder of packs: one writer for each at a time, and no rubbish."""

import contextlib
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convscope.errors import LockTakenError
from convscope.locks import exclusive
from convscope.progress import Progress

MANIFEST = "manifest.json"

_UNUSED_S = 7 * 24 * 3600


@contextlib.contextmanager
def alone(packed: Path, key: str, progress: Progress) -> Iterator[bool]:
    """Hold the lock on one pack, and say so if that takes waiting.

    Args:
        packed: The folder of packs.
        key: The pack's name.
        progress: Told of a wait.

    Yields:
        Whether it is held; a file system without locks has none to hold.
    """
    waiting = "Waiting for another process that is packing the same images"
    with exclusive(_lock_of(packed, key), wait=True, on_wait=lambda: progress.say(waiting)) as held:
        yield held


def sweep(packed: Path, own_key: str) -> None:
    """Remove what killed processes left; what others are writing now is locked and stays.

    Args:
        packed: The folder of packs.
        own_key: The pack whose lock is held.
    """
    for part in packed.glob(".*.part"):
        key = part.name[1:].split("-", 1)[0]
        with contextlib.ExitStack() as stack:
            if key != own_key:
                try:
                    held = stack.enter_context(exclusive(_lock_of(packed, key), wait=False))
                except LockTakenError:
                    continue
                if not held:
                    continue
            shutil.rmtree(part, ignore_errors=True)


def drop_superseded(packed: Path, newest: Path) -> None:
    """Remove older packs of the same folder at the same size, which no content calls for any more.

    Only those that nobody opened for a week: a process that has one mapped keeps it when it is
    removed, but not if the cache is shared over a network.

    Args:
        packed: The folder of packs.
        newest: The pack that has taken their place.
    """
    manifest = read_manifest(newest)
    for other in packed.iterdir():
        theirs = read_manifest(other)
        same = other != newest and theirs.get("root") == manifest["root"]
        if not same or theirs["shape"][1:] != manifest["shape"][1:]:
            continue
        with contextlib.suppress(LockTakenError, OSError):
            unused_s = time.time() - (other / MANIFEST).stat().st_mtime
            if unused_s > _UNUSED_S:
                with exclusive(_lock_of(packed, other.name), wait=False) as held:
                    if held:
                        shutil.rmtree(other, ignore_errors=True)


def read_manifest(pack: Path) -> dict[str, Any]:
    """Return what a pack says of itself; an empty dictionary if it is not a whole pack."""
    with contextlib.suppress(OSError, ValueError):
        manifest = json.loads((pack / MANIFEST).read_text(encoding="utf-8"))
        if isinstance(manifest, dict) and manifest.keys() >= {"key", "root", "shape", "faults"}:
            return manifest
    return {}


def _lock_of(packed: Path, key: str) -> Path:
    return packed / "locks" / f"{key}.lock"
