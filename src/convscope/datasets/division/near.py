"""Groups of near copies, for a division that keeps them in one part."""

import contextlib
import hashlib
import zipfile
from pathlib import Path

import numpy as np

from convscope.datasets.checks.duplicates import near_groups
from convscope.datasets.checks.fingerprints import fingerprint, gather
from convscope.datasets.checks.near_copies import find_near_copies
from convscope.datasets.division.draw import Places
from convscope.datasets.division.kept import FOLDER
from convscope.errors import StorageError
from convscope.progress import Progress
from convscope.storage import atomic_path, cache_dir
from convscope.types import Dataset, Split

SIDE = 64
"""Side of the images that are compared, in pixels: of a run's own size, some pairs would be copies
at one size and not at another, and the parts of its images differ."""

_VERSION = 1
"""Raised when other images are found to be near copies."""


def near_copies_of(dataset: Dataset, progress: Progress) -> dict[str, str]:
    """Return the images that have near copies, with the name of the first of each group.

    In all parts; no model sees the test images. Images that are equal here count too: they may
    differ in a larger version. The answer is kept in the cache.

    Args:
        dataset: Dataset in one, two or three parts, if possible in a version of `SIDE` pixels.
        progress: Called with each image and comparison, and told if there are so many images that
            each was compared with its likeliest neighbours only.
    """
    parts = [
        part if isinstance(part, Split) else part.unjudged() for part in dataset.parts.values()
    ]
    ids = [str(image_id) for part in parts for image_id in part.ids]
    hashes = [key for part in parts for key in part.hashes]
    different, firsts, of_different = np.unique(hashes, return_index=True, return_inverse=True)
    facts = "\n".join([str(_VERSION), *different.tolist()]).encode()
    file = cache_dir() / FOLDER / f"{hashlib.blake2b(facts, digest_size=16).hexdigest()}.npz"
    found = _read(file, len(different))
    if found is None:
        found = _found(parts, firsts, progress)
        # Where it cannot be kept, they are searched for again.
        with contextlib.suppress(StorageError, OSError), atomic_path(file) as temporary:
            np.savez(temporary, group_of=found[0], complete=found[1])
    group_of, complete = found
    if not complete:
        progress.say(
            f"{dataset.name}: there are so many images that each was compared only with its "
            "likeliest neighbours; some near copies may be in different parts"
        )
    equal = np.flatnonzero((group_of < 0) & (np.bincount(of_different) > 1))
    group_of[equal] = group_of.max(initial=-1) + 1 + np.arange(len(equal))
    named: dict[int, str] = {}
    groups = group_of[of_different].tolist()
    for image_id, group in zip(ids, groups, strict=True):
        if group >= 0:
            named.setdefault(group, image_id)
    return {
        image_id: named[group] for image_id, group in zip(ids, groups, strict=True) if group >= 0
    }


def _found(parts: list[Split], firsts: Places, progress: Progress) -> tuple[Places, bool]:
    """Return the number of each different image's group, -1 for one without near copies.

    And whether each image was compared with every other.
    """
    starts = np.cumsum([0, *map(len, parts)])
    prints = []
    # In the order of the rows: shards are read as a whole.
    order = np.argsort(firsts)
    with progress.task("Thumbnails for near copies", len(firsts), "images") as step:
        for row in firsts[order].tolist():
            part = int(np.searchsorted(starts, row, side="right")) - 1
            prints.append(fingerprint(parts[part].images[row - int(starts[part])]))
            step(1)
    # Of what looks blank in a thumbnail, copies are equal pixel for pixel.
    blank = np.zeros(len(firsts), np.bool_)
    found = find_near_copies(gather(prints), blank=blank, progress=progress)
    group_of = np.full(len(firsts), -1, np.intp)
    for number, group in enumerate(near_groups(found)):
        group_of[order[list(group.places)]] = number
    return group_of, found.complete


def _read(file: Path, n_different: int) -> tuple[Places, bool] | None:
    """Return the groups in a file as `_found` does; None if there is none, or a damaged one."""
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            group_of, complete = stored["group_of"], bool(stored["complete"])
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    fits = group_of.shape == (n_different,) and group_of.dtype.kind == "i"
    return (group_of.astype(np.intp), complete) if fits else None
