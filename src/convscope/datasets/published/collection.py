"""Description of a downloadable dataset: its arrays, their checks, and places to find it."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Protocol

import numpy as np

from convscope.errors import ConvscopeError, IntegrityError
from convscope.progress import Progress
from convscope.types import UInt8Array


@dataclass(frozen=True)
class Parts:
    """The four arrays of a published dataset.

    Attributes:
        train_images: Shape (n_train, height, width, channels).
        train_labels: Shape (n_train,), class indices.
        test_images: Shape (n_test, height, width, channels).
        test_labels: Shape (n_test,), class indices.
    """

    train_images: UInt8Array
    train_labels: UInt8Array
    test_images: UInt8Array
    test_labels: UInt8Array

    def arrays(self) -> dict[str, UInt8Array]:
        """Return the four arrays by name, in a fixed order."""
        return {name: getattr(self, name) for name in ARRAY_NAMES}


ARRAY_NAMES = tuple(item.name for item in fields(Parts))

Reader = Callable[[Path, Progress], Parts]


@dataclass(frozen=True)
class LocalForm:
    """One form in which a dataset may be found in a folder.

    Attributes:
        files: Names below the folder. One of them suffices to recognise it; `read` reports which
            others are missing.
        read: Function that reads the folder, and raises `IntegrityError` if anything is wrong.
        subfolders: Folders below a searched one where the files may be.
    """

    files: tuple[str, ...]
    read: Reader
    subfolders: tuple[str, ...] = (".",)


class Source(Protocol):
    """Place to download a dataset from."""

    @property
    def origin(self) -> str:
        """Name for people: a URL, or the name of a package."""

    def fetch(self, folder: Path, progress: Progress) -> Parts:
        """Download into `folder`, which may hold parts of an earlier attempt, and decode.

        Raises:
            DownloadError: If it cannot be reached.
            IntegrityError: If the download is wrong.
            StorageError: If `folder` cannot hold it.
        """


def digest_bytes(array: UInt8Array) -> str:
    """Return the SHA-256 of an array's bytes, as hex digits."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


@dataclass(frozen=True)
class Collection:
    """A published dataset: its contents, and where to look for it.

    Attributes:
        name: Registered name; also that of its folder in the cache.
        class_names: Names in the order of the labels.
        image_shape: Shape of an image, (height, width, channels).
        n_train: Number of training images.
        n_test: Number of test images.
        forms: Forms to look for in folders, in order of preference.
        sources: Places to download it from, in order of preference.
        licence: Licence, as stated by its authors.
        citation: Citation that its authors wish.
        manual_download: File that a user without a network should put into `--data-dir`.
        sha256: Digest of each array, by its name in `Parts`. Empty if none is published: then every
            form and source has to check the MD5 of the official files by itself.
        digest: Function that computes `sha256`.
        system_folders: Folders where operating systems install the dataset.
    """

    name: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    n_train: int
    n_test: int
    forms: tuple[LocalForm, ...]
    sources: tuple[Source, ...]
    licence: str
    citation: str
    manual_download: str
    sha256: Mapping[str, str] = field(default_factory=dict)
    digest: Callable[[UInt8Array], str] = digest_bytes
    system_folders: tuple[Path, ...] = ()

    def check(self, parts: Parts, recorded: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the digests of `parts` after comparing them with the expected ones.

        Args:
            parts: Arrays that were read.
            recorded: Digests that were correct before, for a dataset without published ones.

        Raises:
            IntegrityError: If shape, range or digest is wrong.
        """
        shapes = {
            "train_images": (self.n_train, *self.image_shape),
            "train_labels": (self.n_train,),
            "test_images": (self.n_test, *self.image_shape),
            "test_labels": (self.n_test,),
        }
        expected = self.sha256 or recorded or {}
        found: dict[str, str] = {}
        for name, array in parts.arrays().items():
            what = name.replace("_", " ")
            if array.dtype != "uint8" or array.shape != shapes[name]:
                raise IntegrityError(
                    f"the {what} are {array.dtype} of shape {array.shape}, not uint8 of shape "
                    f"{shapes[name]}"
                )
            found[name] = self.digest(array)
            if name in expected and found[name] != expected[name]:
                raise IntegrityError(
                    f"the {what} are not those of {self.name}: "
                    f"sha256 {_short(found[name])}, expected {_short(expected[name])}"
                )
            if name.endswith("labels") and array.size and array.max() >= len(self.class_names):
                raise IntegrityError(
                    f"the {what} go up to {array.max()}, but {self.name} has "
                    f"{len(self.class_names)} classes"
                )
        return found


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn any exception of a parser on the bytes of `path` into one clear line.

    Raises:
        IntegrityError: If the body raises anything but convscope's own errors.
    """
    try:
        yield
    except (ConvscopeError, MemoryError):
        raise
    except Exception as error:
        # Damaged bytes make unpicklers and decoders raise almost anything.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise IntegrityError(
            f"{path} cannot be read ({reason}); it is damaged or in another format"
        ) from error


def require_md5(path: Path, expected: str) -> None:
    """Compare a file with its published MD5.

    Raises:
        IntegrityError: If they differ.
    """
    with reading(path), path.open("rb") as stream:
        found = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        size = stream.tell()
    if found != expected:
        raise IntegrityError(
            f"{path} is not the published file (truncated, damaged or repacked): "
            f"{size:,} bytes with md5 {found}, expected {expected}"
        )


def _short(digest: str) -> str:
    return f"{digest[:12]}..."
