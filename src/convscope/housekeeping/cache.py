"""The cache: its contents and their sizes, and emptying it."""

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from convscope import remote
from convscope.datasets import DATASETS
from convscope.datasets.division.kept import FOLDER as DIVISIONS
from convscope.datasets.folders import archives
from convscope.datasets.published.array_cache import MANIFEST
from convscope.datasets.published.collection import ARRAY_NAMES
from convscope.datasets.sharded.store import FOLDER as SHARDS
from convscope.errors import LockTakenError, MissingExtraError, StorageError, UnknownNameError
from convscope.locks import LOCK, exclusive, readers_lock, writer_lock
from convscope.measurements import KINDS as MEASUREMENTS
from convscope.measurements import file_of
from convscope.models.backbones import BACKBONES
from convscope.storage import cache_dir, size_on_disk

_KEY = re.compile(r"\.?[0-9a-f]{16,64}(-.*\.part)?")
"""Folders of packs and of features, and leftovers of a killed process."""

_IN_USE = "in use, a link, or not removable"


@dataclass(frozen=True)
class CachePart:
    """One kind of contents of the cache.

    Attributes:
        kind: Name for `empty_cache`.
        about: Description, and the cost of restoring it.
        path: Folder.
        n_bytes: Size on the disk.
        kept: Whether it is never emptied.
    """

    kind: str
    about: str
    path: Path
    n_bytes: int
    kept: bool = False


@dataclass(frozen=True)
class Emptied:
    """Result of emptying the cache.

    Attributes:
        n_bytes: Freed bytes.
        stay: Entries that could not be removed, each with the reason.
    """

    n_bytes: int
    stay: Mapping[Path, str]


@dataclass(frozen=True)
class _Kind:
    """A kind of contents.

    Attributes:
        about: Description, and the cost of restoring it.
        folder: Folder in the cache.
        entries: Function that lists the entries in that.
        locks: Function that returns the locks of the processes that use an entry.
        require_spare: Function that rejects an entry that could not be restored.
    """

    about: str
    folder: str
    entries: Callable[[Path], Iterable[Path]]
    locks: Callable[[Path], list[Path]]
    require_spare: Callable[[Path], None] = lambda path: None


def _datasets(folder: Path) -> Iterator[Path]:
    own = {MANIFEST, "downloads", *(f"{name}.npy" for name in ARRAY_NAMES)}
    for name in DATASETS.names():
        with contextlib.suppress(OSError):
            inside = list((folder / name).iterdir())
            if all(item.name in own or item.match(".*.part*") for item in inside):
                yield folder / name


def _features(folder: Path) -> Iterator[Path]:
    yield from (path for path in folder.glob("*") if _KEY.fullmatch(path.name))


def _packs(folder: Path) -> Iterator[Path]:
    yield from _features(folder)
    yield from (folder / "index").glob("*.json")


def _weights(folder: Path) -> Iterator[Path]:
    for name in {entry.value.weights.name for entry in BACKBONES.entries()}:
        yield from (folder / name, folder / f"{name}.partial")


def _locks(path: Path) -> list[Path]:
    if path.suffix == ".json":
        return []  # an index only saves time, and is written whole
    return [writer_lock(path), readers_lock(path)]


def _copies_in(path: Path) -> list[Path]:
    return [item for item in path.iterdir() if item.is_dir()]


def _require_there(path: Path) -> None:
    for copy in _copies_in(path):
        remote.require_there(copy)


KINDS = {
    "datasets": _Kind(
        "built-in datasets; downloaded again when needed",
        "datasets",
        _datasets,
        lambda path: [path.with_name(f"{path.name}.lock")],
    ),
    "packs": _Kind("decoded images of your folders; decoded again", "packed", _packs, _locks),
    "archives": _Kind(
        "contents of your archives of images; unpacked again",
        archives.FOLDER,
        _packs,
        _locks,
    ),
    "divisions": _Kind(
        "which images went to which part, and which are near copies; found again",
        DIVISIONS,
        lambda folder: (path for path in folder.glob("*.npz") if _KEY.fullmatch(path.stem)),
        lambda path: [],
    ),
    "features": _Kind(
        "outputs of frozen networks; computed again",
        "features",
        _features,
        _locks,
    ),
    "weights": _Kind(
        "unfinished downloads of weights; finished ones are in Keras' cache",
        "weights",
        _weights,
        lambda path: [path.with_name(f".{path.name.removesuffix('.partial')}.lock")],
    ),
    "shards": _Kind(
        "shards from an address; fetched again when needed",
        SHARDS,
        lambda folder: folder.glob("*/*.npy"),
        lambda path: [],
    ),
    "remote": _Kind(
        "copies of run folders at addresses; fetched again when needed",
        remote.FOLDER,
        lambda folder: (copy.parent for copy in remote.copies()),
        lambda path: [copy / LOCK for copy in _copies_in(path)],
        _require_there,
    ),
}
"""Kinds that can be emptied. Only entries named by convscope are touched: a cache folder may also
hold other files."""


def cache_parts() -> list[CachePart]:
    """Return the contents of the cache, one part per kind, with sizes."""
    root = cache_dir()
    parts = [
        CachePart(
            name,
            kind.about,
            root / kind.folder,
            sum(map(size_on_disk, kind.entries(root / kind.folder))),
        )
        for name, kind in KINDS.items()
    ]
    ledger = root / "ledger"
    parts += [
        *(
            CachePart(kind, about, file_of(kind), size_on_disk(file_of(kind)), kept=True)
            for kind, about in MEASUREMENTS.items()
        ),
        CachePart(
            "ledger",
            "record of test-set uses; kept, since a count that can be reset is worthless",
            ledger,
            size_on_disk(ledger),
            kept=True,
        ),
    ]
    rest = size_on_disk(root) - sum(part.n_bytes for part in parts)
    return [
        *parts,
        CachePart("other", "locks, and files that are not convscope's", root, rest, kept=True),
    ]


def empty_cache(kinds: Iterable[str]) -> Emptied:
    """Remove all entries of some kinds from the cache, except those in use by another process.

    Links are not followed, and stay; so do copies of run folders of which nothing is at their
    address any more, or whose address cannot be reached.

    Args:
        kinds: Names from `KINDS`.

    Raises:
        UnknownNameError: If there is no such kind.
    """
    chosen = list(dict.fromkeys(kinds))
    for name in chosen:
        if name not in KINDS:
            raise UnknownNameError("kind", name, KINDS)
    freed = 0
    stay: dict[Path, str] = {}
    for name in chosen:
        kind = KINDS[name]
        for path in kind.entries(cache_dir() / kind.folder):
            if not os.path.lexists(path):
                continue
            n_bytes = size_on_disk(path)
            if reason := _remove(path, kind):
                stay[path] = reason
            else:
                freed += n_bytes
    return Emptied(freed, stay)


def _remove(path: Path, kind: _Kind) -> str:
    """Remove an entry while no process uses it; return why it stays, or "" if it is gone."""
    if path.is_symlink():
        return _IN_USE
    try:
        with contextlib.ExitStack() as held:
            if not all(
                held.enter_context(exclusive(lock, wait=False)) for lock in kind.locks(path)
            ):
                return _IN_USE  # a file system without locks: use cannot be seen
            try:
                kind.require_spare(path)
            except (StorageError, MissingExtraError) as error:
                return str(error)
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
    except (LockTakenError, StorageError, OSError):
        return _IN_USE
    return ""
