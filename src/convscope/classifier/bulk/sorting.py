"""Copies of classified images, in a folder for each class."""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from convscope.errors import ConfigError
from convscope.paths import numbered, short_name
from convscope.progress import Progress
from convscope.storage import (
    atomic_path,
    read_object,
    require_writable,
    storage_errors,
    write_text,
)
from convscope.types import ImagePrediction, UnreadableImage
from convscope.wording import counted, quoted

Result = ImagePrediction | UnreadableImage

SORTED, UNSURE, NONE = "sorted", "unsure", "none"
"""Folders of answers, of those with a low probability, and of images that look like no class."""

_NOTE = "sorting.json"

_UNFINISHED = ".*.part*"
"""Names of what a kill left half-copied."""


class SortedCopies:
    """Copies of image files in a folder for each class, which training takes as it is.

    An image that the folder has already, wherever it was moved to meanwhile, is not copied again,
    so repeated work undoes no correction. Another one of the same name gets a number.

    Args:
        folder: Folder for the copies: `sorted/CLASS/`, `unsure/CLASS/` and `none/`.
        class_names: Names of the classes.
        job: Everything by which the answers of two calls would differ, such as the model.
        unsure_below: Probability of the answer below which an image is `unsure`, in [0, 1].
        progress: Called with the numbers at the end.

    Attributes:
        numbers: Number of images copied so far, by `SORTED`, `UNSURE` and `NONE`.
        n_known: Number of images that were there before.
        n_copies: Number of images of which another of the same content was copied.

    Raises:
        ConfigError: If the folder holds something else, or what another call sorted, or two classes
            would have the same folder.
        StorageError: If it cannot be written to.
    """

    def __init__(
        self,
        folder: Path,
        class_names: Iterable[str],
        job: dict[str, object],
        *,
        unsure_below: float = 0.0,
        progress: Progress,
    ) -> None:
        self.folder = folder
        self._progress = progress
        self.numbers: Counter[str] = Counter()
        self.n_known = self.n_copies = 0
        self._unsure_below = unsure_below
        self._folders = {name: short_name(name, 200) for name in class_names}
        named: dict[str, list[str]] = {}
        for name, its in self._folders.items():
            # Many file systems do not tell capitals from small letters.
            named.setdefault(its.casefold(), []).append(name)
        if alike := next((names for names in named.values() if len(names) > 1), None):
            raise ConfigError(
                f"the classes {quoted(alike)} would have the same folder; use --out in place of "
                "--sort-into"
            )
        self._take_up({**job, "unsure_below": unsure_below})
        with storage_errors(folder):
            for file in folder.rglob(_UNFINISHED):
                file.unlink(missing_ok=True)
            files = [file for file in folder.rglob("*") if file.is_file()]
            self._before = {_digest(file) for file in files if not file.name.startswith(".")}
        self._copied: set[bytes] = set()

    def copying(self, results: Iterable[Result]) -> Iterator[Result]:
        """Yield results as they come, after each image was copied; say the numbers at the end.

        Raises:
            ConfigError: If an image is no file of its own.
            StorageError: If it cannot be read any more, or its copy not be written.
        """
        for result in results:
            if isinstance(result, ImagePrediction):
                self._copy(result)
            yield result
        told = [f"{counted(self.numbers[SORTED], 'image')} sorted into {self.folder / SORTED}"]
        told += [
            f"{n:,} in {self.folder / kind}" for kind, n in self.numbers.items() if kind != SORTED
        ]
        if n := self.n_known:
            told.append(f"{n:,} {'was' if n == 1 else 'were'} there already")
        if n := self.n_copies:
            told.append(f"{n:,} {'is a copy of another' if n == 1 else 'are copies of others'}")
        self._progress.say(", ".join(told))

    def _copy(self, said: ImagePrediction) -> None:
        if said.path is None or not said.path.is_file():
            raise ConfigError(
                f"{said.path} is no file of its own; unpack archives before --sort-into"
            )
        kind = SORTED
        if said.rejected:
            kind = NONE
        elif said.probs[said.class_name] < self._unsure_below:
            kind = UNSURE
        digest = _digest(said.path)
        self.n_known += digest in self._before
        self.n_copies += digest in self._copied
        if digest in self._before or digest in self._copied:
            return
        folder = self.folder / kind
        if kind != NONE:
            folder /= self._folders[said.class_name]
        free = next(
            each
            for each in numbered(folder / said.path.name, said.path.suffix)
            if not each.exists()
        )
        with atomic_path(free) as temporary:
            shutil.copyfile(said.path, temporary)
        self._copied.add(digest)
        self.numbers[kind] += 1

    def _take_up(self, job: dict[str, object]) -> None:
        require_writable(self.folder)
        note = self.folder / _NOTE
        before = read_object(note)
        if before == job:
            return
        sorted_otherwise = "images sorted by another model or with other options"
        what = sorted_otherwise if before else "other files"
        there = self.folder.iterdir() if self.folder.exists() else ()
        if before or not all(each.match(_UNFINISHED) for each in there):
            raise ConfigError(f"--sort-into {self.folder} holds {what}; choose another folder")
        write_text(note, json.dumps(job, indent=2) + "\n")


def _digest(file: Path) -> bytes:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").digest()
