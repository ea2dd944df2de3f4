"""Rows of the feature cache that one set can take from others."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from convscope.errors import LockTakenError
from convscope.locks import exclusive, writer_lock
from convscope.training.features_store import ROWS, open_set, seconds_of, sets_of


class KnownRows:
    """Rows of other sets that hold the outputs of the same network for the same contents.

    Args:
        folder: Folder of the set that is to be computed.
        network_key: Hash of all that decides a row but its contents.
        storage: Data type on disk.
        row_keys: Hash of the contents of each row; None finds nothing.

    Attributes:
        seconds: Time that computing the rows took, when they entered the cache.
    """

    def __init__(
        self, folder: Path, network_key: str, storage: str, row_keys: Sequence[str] | None
    ) -> None:
        self.seconds = 0.0
        self._found: list[tuple[npt.NDArray[Any], npt.NDArray[np.intp], npt.NDArray[np.intp]]] = []
        wanted: dict[str, list[int]] = {}
        for row, key in enumerate(row_keys or ()):
            wanted.setdefault(key, []).append(row)
        for other, manifest in sets_of(folder) if wanted else ():
            if not wanted:
                break
            if manifest.get("network_key") != network_key:
                continue
            # Another process may be about to remove it, or has the right to wait for it.
            with contextlib.suppress(LockTakenError), exclusive(writer_lock(other), wait=False):
                self._take(other, manifest, storage, wanted)

    def _take(
        self, other: Path, manifest: Mapping[str, Any], storage: str, wanted: dict[str, list[int]]
    ) -> None:
        array = open_set(other, tuple(manifest["shape"]), storage)
        try:
            keys = (other / ROWS).read_text(encoding="utf-8").split("\n")
        except (OSError, ValueError):
            return
        if array is None or len(keys) != len(array):
            return
        pairs = [(row, at) for at, key in enumerate(keys) for row in wanted.pop(key, ())]
        if pairs:
            rows, places = np.array(sorted(pairs), np.intp).T
            self._found.append((array, rows, places))
            self.seconds += seconds_of(other) * len(rows) / len(array)

    def missing(self, n_rows: int) -> npt.NDArray[np.intp]:
        """Return the rows, in order, that were not found."""
        there = np.zeros(n_rows, bool)
        for _, rows, _ in self._found:
            there[rows] = True
        return np.flatnonzero(~there)

    def copy(self, features: npt.NDArray[Any], start: int) -> None:
        """Fill in the known rows of a chunk that begins at row `start`."""
        for array, rows, places in self._found:
            first, last = np.searchsorted(rows, (start, start + len(features)))
            features[rows[first:last] - start] = array[places[first:last]]
