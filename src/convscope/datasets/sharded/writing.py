"""Writing a sharded set from images of any origin, without holding more than a shard of them."""

import contextlib
import hashlib
import json
import math
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from convscope.datasets.folders.pack import CHUNK
from convscope.datasets.folders.parallel import map_ordered
from convscope.datasets.sharded.store import (
    FORMAT,
    INDEX,
    About,
    Index,
    PartEntry,
    Rows,
    ShardEntry,
    fault_of,
    is_index,
)
from convscope.datasets.sharded.unfinished import Note, plan_hash
from convscope.errors import ConfigError, DataError
from convscope.locks import LOCK, exclusive
from convscope.paths import is_address
from convscope.progress import Progress
from convscope.remote import at_address, put_whole
from convscope.storage import atomic_path, cache_dir, npy_header, storage_errors
from convscope.types import Labels, UInt8Array, hashes_of

SHARD_MB = 128
"""Usual size of a shard, in megabytes."""

NEAR = 16
"""Usual number of shards among which images are shuffled."""

_SHARD = re.compile(r"(train|val|test)-[0-9]{5,9}(\.npy|\.done\.npz)")
"""Name of a shard, or of the note beside it."""


@dataclass(frozen=True)
class SourcePart:
    """The images of a part, wherever they are.

    Attributes:
        labels: See `types.Labels`.
        ids: Shape (n_images,), names.
        files: Shape (n_images,), sixteen hex digits of the SHA-256 of each file; None if there are
            no files.
        groups: As `Split.groups`.
        pixels: Function from an index to the pixels, shape (height, width, channels), or to the
            reason why there are none.
    """

    labels: Labels
    ids: npt.NDArray[np.str_]
    files: npt.NDArray[np.str_] | None
    groups: npt.NDArray[np.str_] | None
    pixels: Callable[[int], UInt8Array | str]


@dataclass(frozen=True)
class Source:
    """A set of images to write.

    Attributes:
        name: Name of the data.
        class_names: Names, in the order of the labels.
        image_shape: (height, width, channels) of all images.
        parts: By "train", "val", "test".
        provenance: As `Dataset.provenance`.
        white: As `Dataset.white`.
        decoding: How pixels come from files, which the files do not show.
        n_threads: Number of threads that ask for pixels.
        check: Called at the end with the reasons why images were left out, by name; raises if they
            are too many.
    """

    name: str
    class_names: Sequence[str]
    image_shape: tuple[int, int, int]
    parts: Mapping[str, SourcePart]
    provenance: Mapping[str, str]
    white: int | None
    decoding: str = ""
    n_threads: int = 1
    check: Callable[[dict[str, str]], None] = lambda faults: None


@dataclass(frozen=True)
class Written:
    """A sharded set that was written.

    Attributes:
        place: Folder or address.
        n_images: Number of images.
        n_shards: Number of files of pixels.
        n_bytes: Bytes of these.
        faults: Reasons why images were left out, by name.
    """

    place: str
    n_images: int
    n_shards: int
    n_bytes: int
    faults: dict[str, str]

    @classmethod
    def of(cls, place: Path | str, index: Index, faults: dict[str, str]) -> "Written":
        """Return what an index says of a set."""
        n_images = sum(part.n_images for part in index.parts.values())
        n_shards = sum(len(part.shards) for part in index.parts.values())
        return cls(str(place), n_images, n_shards, n_images * math.prod(index.image_shape), faults)


def write_source(
    source: Source,
    place: Path | str,
    *,
    shard_mb: float = SHARD_MB,
    near: int = NEAR,
    progress: Progress,
) -> Written:
    """Write a set as shards; its index comes last, so an unfinished one is none.

    Within a part the images are in a random order, always the same: each shard is a sample of all.
    A writing that was killed goes on after its last whole shard, if it is repeated with the same
    images and settings; one that is finished is left as it is. In a folder, no other process writes
    meanwhile; at an address nothing keeps it from that.

    Args:
        source: Images.
        place: Folder or address.
        shard_mb: Megabytes of a shard.
        near: Number of shards among which training shuffles images.
        progress: Called with each image.

    Raises:
        ConfigError: If a shard would have no size, or training no shards to shuffle among.
        DataError: If too many images cannot be read, or the place holds something else, such as
            another sharded set.
        LockTakenError: If another process writes into the folder.
        StorageError: If a file cannot be written or sent.
    """
    if not 0 < shard_mb < math.inf:
        raise ConfigError(f"--shard-mb must be above 0, not {shard_mb:g}")
    if near < 1:
        raise ConfigError(f"--near must be at least 1, not {near}")
    about = _about(source)
    per_shard = max(1, int(shard_mb * 1e6) // math.prod(source.image_shape))
    plan = _plan_of(source, per_shard)
    target = _Target(place)
    with target.locked():
        done = target.finished(plan)
        if done is None:
            return _written(source, about, target, per_shard, plan, near, progress)
        progress.say(f"{source.name}: these images are in {place} already")
        if done.near != near:
            target.write_index(done.model_copy(update={"near": near}))
        return Written.of(place, done, {})


def _written(
    source: Source,
    about: About,
    target: "_Target",
    per_shard: int,
    plan: str,
    near: int,
    progress: Progress,
) -> Written:
    """Write what is not there yet of a set."""
    parts: dict[str, PartEntry] = {}
    faults: dict[str, str] = {}
    n_files = sum(len(part.ids) for part in source.parts.values())
    with progress.task(f"Writing {source.name}", n_files, "images") as step:
        for name, part in source.parts.items():
            writing = _Part(name, part, target, per_shard, source.image_shape, plan)
            if writing.shards:
                progress.say(
                    f"{source.name}: {len(writing.shards)} {name} shards are there already"
                )
            faults |= writing.faults
            step(writing.position)
            decoded = map_ordered(writing.read, writing.chunks, source.n_threads)
            with contextlib.closing(decoded) as results:
                for rows, pixels in results:
                    faults |= writing.add(rows, pixels)
                    step(len(rows))
            if not writing.kept:
                raise DataError(
                    f"no {name} image of {source.name} can be read; 'convscope data check' lists "
                    "the reasons"
                )
            parts[name] = writing.finish()
    source.check(faults)
    index = Index(
        format=FORMAT,
        near=near,
        parts=parts,
        plan=plan,
        **about.model_dump(),
    )
    target.write_index(index)
    return Written.of(target.place, index, faults)


def _about(source: Source) -> About:
    """Return what the index will say of a set, before hours of work."""
    try:
        return About(
            name=source.name,
            class_names=list(source.class_names),
            image_shape=list(source.image_shape),
            white=source.white,
            provenance=dict(source.provenance),
        )
    except ValidationError as error:
        raise DataError(f"these images cannot become shards: {fault_of(error)}") from None


def _plan_of(source: Source, per_shard: int) -> str:
    settings = {
        "name": source.name,
        "classes": list(source.class_names),
        "shape": source.image_shape,
        "white": source.white,
        "decoding": source.decoding,
        "provenance": dict(source.provenance),
        "per_shard": per_shard,
    }
    arrays = {
        f"{name} {kind}": array
        for name, part in source.parts.items()
        for kind, array in (
            ("ids", part.ids),
            ("labels", part.labels),
            ("files", part.files),
            ("groups", part.groups),
        )
    }
    return plan_hash(settings, arrays)


def _note_of(shard: str) -> str:
    """Return the name of the note beside a shard."""
    return f"{shard.removesuffix('.npy')}.done.npz"


class _Part:
    """A part that is being written, shard by shard.

    Attributes:
        chunks: Indices of the images that are not done yet, in the order of writing.
        kept: Indices of the images in shards.
        shards: Shards that are written, or were by a writing that was killed.
        position: Number of images that are done.
        faults: Reasons why some of these are in no shard, by name.
    """

    def __init__(
        self,
        name: str,
        part: SourcePart,
        target: "_Target",
        per_shard: int,
        shape: tuple[int, int, int],
        plan: str,
    ) -> None:
        order = np.random.default_rng(0).permutation(len(part.ids))
        self.kept: list[int] = []
        self.shards: list[ShardEntry] = []
        self.position = 0
        self.faults: dict[str, str] = {}
        self._name = name
        self._part = part
        self._target = target
        self._plan = plan
        self._hashes: list[str] = []
        self._faults_since: dict[str, str] = {}
        self._shape = shape
        while (note := self._noted()) is not None:
            self.kept += note.rows.tolist()
            self._hashes += note.hashes
            self.shards.append(note.shard)
            self.position = note.position
            self.faults |= note.faults
        self.chunks = [
            order[start : start + CHUNK] for start in range(self.position, len(order), CHUNK)
        ]
        # One for all shards: many small arrays would not give their memory back.
        self._held = np.empty((min(per_shard, len(order)), *shape), np.uint8)
        self._n_held = 0

    def _noted(self) -> Note | None:
        """Return the note of the next shard, if an earlier writing finished it."""
        file = f"{self._name}-{len(self.shards):05}.npy"
        content = self._target.read(_note_of(file))
        if content is None:
            return None
        note = Note.from_bytes(content, self._plan, self.position, len(self._part.ids))
        if note is None or note.shard.name != file:
            return None
        shape = (note.shard.n_images, *self._shape)
        n_bytes = len(npy_header(shape, np.uint8)) + math.prod(shape)
        return note if self._target.size(file) == n_bytes else None

    def read(
        self, rows: npt.NDArray[np.intp]
    ) -> tuple[npt.NDArray[np.intp], list[UInt8Array | str]]:
        """Decode some images; in any thread."""
        return rows, [self._part.pixels(int(row)) for row in rows]

    def add(self, rows: npt.NDArray[np.intp], pixels: Sequence[UInt8Array | str]) -> dict[str, str]:
        """Add images, write what fills a shard, and return the faults of the others."""
        faults = {}
        for row, image in zip(rows, pixels, strict=True):
            self.position += 1
            if isinstance(image, str):
                faults[str(self._part.ids[row])] = image
                self._faults_since[str(self._part.ids[row])] = image
                continue
            self.kept.append(int(row))
            self._hashes += hashes_of([image])
            self._held[self._n_held] = image
            self._n_held += 1
            if self._n_held == len(self._held):
                self._flush()
        return faults

    def finish(self) -> PartEntry:
        """Write what is left, and the table."""
        if self._n_held:
            self._flush()
        kept, files, groups = np.array(self.kept, np.intp), self._part.files, self._part.groups
        rows = Rows(
            self._part.labels[kept],
            self._part.ids[kept],
            np.array(self._hashes),
            None if files is None else files[kept],
            None if groups is None else groups[kept],
        )
        file = f"{self._name}.npz"
        digest = self._target.write(file, [rows.to_bytes()])
        return PartEntry(rows=file, sha256=digest, shards=self.shards)

    def _flush(self) -> None:
        file = f"{self._name}-{len(self.shards):05}.npy"
        images = self._held[: self._n_held]
        # First, so that a note of another plan never stands beside a shard of this one.
        self._target.remove([_note_of(file)])
        digest = self._target.write(file, [npy_header(images.shape, np.uint8), images.data])
        self.shards.append(ShardEntry(name=file, n_images=len(images), sha256=digest))
        note = Note(
            self.shards[-1],
            np.array(self.kept[-self._n_held :], np.intp),
            self._hashes[-self._n_held :],
            self.position,
            self._faults_since,
        )
        self._target.write(_note_of(file), [note.to_bytes(self._plan)])
        self._n_held, self._faults_since = 0, {}


class _Target:
    """Place to which files are written."""

    def __init__(self, place: Path | str) -> None:
        self.place = place
        if not is_address(place) and Path(place).exists() and not Path(place).is_dir():
            raise DataError(f"{place} is a file; choose another --out")
        index = self.read(INDEX)
        if index is None and _any_foreign(self._names()):
            raise DataError(f"{place} is not empty and holds no sharded set; choose another --out")
        if index is not None and not is_index(index):
            raise DataError(
                f"{place}/{INDEX} is not the index of a sharded set; remove it, or choose another "
                "--out"
            )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing into the same folder."""
        if is_address(self.place):
            yield
            return
        busy = f"{self.place} is being written by another process; wait for it or stop it"
        with exclusive(Path(self.place) / LOCK, wait=False, busy=busy):
            yield

    def finished(self, plan: str) -> Index | None:
        """Return the index of a finished set; None if there is none.

        Raises:
            DataError: If it is of other images or settings.
        """
        content = self.read(INDEX)
        if content is None:
            return None
        with contextlib.suppress(ValidationError):
            index = Index.model_validate_json(content)
            if (index.format, index.plan) == (FORMAT, plan):
                return index
        raise DataError(
            f"{self.place} holds another sharded set (other images or settings); remove it, or "
            "choose another --out"
        )

    def write_index(self, index: Index) -> None:
        """Write the index, which makes it a set, and remove what is no part of it."""
        self.write(INDEX, [(json.dumps(index.model_dump(), indent=1) + "\n").encode()])
        shards = {shard.name for part in index.parts.values() for shard in part.shards}
        self.remove(name for name in self._names() - shards if _SHARD.fullmatch(name))

    def _names(self) -> set[str]:
        """Return the names of the files and folders that are there."""
        if not is_address(self.place):
            with storage_errors(Path(self.place)):
                return {path.name for path in Path(self.place).glob("*")}
        with at_address(str(self.place)) as (fs, root):
            found = fs.ls(root, detail=False) if fs.exists(root) else []
            paths = (path.strip("/") for path in found)
            # Some list the folder itself.
            return {path.rpartition("/")[2] for path in paths if path != root.strip("/")}

    def write(self, name: str, content: Iterable[Any]) -> str:
        """Write a file and return the SHA-256 of its bytes."""
        if not is_address(self.place):
            with atomic_path(Path(self.place) / name) as temporary:
                return _write(temporary, content)
        scratch = cache_dir()
        with storage_errors(scratch):
            scratch.mkdir(parents=True, exist_ok=True)
            work = Path(tempfile.mkdtemp(prefix=".shards-", dir=scratch))
        try:
            with storage_errors(work):
                digest = _write(work / name, content)
            with at_address(str(self.place)) as (fs, root):
                put_whole(fs, work / name, f"{root}/{name}")
            return digest
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None if there is none."""
        if self.size(name) is None:
            return None
        if is_address(self.place):
            with at_address(str(self.place)) as (fs, root):
                return bytes(fs.cat_file(f"{root}/{name}"))
        path = Path(self.place) / name
        with storage_errors(path):
            return path.read_bytes()

    def size(self, name: str) -> int | None:
        """Return the size of a file in bytes; None if there is none."""
        if not is_address(self.place):
            path = Path(self.place) / name
            return path.stat().st_size if path.is_file() else None
        with at_address(str(self.place)) as (fs, root):
            return fs.size(f"{root}/{name}") if fs.exists(f"{root}/{name}") else None

    def remove(self, names: Iterable[str]) -> None:
        """Remove files that may be there."""
        if not is_address(self.place):
            for name in names:
                with storage_errors(Path(self.place) / name):
                    (Path(self.place) / name).unlink(missing_ok=True)
            return
        with at_address(str(self.place)) as (fs, root):
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    fs.rm_file(f"{root}/{name}")


def _write(path: Path, content: Iterable[Any]) -> str:
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for part in content:
            digest.update(part)
            file.write(part)
    return digest.hexdigest()


def _any_foreign(names: Collection[str]) -> bool:
    """Return whether a place holds a file that no unfinished writing leaves behind.

    Args:
        names: Names of all files there. The table of a part is left behind beside its shards only:
            many people call a file train.npz.
    """
    tables = {f"{match[1]}.npz" for name in names if (match := _SHARD.fullmatch(name))}
    return any(
        not (name in tables or _SHARD.fullmatch(name) or PurePath(name).match(".*.part*"))
        for name in names
        if name != LOCK
    )
