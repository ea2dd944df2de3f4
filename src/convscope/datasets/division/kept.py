"""Divisions of images into parts, kept in the cache.

Scikit-learn, which draws them, takes most of a second to import: a sixth of the time from a command
to its first training step.
"""

import contextlib
import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from convscope.datasets.division.draw import DRAWING_VERSION, Places, Pool
from convscope.errors import StorageError
from convscope.machine import installed_versions
from convscope.storage import atomic_path, cache_dir

FOLDER = "divisions"


def drawn_once(
    pool: Pool, settings: Mapping[str, Any], draw: Callable[[], dict[str, Places]]
) -> dict[str, Places]:
    """Return what `draw` returns, from the cache if it was drawn before.

    Args:
        pool: Images that are divided.
        settings: All else that the division depends on.
        draw: Function that returns the indices of the images of each part: each image in one.
    """
    file = cache_dir() / FOLDER / f"{_key(pool, settings)}.npz"
    places = _read(file, len(pool))
    if places is None:
        places = draw()
        # Where it cannot be kept, it is drawn again next time.
        with contextlib.suppress(StorageError, OSError), atomic_path(file) as temporary:
            smallest = np.min_scalar_type(len(pool))
            stored: dict[str, Any] = {n: each.astype(smallest) for n, each in places.items()}
            np.savez(temporary, **stored)
    return places


def _key(pool: Pool, settings: Mapping[str, Any]) -> str:
    # Without scikit-learn, images with several labels can be divided still.
    versions = installed_versions(("numpy", "scikit-learn"))
    of_pool = [pool.labels.shape, pool.labels.dtype.str, pool.n_classes, pool.grouped]
    facts = [DRAWING_VERSION, *of_pool, settings, versions]
    key = hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=16)
    key.update(pool.labels.tobytes())
    key.update(pool.unit_of.tobytes())
    return key.hexdigest()


def _read(file: Path, n_images: int) -> dict[str, Places] | None:
    """Return the parts in a file; None if there is none, or a damaged one."""
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            places = {name: stored[name].astype(np.intp) for name in stored.files}
        every = np.concatenate(list(places.values()))
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile):
        return None
    return places if np.array_equal(np.sort(every), np.arange(n_images)) else None
