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

    In all parts; no model sees the test images. The answer is kept in the cache, since each command
    on a run divides its images again.

    Args:
        dataset: Dataset in one, two or three parts, whose images have at most `SIDE` pixels a side
            or are small by themselves.
        progress: Called with each image and comparison.
    """
    parts = [
        part if isinstance(part, Split) else part.open(lambda _: None)
        for part in dataset.parts.values()
    ]
    ids = [str(image_id) for part in parts for image_id in part.ids]
    hashes = [key for part in parts for key in part.hashes]
    different, firsts = np.unique(hashes, return_index=True)
    facts = "\n".join([str(_VERSION), *different.tolist()]).encode()
    file = cache_dir() / FOLDER / f"{hashlib.blake2b(facts, digest_size=16).hexdigest()}.npz"
    group_of = _read(file, len(different))
    if group_of is None:
        group_of = _found(parts, firsts, progress)
        # Where it cannot be kept, they are searched for again.
        with contextlib.suppress(StorageError, OSError), atomic_path(file) as temporary:
            np.savez(temporary, group_of=group_of)
    named: dict[int, str] = {}
    groups = group_of[np.searchsorted(different, hashes)].tolist()
    for image_id, group in zip(ids, groups, strict=True):
        if group >= 0:
            named.setdefault(group, image_id)
    return {
        image_id: named[group] for image_id, group in zip(ids, groups, strict=True) if group >= 0
    }


def _found(parts: list[Split], firsts: Places, progress: Progress) -> Places:
    """Return the number of each different image's group; -1 for one without near copies."""
    starts = np.cumsum([0, *map(len, parts)])
    part_of = np.searchsorted(starts, firsts, side="right") - 1
    prints = []
    with progress.task("Thumbnails for near copies", len(firsts), "images") as step:
        for part, row in zip(part_of.tolist(), (firsts - starts[part_of]).tolist(), strict=True):
            prints.append(fingerprint(parts[part].images[row]))
            step(1)
    group_of = np.full(len(firsts), -1, np.intp)
    for number, group in enumerate(
        near_groups(find_near_copies(gather(prints), progress=progress))
    ):
        group_of[list(group.places)] = number
    return group_of


def _read(file: Path, n_different: int) -> Places | None:
    """Return the groups in a file; None if there is none, or a damaged one."""
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            group_of = stored["group_of"]
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    fits = group_of.shape == (n_different,) and group_of.dtype.kind == "i"
    return group_of.astype(np.intp) if fits else None
