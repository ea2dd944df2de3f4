"""The folder of packs: one writer per pack at a time, and no leftovers."""

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convscope.errors import LockTakenError
from convscope.locks import exclusive, writer_lock
from convscope.progress import Progress
from convscope.storage import read_object

IMAGES = "images.npy"
MANIFEST = "manifest.json"
ORIGINS = "origins.bin"

_UNUSED_S = 7 * 24 * 3600


@contextlib.contextmanager
def alone(packed: Path, key: str, progress: Progress) -> Iterator[bool]:
    """Hold the lock on one pack, with a message if that takes waiting.

    Args:
        packed: Folder of packs.
        key: Name of the pack.
        progress: Called before a wait.

    Yields:
        Whether it is held; False on a file system without locks.
    """
    waiting = "Waiting for another process that is packing the same images"
    with exclusive(
        writer_lock(packed / key), wait=True, on_wait=lambda: progress.say(waiting)
    ) as held:
        yield held


def sweep(packed: Path, own_key: str) -> None:
    """Remove leftovers of killed processes; packs that others are writing are locked and stay.

    Args:
        packed: Folder of packs.
        own_key: Pack whose lock is held.
    """
    for part in packed.glob(".*.part"):
        lock = writer_lock(part)
        with contextlib.ExitStack() as stack:
            if lock != writer_lock(packed / own_key):
                try:
                    held = stack.enter_context(exclusive(lock, wait=False))
                except LockTakenError:
                    continue
                if not held:
                    continue
            shutil.rmtree(part, ignore_errors=True)


def drop_superseded(packed: Path, newest: Path) -> None:
    """Remove older packs of the same folder, size and fit, whose content is outdated.

    Only those that nobody opened for a week: a process that has one mapped keeps it after its
    removal, but not if the cache is shared over a network.

    Args:
        packed: Folder of packs.
        newest: Pack that replaces them.
    """
    manifest = read_manifest(newest)
    for other in packed.iterdir():
        theirs = read_manifest(other)
        same = other != newest and theirs.get("root") == manifest["root"]
        if not same or theirs["shape"][1:] != manifest["shape"][1:]:
            continue
        if theirs.get("fit", "squash") != manifest.get("fit", "squash"):
            continue
        with contextlib.suppress(LockTakenError, OSError):
            unused_s = time.time() - (other / MANIFEST).stat().st_mtime
            if unused_s > _UNUSED_S:
                with exclusive(writer_lock(other), wait=False) as held:
                    if held:
                        shutil.rmtree(other, ignore_errors=True)


def read_manifest(pack: Path) -> dict[str, Any]:
    """Return the description in a pack; an empty dictionary if the pack is incomplete."""
    manifest = read_object(pack / MANIFEST)
    whole = manifest.keys() >= {"key", "root", "shape", "faults"}
    return manifest if whole and isinstance(manifest["shape"], list) else {}
