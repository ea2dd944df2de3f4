"""Shards of decoded images: written once, read from a disk, or fetched from an address when needed.

A sharded set is a folder, here or at an address that fsspec reaches:

    shards.json         classes, size of the images, provenance, hashes of all other files
    train.npz           names, labels, hashes and groups of the images of a part, in the order of
                        the shards
    train-00000.npy     their pixels, shape (n_images, height, width, channels), uint8

Fetched shards are kept in the cache folder as long as there is room: those used longest ago make
room for others.
"""

import contextlib
import hashlib
import io
import itertools
import math
import os
import shutil
import threading
import zipfile
import zlib
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from convscope.errors import DataError, IntegrityError, StorageError
from convscope.images.deep import WHITES
from convscope.images.fit import MAX_SIDE
from convscope.npz import require_sound
from convscope.paths import is_address
from convscope.remote import at_address, get_whole, read_at_most
from convscope.storage import cache_dir, object_in, storage_errors
from convscope.types import UInt8Array
from convscope.wording import composed, first_line, has_controls, printable

INDEX = "shards.json"

FORMAT = 1
"""Version of the layout; raised when an older convscope could misread it."""

FOLDER = "shards"
"""Folder of the fetched shards in the cache folder."""

SPACE_VARIABLE = "CONVSCOPE_SHARDS_GB"

_MOST_OPEN = 64
"""Shards that are mapped at a time."""

_AT_ONCE = 4
"""Shards that are fetched at a time, before their turn."""

_TRIES = 3

_INDEX_BYTES = 2**28
"""Most bytes of the index: those of more than a million shards."""

_ROW_BYTES = 1_000
"""Most bytes of an image in a table, on average."""

_HEADER_BYTES = 2**16
"""Most bytes of a file of pixels beside its pixels."""

_DAMAGE = (
    *(OSError, ValueError, KeyError, EOFError, MemoryError),
    *(zipfile.BadZipFile, zlib.error),
)

_intact: set[tuple[str | int, ...]] = set()
"""Files whose hash was right, each as it was then, so that a process hashes it once."""

_Strict = ConfigDict(extra="forbid", frozen=True, strict=True)
_FileName = Field(pattern=r"^(train|val|test)(-[0-9]{5,9}\.npy|\.npz)$")
_Hash = Field(pattern="^[0-9a-f]{64}$")


class ShardEntry(BaseModel):
    """A file of pixels.

    Attributes:
        name: Name of the file.
        n_images: Number of images in it.
        sha256: Hash of its bytes.
    """

    model_config = _Strict
    name: str = _FileName
    n_images: int = Field(gt=0)
    sha256: str = _Hash


class PartEntry(BaseModel):
    """A part of the set.

    Attributes:
        rows: Name of the table of its images.
        sha256: Hash of that file's bytes.
        shards: Files of its pixels, in order.
    """

    model_config = _Strict
    rows: str = _FileName
    sha256: str = _Hash
    shards: list[ShardEntry] = Field(min_length=1)

    @property
    def n_images(self) -> int:
        """Number of images."""
        return sum(shard.n_images for shard in self.shards)


class About(BaseModel):
    """What a sharded set says of itself, beside its files.

    Attributes:
        name: Name of the data, which may become part of the name of a folder.
        class_names: Names, in the order of the labels.
        image_shape: [height, width, channels] of all images.
        white: As `Dataset.white`.
        provenance: As `Dataset.provenance`.
    """

    model_config = _Strict
    name: str = Field(max_length=255)
    class_names: list[str] = Field(min_length=1)
    image_shape: list[int] = Field(min_length=3, max_length=3)
    white: int | None = None
    provenance: dict[str, str] = {}

    @field_validator("name")
    @classmethod
    def _be_a_name(cls, name: str) -> str:
        if name in ("", ".", "..") or "/" in name or "\\" in name or has_controls(name):
            raise ValueError(f"'{printable(name)}' is no name")
        return name

    @field_validator("class_names")
    @classmethod
    def _be_distinct(cls, names: list[str]) -> list[str]:
        for name in names:
            if has_controls(name):
                raise ValueError(f"'{printable(name)}' has control characters")
        (name, count), *_ = Counter(map(composed, names)).most_common(1)
        if count > 1:
            raise ValueError(f"'{name}' is there {count} times")
        return names

    @field_validator("image_shape")
    @classmethod
    def _be_an_image(cls, shape: list[int]) -> list[int]:
        height, width, channels = shape
        if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE and channels in (1, 3)):
            raise ValueError(f"no image is {height} x {width} pixels of {channels} channels here")
        return shape

    @field_validator("white")
    @classmethod
    def _be_a_white(cls, white: int | None) -> int | None:
        if white is not None and white not in WHITES:
            raise ValueError(f"{white} is no white")
        return white


class Index(About):
    """Contents of `shards.json`.

    Attributes:
        format: `FORMAT`.
        near: Number of shards among which images are shuffled.
        parts: By "train", "val", "test"; at least "train".
        plan: Hash of the images and settings from which it was written; "" if it is not known.
    """

    format: int
    near: int = Field(gt=0)
    plan: str = ""
    parts: dict[Literal["train", "val", "test"], PartEntry]


@dataclass(frozen=True)
class Rows:
    """Names, labels, hashes and groups of the images of a part, in the order of its shards.

    Attributes:
        labels: See `types.Labels`.
        ids: Shape (n_images,), names.
        hashes: Shape (n_images,), sixteen hex digits of the SHA-256 of the pixels.
        files: Shape (n_images,), the same of the files that they were decoded from; None where
            there were none.
        groups: As `Split.groups`.
    """

    labels: npt.NDArray[Any]
    ids: npt.NDArray[np.str_]
    hashes: npt.NDArray[np.str_]
    files: npt.NDArray[np.str_] | None
    groups: npt.NDArray[np.str_] | None = None

    def to_bytes(self) -> bytes:
        """Return the content of the file that holds them."""
        arrays: dict[str, Any] = {"labels": self.labels, "ids": self.ids, "hashes": self.hashes}
        further = {"files": self.files, "groups": self.groups}
        arrays |= {name: array for name, array in further.items() if array is not None}
        held = io.BytesIO()
        np.savez_compressed(held, **arrays)
        return held.getvalue()

    def fit(self, n_images: int, n_classes: int) -> bool:
        """Return whether they are a name, a hash and labels of such classes for each image."""
        further = [each for each in (self.files, self.groups) if each is not None]
        texts = [self.ids, self.hashes, *further]
        if any(each.shape != (n_images,) or each.dtype.kind != "U" for each in texts):
            return False
        labels = self.labels
        if labels.dtype == np.uint8:
            return bool(labels.shape == (n_images, n_classes) and labels.max(initial=0) <= 1)
        if labels.dtype != np.int64 or labels.shape != (n_images,):
            return False
        return bool(labels.min() >= 0 and labels.max() < n_classes)

    @classmethod
    def read(cls, content: bytes, n_images: int) -> "Rows":
        """Return the rows in a file's content, which is to be of so many images."""
        stream = io.BytesIO(content)
        require_sound(stream, n_images)
        with np.load(stream, allow_pickle=False) as held:
            further = held.get("files"), held.get("groups")
            return cls(held["labels"], held["ids"], held["hashes"], *further)


def fault_of(error: ValidationError) -> str:
    """Return the first fault of an index, in a line."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"])) or "its content"
    return printable(f"{where}: {first['msg'].removeprefix('Value error, ')}")


def is_index(content: bytes) -> bool:
    """Return whether a file's content looks like that of `shards.json`, of whatever version."""
    return object_in(content).keys() >= {"format", "class_names", "parts"}


def is_sharded(data: Path | str) -> bool:
    """Return whether `--data` names a sharded set: an address, or a folder with its index."""
    return is_address(data) or (Path(data) / INDEX).is_file()


class Store:
    """The files of a sharded set.

    Args:
        place: Folder, or address.

    Attributes:
        index: What is in it.

    Raises:
        DataError: If there is no sharded set, or its index makes no sense.
        StorageError: If the address cannot be reached.
    """

    def __init__(self, place: Path | str) -> None:
        self.place = place
        content = self._read(INDEX, _INDEX_BYTES)
        # Before the rest: a newer format may have entries that this one does not know.
        version = object_in(content).get("format")
        if isinstance(version, int) and version > FORMAT:
            raise DataError(f"{self.place} was made by a newer convscope; upgrade convscope")
        try:
            self.index = Index.model_validate_json(content)
        except ValidationError as error:
            raise DataError(f"{self.place}/{INDEX} is damaged: {fault_of(error)}") from None
        if "train" not in self.index.parts:
            raise DataError(f"{self.place}/{INDEX} is damaged: it names no training images")
        self.sha256 = hashlib.sha256(content).hexdigest()
        self._folder = cache_dir() / FOLDER / self.sha256[:32]
        self._open: OrderedDict[str, UInt8Array] = OrderedDict()
        self._guard = threading.RLock()
        self._room = threading.Lock()
        self._on_the_way = 0  # bytes of shards that are being fetched
        self._windows: dict[str, Sequence[ShardEntry]] = {}
        self._then: dict[str, Sequence[ShardEntry]] = {}
        self._ahead: dict[str, Future[Path]] = {}
        self._pool = ThreadPoolExecutor(_AT_ONCE, "shards")

    def rows(self, part: Literal["train", "val", "test"]) -> Rows:
        """Return the table of a part.

        Raises:
            IntegrityError: If it is not the one of the index.
        """
        entry = self.index.parts[part]
        content = self._read(entry.rows, _HEADER_BYTES + _ROW_BYTES * entry.n_images)
        _require_hash(f"{self.place}/{entry.rows}", hashlib.sha256(content), entry.sha256)
        try:
            rows = Rows.read(content, entry.n_images)
        except _DAMAGE as error:
            raise IntegrityError(
                f"{self.place}/{entry.rows} cannot be read as a table ({first_line(error)})"
            ) from None
        if not rows.fit(entry.n_images, len(self.index.class_names)):
            raise IntegrityError(_unlike(f"{self.place}/{entry.rows}"))
        return rows

    def pixels(self, shard: ShardEntry) -> UInt8Array:
        """Return the images of a shard, memory-mapped, after fetching it if needed.

        Raises:
            IntegrityError: If it is not the one of the index.
            StorageError: If it cannot be read or fetched, or there is no room for it.
        """
        with self._guard:
            if (known := self._open.get(shard.name)) is not None:
                with contextlib.suppress(KeyError):  # dropped this moment, for want of room
                    self._open.move_to_end(shard.name)
                return known
            if (ahead := self._ahead.pop(shard.name, None)) is not None:
                ahead.exception()  # met again below, where it is ours to report
            images = self._mapped(shard)
            self._fetch_ahead(self._then.get(shard.name, ()))
            if (
                images.shape != (shard.n_images, *self.index.image_shape)
                or images.dtype != np.uint8
            ):
                raise IntegrityError(_unlike(f"{self.place}/{shard.name}"))
            self._open[shard.name] = images
            while len(self._open) > _MOST_OPEN:
                self._open.popitem(last=False)
            return images

    def _mapped(self, shard: ShardEntry) -> UInt8Array:
        """Map a shard; of an address, those of its window count as just used."""
        if not is_address(self.place):
            return _load(self._checked(shard))
        for mate in self._windows.get(shard.name, ()):
            with contextlib.suppress(OSError):
                os.utime(self._folder / mate.name)
        for _ in range(_TRIES):
            path = self._fetched(shard)
            # Another process may drop it in this moment, for want of room.
            with contextlib.suppress(FileNotFoundError):
                return _load(path)
        raise StorageError(
            f"there is so little room in {self._folder.parent} that shards are dropped before they "
            f"are read; set {SPACE_VARIABLE} to more gigabytes"
        )

    def expect(self, shards: Sequence[ShardEntry]) -> None:
        """Learn the order in which shards will be asked for, to fetch each before its turn.

        Those of the first window at once; those of the next, where there is room for both, as soon
        as the first of a window is asked for.
        """
        if not is_address(self.place):
            return
        near, largest = self.index.near, max(map(self.n_bytes, shards))
        windows = [shards[start : start + near] for start in range(0, len(shards), near)]
        with self._guard:
            self._windows = {shard.name: window for window in windows for shard in window}
            self._then = {}
            if 2 * near * largest <= _space(self._used()):
                for window, following in itertools.pairwise(windows):
                    self._then |= {shard.name: following for shard in window}
            self._fetch_ahead(windows[0])

    def _fetch_ahead(self, shards: Sequence[ShardEntry]) -> None:
        for shard in shards:
            if shard.name not in self._ahead and shard.name not in self._open:
                self._ahead[shard.name] = self._pool.submit(self._fetched_ahead, shard)

    def _fetched_ahead(self, shard: ShardEntry) -> Path:
        # At its end, Python waits for all that a pool has accepted, after Ctrl-C too. By then a
        # pool refuses more: that refusal, an error, ends what has not begun.
        self._pool.submit(int)
        return self._fetched(shard)

    def n_bytes(self, shard: ShardEntry) -> int:
        """Return the bytes of the pixels of a shard."""
        return shard.n_images * math.prod(self.index.image_shape)

    def _checked(self, shard: ShardEntry) -> Path:
        path = Path(self.place) / shard.name
        try:
            status = path.stat()
            # The change time too: another file may be given the size and times of this one.
            times = (status.st_mtime_ns, status.st_ctime_ns)
            known = (status.st_dev, status.st_ino, status.st_size, *times, shard.sha256)
            if known not in _intact:
                self._require_intact(shard, path)
                _intact.add(known)
        except OSError as error:
            raise StorageError(f"{path} cannot be read ({error.strerror})") from None
        return path

    def _fetched(self, shard: ShardEntry) -> Path:
        path = self._folder / shard.name
        with storage_errors(path):
            self._folder.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                os.utime(path)
                return path
            with self._reserved(self.n_bytes(shard)):
                self._download(shard, path)
        return path

    def _download(self, shard: ShardEntry, path: Path) -> None:
        with at_address(str(self.place)) as (fs, root):
            source = f"{root}/{shard.name}"
            most = self.n_bytes(shard) + _HEADER_BYTES
            get_whole(fs, source, path, lambda part: self._require_intact(shard, part), most)

    def _require_intact(self, shard: ShardEntry, path: Path) -> None:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256")
        _require_hash(f"{self.place}/{shard.name}", found, shard.sha256)

    @contextlib.contextmanager
    def _reserved(self, n_bytes: int) -> Iterator[None]:
        """Keep room for a shard while it is on its way."""
        with self._room:
            self._make_room(n_bytes)
            self._on_the_way += n_bytes
        try:
            yield
        finally:
            with self._room:
                self._on_the_way -= n_bytes

    def _held(self) -> list[tuple[int, int, Path]]:
        """Return when each fetched shard was used last, its bytes, and its path."""
        held = []
        for path in self._folder.parent.glob("*/*.npy"):
            with contextlib.suppress(OSError):
                status = path.stat()
                held.append((status.st_mtime_ns, status.st_size, path))
        return held

    def _used(self) -> int:
        return sum(size for _, size, _ in self._held())

    def _make_room(self, n_bytes: int) -> None:
        """Remove the fetched shards that were used longest ago, until there is room for another."""
        held = self._held()
        used = sum(size for _, size, _ in held) + self._on_the_way
        limit = _space(used)
        if n_bytes > limit:
            raise StorageError(
                f"a shard of {self.place} needs {n_bytes / 1e6:,.0f} MB, and only "
                f"{limit / 1e6:,.0f} MB may be used in {self._folder.parent}; set "
                f"{SPACE_VARIABLE} to more gigabytes, or CONVSCOPE_CACHE to a folder on a larger "
                "disk"
            )
        for _, size, path in sorted(held):
            if used + n_bytes <= limit:
                break
            # A process that has it mapped keeps it, until it lets go.
            self._open.pop(path.name, None)
            with contextlib.suppress(OSError):
                path.unlink()
                used -= size

    def _read(self, name: str, most: int) -> bytes:
        """Return the content of a small file, which has at most so many bytes."""
        content = self._content(name, most)
        if len(content) > most:
            raise DataError(
                f"{self.place}/{name} is larger than {most / 1e6:,.1f} MB; is it damaged?"
            )
        return content

    def _content(self, name: str, most: int) -> bytes:
        """Return the content of a small file, of a larger one a byte more than `most`."""
        if not is_address(self.place):
            path = Path(self.place) / name
            try:
                with path.open("rb") as file:
                    return file.read(most + 1)
            except OSError as error:
                raise DataError(f"{path} cannot be read ({error.strerror})") from None
        try:
            with at_address(str(self.place)) as (fs, root):
                return read_at_most(fs, f"{root}/{name}", most)
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise DataError(
                    f"there is no sharded set at {self.place}; make one with: convscope data shards"
                ) from None
            raise


def _load(path: Path) -> UInt8Array:
    try:
        images: UInt8Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise StorageError(f"{path} cannot be read ({error})") from None
    return images


class ShardImages:
    """The images of one shard, fetched when they are asked for.

    Args:
        store: Store of the set.
        shard: Shard.
    """

    def __init__(self, store: Store, shard: ShardEntry) -> None:
        self._store = store
        self._shard = shard
        self.shape = (shard.n_images, *store.index.image_shape)
        self.ndim = 4
        self.dtype = np.dtype(np.uint8)

    def __len__(self) -> int:
        return self._shard.n_images

    @staticmethod
    def expect(parts: "Sequence[ShardImages]") -> None:
        """Tell the store of shards in which order they will be asked for."""
        parts[0]._store.expect([part._shard for part in parts])

    def __getitem__(self, key: Any) -> UInt8Array:
        """Return images; of a slice, mapped."""
        images: UInt8Array = self._store.pixels(self._shard)[key]
        return images


def _require_hash(name: str, found: Any, wanted: str) -> None:
    if found.hexdigest() != wanted:
        raise IntegrityError(f"{name} is damaged: its hash is not the one in {INDEX}")


def _unlike(name: str) -> str:
    return f"{name} does not match {INDEX} (number, size or labels of images)"


def _space(used: int) -> float:
    """Return the bytes that fetched shards may take: of $CONVSCOPE_SHARDS_GB, or half of the disk.

    Raises:
        StorageError: If the variable is no number.
    """
    given = os.environ.get(SPACE_VARIABLE)
    if given:
        try:
            chosen = float(given)
        except ValueError:
            chosen = -1.0
        if not 0 < chosen < math.inf:
            raise StorageError(f"{SPACE_VARIABLE} is '{given}'; give a number of gigabytes")
        return chosen * 1e9
    place = cache_dir()
    with storage_errors(place):
        place.mkdir(parents=True, exist_ok=True)
        return (shutil.disk_usage(place).free + used) / 2
