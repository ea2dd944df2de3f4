"""Obtain a published dataset from the cache, from a folder that has it, or from the network.

In every case, nothing is used or cached unless its checksums are correct. Copies that were found
but could not be used are reported in the dataset's notes, or in the error if everything fails.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from convscope.datasets import DataRequest
from convscope.datasets.published.array_cache import is_cache, read_cache, write_cache
from convscope.datasets.published.collection import Collection, LocalForm, Parts, Source, reading
from convscope.datasets.published.npm import WORKSPACE_PREFIX
from convscope.errors import (
    ConvscopeError,
    DataError,
    DownloadError,
    IntegrityError,
    StorageError,
)
from convscope.locks import exclusive
from convscope.paths import user_path
from convscope.progress import Progress
from convscope.storage import cache_dir
from convscope.types import Dataset, SealedSplit, Split

DATA_VARIABLE = "CONVSCOPE_DATA"


def acquire(collection: Collection, request: DataRequest) -> Dataset:
    """Return a whole published dataset: its training part, and its test part sealed.

    Looks in convscope's cache, in `request.data_dir`, in `$CONVSCOPE_DATA`, in the cache folder and
    where the operating system installs data; then downloads. The decoded arrays are kept in the
    cache; if that cannot be written, the dataset is used from memory and a note says so. If several
    processes ask at once, one downloads and the others wait for it.

    Args:
        collection: Description of the dataset.
        request: Folders to look in, and progress.

    Raises:
        DataError: If `request.data_dir` does not exist.
        DownloadError: If it could not be obtained; the message lists what was tried.
        IntegrityError: If all that was found or downloaded was wrong.
    """
    places = _places(collection, request.data_dir)
    search = _Search(collection, request.progress)
    home = cache_dir() / "datasets" / collection.name
    found = search.cached(home)
    if found is None:
        with _turn(home, search):
            # Another process may have filled the cache while this one waited.
            found = search.cached(home) or search.local(places, home)
            if found is None:
                found = search.remote(home / "downloads")
            if not found.in_cache:
                found = search.keep(home, found)
    return _dataset(collection, found, search.notes)


def image_ids(part: str, n_images: int, digits: int = 5) -> npt.NDArray[np.str_]:
    """Return a name for each image of an official file, from its index there.

    Examples:
        >>> image_ids("train", 3).tolist()
        ['train/00000', 'train/00001', 'train/00002']
    """
    return np.array([f"{part}/{i:0{digits}d}" for i in range(n_images)], dtype=np.str_)


@dataclass(frozen=True)
class _Found:
    parts: Parts
    origin: str
    digests: dict[str, str]
    in_cache: bool


@dataclass
class _Search:
    """One search for a dataset, and the problems it met."""

    collection: Collection
    progress: Progress
    notes: list[str] = field(default_factory=list)
    failures: list[ConvscopeError] = field(default_factory=list)

    def cached(self, folder: Path) -> _Found | None:
        if not is_cache(folder, self.collection):
            return None
        try:
            return _Found(*read_cache(folder, self.collection), in_cache=True)
        except IntegrityError as error:
            self.failed(error, worth_a_note=True)
            return None

    def local(self, places: list[Path], home: Path) -> _Found | None:
        for place in places:
            name = self.collection.name
            for folder in (place, place / name, place / "datasets" / name):
                found = None if folder == home else self.cached(folder)
                if found is not None:
                    return found
            for form in self.collection.forms:
                found = self._form(place, form)
                if found is not None:
                    return found
        return None

    def _form(self, place: Path, form: LocalForm) -> _Found | None:
        folders = [place / self.collection.name / name for name in form.subfolders]
        for folder in [place / name for name in form.subfolders] + folders:
            try:
                with reading(folder):
                    present = [folder / name for name in form.files if (folder / name).is_file()]
                if present:
                    origin = str(folder if len(form.files) > 1 else present[0])
                    parts = form.read(folder, self.progress)
                    return _Found(parts, origin, self._checked(parts, origin), in_cache=False)
            except IntegrityError as error:
                self.failed(error, worth_a_note=True)
        return None

    def remote(self, downloads: Path) -> _Found:
        if self.notes:
            self.progress.say(f"no usable copy of {self.collection.name} on this machine")
        for i, source in enumerate(self.collection.sources):
            if i > 0:
                self.progress.say(f"{self.failures[-1]}; now trying {source.origin}")
            found = self._fetched(source, downloads)
            if found is not None:
                return found
        raise self.failure()

    def _fetched(self, source: Source, downloads: Path) -> _Found | None:
        # Next to the cache, a broken transfer can be resumed another day; the temporary folder is
        # for users whose cache cannot be written.
        for workspace in (_kept(downloads), _temporary()):
            try:
                with workspace as folder:
                    parts = source.fetch(folder, self.progress)
                    digests = self._checked(parts, source.origin)
                    return _Found(parts, source.origin, digests, in_cache=False)
            except StorageError as error:
                self.failed(error)
            except ConvscopeError as error:
                self.failed(error)
                return None
        return None

    def _checked(self, parts: Parts, origin: str) -> dict[str, str]:
        try:
            return self.collection.check(parts)
        except IntegrityError as error:
            raise IntegrityError(f"{origin}: {error}") from error

    def failed(self, error: ConvscopeError, *, worth_a_note: bool = False) -> None:
        if str(error) in map(str, self.failures):
            return
        self.failures.append(error)
        if worth_a_note:
            self.notes.append(f"{error}; not used")

    def failure(self) -> ConvscopeError:
        tried = "; ".join(str(error) for error in self.failures) or "nothing to try"
        wrong = any(isinstance(error, IntegrityError) for error in self.failures)
        kind = IntegrityError if wrong else DownloadError
        return kind(
            f"{self.collection.name} could not be obtained: {tried}. Put "
            f"{self.collection.manual_download} into a folder and name it with --data-dir or "
            f"${DATA_VARIABLE}"
        )

    def keep(self, home: Path, found: _Found) -> _Found:
        """Return the dataset as it will be found next time: mapped from the cache, if possible."""
        try:
            write_cache(home, self.collection, found.parts, found.origin, found.digests)
        except (StorageError, OSError) as error:
            self.notes.append(f"used from memory, not cached: {error}")
            return found
        _remove(home / "downloads")
        return self.cached(home) or found


def _places(collection: Collection, data_dir: Path | None) -> list[Path]:
    places = []
    if data_dir is not None:
        if not data_dir.exists():
            raise DataError(f"data_dir {data_dir} does not exist; name a folder that does")
        places.append(data_dir)
    if os.environ.get(DATA_VARIABLE):
        places.append(user_path(os.environ[DATA_VARIABLE], f"${DATA_VARIABLE}"))
    # Those who name the archive itself mean the folder that it is in.
    places = [place.parent if place.is_file() else place for place in places]
    return [*places, cache_dir(), *collection.system_folders]


@contextlib.contextmanager
def _turn(home: Path, search: _Search) -> Iterator[None]:
    """Wait until no other process is obtaining this dataset."""
    lock = home.with_name(f"{home.name}.lock")
    with contextlib.ExitStack() as stack:
        waited = False

        def on_wait() -> None:
            nonlocal waited
            waited = True
            search.progress.say(f"waiting for another process that is getting {home.name}")

        # A cache that cannot be written cannot be corrupted either.
        with contextlib.suppress(StorageError, OSError):
            held = stack.enter_context(exclusive(lock, wait=True, on_wait=on_wait))
            if held and not waited:
                _sweep(home)
        yield


def _sweep(home: Path) -> None:
    """Remove leftovers of killed processes; the lock ensures that no live one is at work."""
    leftovers = [*home.glob(".*.part*"), *home.glob("downloads/tmp*")]
    for path in [*leftovers, *home.glob(f"downloads/{WORKSPACE_PREFIX}*")]:
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _kept(folder: Path) -> Iterator[Path]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise StorageError(f"cannot download into {folder} ({error.strerror})") from error
    yield folder


@contextlib.contextmanager
def _temporary() -> Iterator[Path]:
    try:
        folder = tempfile.TemporaryDirectory(prefix="convscope-", ignore_cleanup_errors=True)
    except OSError as error:
        raise StorageError(f"cannot make a temporary folder ({error.strerror})") from error
    with folder as name:
        yield Path(name)


def _dataset(collection: Collection, found: _Found, notes: list[str]) -> Dataset:
    parts = found.parts

    def split(part: str) -> Split:
        labels = getattr(parts, f"{part}_labels")
        ids = image_ids(part, len(labels))
        return Split(getattr(parts, f"{part}_images"), labels.astype(np.int64), ids)

    return Dataset(
        name=collection.name,
        class_names=collection.class_names,
        train=split("train"),
        test=SealedSplit(split("test")),
        provenance={
            "source": found.origin,
            "licence": collection.licence,
            "citation": collection.citation,
            "checksum": "sha256 "
            + " ".join(f"{name}:{digest}" for name, digest in found.digests.items()),
        },
        notes=tuple(notes),
    )
