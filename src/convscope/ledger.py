"""This machine's record of test-set uses: each look at test images, by any run, per image.

A run knows only its own openings. Twenty runs that are evaluated on the same images, of which the
best is shown, have looked twenty times, whatever their split's seed. So the looks are recorded next
to the cache, with images identified by their hashes.

On disk: `looks.jsonl`, to which a line is added for each look, and `images/`, the hashes of each
set of images that was looked at, once. Plain files under a lock: SQLite's journal in shared
memory does not work on network file systems, where home folders of clusters are.
"""

import datetime
import hashlib
import json
import math
import os
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from convscope.locks import exclusive
from convscope.storage import atomic_path, cache_dir, object_in, storage_errors
from convscope.wording import ordinal

_ODD_SHARE = 0.01
"""Share of the images that is ignored when evaluations of a set are counted: a blank page or a
black picture may be in any data."""

COMMON_SHARE = 0.5
"""Share of a set's images that another set must contain to count as the same images."""


@dataclass(frozen=True)
class Tally:
    """Number of evaluations of some test images on this machine.

    Attributes:
        n_images: Number of different images.
        times: Number of looks; for images that were not all looked at together, the largest number
            that at least 1 % of them reach.
        fewest: Smallest number of looks at any of them.
        n_once: Number of images with a single look.
    """

    n_images: int
    times: int
    fewest: int
    n_once: int

    @property
    def sentence(self) -> str:
        """The last look, in a sentence about test images."""
        return self.sentence_about("test images")

    def sentence_about(self, kind: str) -> str:
        """Return the last look, in a sentence about images of some kind: "test images"."""
        images = f"{self.n_images:,} {kind} are"
        if self.times <= 1:
            return f"These {images} evaluated for the first time on this machine."
        said = f"evaluated for the {ordinal(self.times)} time on this machine"
        if self.n_once > _ODD_SHARE * self.n_images:
            return f"Some of these {images} {said}; {self.n_once:,} for the first."
        if self.fewest < self.times and self.n_once != self.n_images:
            return f"These {images} {said}, some of them less often."
        return f"These {images} {said}."

    @property
    def so_far(self) -> str:
        """The looks so far, as part of a sentence about the images."""
        return f"they have been evaluated {self.n_times}"

    @property
    def n_times(self) -> str:
        """The number of looks, in words."""
        most = "up to " if self.fewest < self.times else ""
        return most + ("once" if self.times == 1 else f"{self.times:,} times")


class Ledger:
    """The recorded looks at test images on this machine; read on creation."""

    def __init__(self) -> None:
        self.folder = cache_dir() / "ledger"
        self._read: dict[str, npt.NDArray[np.uint64]] = {}

    @cached_property
    def looks(self) -> list[dict[str, Any]]:
        """All looks, the oldest first: {"at", "look", "kind", "by", "run", "images"}."""
        try:
            lines = self._looks_file.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return []
        found = []
        for line in lines:
            look = object_in(line)
            # A power cut may have left one half-written.
            if look.keys() >= {"look", "kind", "run", "images"}:
                found.append(look)
        return found

    def add(
        self, hashes: Sequence[str], *, by: str, run: Path, look: str | None, shown: bool
    ) -> tuple[str, bool]:
        """Record that images are about to be looked at.

        Args:
            hashes: Shape (n_images,), sixteen hex digits of each.
            by: Name of the command.
            run: Folder of the run that is evaluated.
            look: Name shared by calls that count as one look, such as the folds of one training or
                the runs of one comparison; None for a separate look.
            shown: Whether a person is shown some of the images and no model is evaluated on them.

        Returns:
            The name of the set of images, for `tally`, and whether it is the first call of its
            look.

        Raises:
            StorageError: If the cache cannot be written.
        """
        images = _sorted(hashes)
        name = hashlib.sha256(images.tobytes()).hexdigest()[:16]
        if not self._images_file(name).exists():
            with atomic_path(self._images_file(name)) as temporary:
                np.save(temporary, images)
        return name, self.add_again(name, by=by, run=run, look=look, shown=shown)

    def add_again(self, name: str, *, by: str, run: Path, look: str | None, shown: bool) -> bool:
        """Record a look at a set of images that has a name already.

        Args:
            name: Name that `add` returned.
            by: Name of the command.
            run: Folder of the run that is evaluated.
            look: Name shared by calls that count as one look, as in `add`.
            shown: Whether no model is evaluated on them.

        Returns:
            Whether it is the first call of its look.

        Raises:
            StorageError: If the cache cannot be written.
        """
        entry = {
            "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "look": look or uuid.uuid4().hex,
            "kind": "shown" if shown else "judged",
            "by": by,
            "run": str(run.resolve()),
            "images": name,
        }
        line = json.dumps(entry, ensure_ascii=False) + "\n"
        with exclusive(self.folder / ".lock", wait=True):
            self.__dict__.pop("looks", None)
            first = not any(known["look"] == entry["look"] for known in self.looks)
            with storage_errors(self._looks_file), self._looks_file.open("a+b") as file:
                if file.seek(0, os.SEEK_END):
                    file.seek(-1, os.SEEK_END)
                    if file.read(1) != b"\n":
                        line = "\n" + line
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
            self.looks.append(entry)
        return first

    def tally(self, name: str) -> Tally | None:
        """Return the number of evaluations of the images of a set, in this set or in others.

        Args:
            name: Name that `add` returned.

        Returns:
            None if no such set was recorded here.
        """
        images = self._images(name)
        if not len(images):
            return None
        sets: dict[str, set[str]] = {}
        for look in self.looks:
            if look["kind"] == "judged":
                sets.setdefault(look["look"], set()).add(look["images"])
        counts = np.zeros(len(images), np.int64)
        # Most looks are at the same images: each combination of sets is counted once.
        for together, n_looks in Counter(frozenset(names) for names in sets.values()).items():
            seen = np.zeros(len(images), bool)
            for each in together:
                seen |= self._contains(each, images)
            counts += n_looks * seen
        odd = max(1, math.ceil(_ODD_SHARE * len(images)))
        return Tally(
            n_images=len(images),
            times=int(np.sort(counts)[-odd]),
            fewest=int(counts.min()),
            n_once=int((counts <= 1).sum()),
        )

    def tally_of(self, openings: Sequence[Mapping[str, Any]]) -> Tally | None:
        """Return the number of evaluations of a run's test images on this machine so far.

        Args:
            openings: Openings of a run, as in its `run.json`.

        Returns:
            None if there is none, or none that was recorded here.
        """
        return self.tally(images_in(openings))

    def runs_judged_on(self, name: str) -> list[Path]:
        """Return the folders of the runs that were evaluated on most images of a set, each once.

        Args:
            name: Name that `add` returned.
        """
        names = {look["images"] for look in self.looks}
        near = {each for each in names if self.share_in_common(name, each) >= COMMON_SHARE}
        return [
            Path(run)
            for run in dict.fromkeys(
                look["run"]
                for look in self.looks
                if look["kind"] == "judged" and look["images"] in near
            )
        ]

    def share_in_common(self, name: str, other: str) -> float:
        """Return the share of a set's images that another set also contains, a fraction."""
        images = self._images(name)
        return float(self._contains(other, images).mean()) if len(images) else 0.0

    @property
    def _looks_file(self) -> Path:
        return self.folder / "looks.jsonl"

    def _images_file(self, name: str) -> Path:
        return self.folder / "images" / f"{name}.npy"

    def _images(self, name: str) -> npt.NDArray[np.uint64]:
        if name not in self._read:
            try:
                self._read[name] = np.load(self._images_file(name), allow_pickle=False)
            except (OSError, ValueError):
                self._read[name] = np.empty(0, np.uint64)
        return self._read[name]

    def _contains(self, name: str, images: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        return np.isin(images, self._images(name), assume_unique=True)


def images_in(openings: Sequence[Mapping[str, Any]]) -> str:
    """Return the name of the test images that a run was last evaluated on; "" if unknown.

    Args:
        openings: Openings of a run, as in its `run.json`.
    """
    named = [str(opening["images"]) for opening in openings if "images" in opening]
    return named[-1] if named else ""


def _sorted(hashes: Sequence[str]) -> npt.NDArray[np.uint64]:
    return np.unique(np.frombuffer(bytes.fromhex("".join(hashes)), ">u8").astype(np.uint64))
