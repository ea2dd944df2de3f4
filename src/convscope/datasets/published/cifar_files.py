"""The two official forms of CIFAR: pickled batches and binary batches, in a folder or a tar."""

import hashlib
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from convscope.datasets.published._unpickle import unpickle_batch
from convscope.datasets.published.collection import LocalForm, Parts, reading, require_md5
from convscope.errors import IntegrityError
from convscope.progress import Progress
from convscope.types import UInt8Array

SIDE = 32
_PIXELS = 3 * SIDE * SIDE
# An official batch has 31 to 155 MB; more than this is not one.
_LARGEST_BYTES = 400_000_000

Batch = tuple[UInt8Array, UInt8Array]


def parse_pickled(label_key: bytes) -> Callable[[bytes], Batch]:
    """Return a parser of pickled batches whose labels are called `label_key`."""

    def parse(data: bytes) -> Batch:
        batch = unpickle_batch(data)
        for key in (b"data", label_key):
            if key not in batch:
                raise IntegrityError(f"it has no {key.decode()!r}")
        labels = np.asarray(batch[label_key], dtype=np.uint8)
        return _channels_last(np.asarray(batch[b"data"], dtype=np.uint8)), labels

    return parse


def parse_binary(data: bytes) -> Batch:
    """Parse CIFAR-10's binary batches: per image one byte of label, then 3,072 of pixels.

    Returns:
        Images of shape (n, 32, 32, 3) and labels of shape (n,).
    """
    records = np.frombuffer(data, np.uint8).reshape(-1, 1 + _PIXELS)
    return _channels_last(records[:, 1:]), records[:, 0].copy()


def _channels_last(flat: UInt8Array) -> UInt8Array:
    planes = flat.reshape(-1, 3, SIDE, SIDE)  # (n, channels, height, width)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1))


@dataclass(frozen=True)
class BatchFiles:
    """Files that hold the images, in the official order, and their parser.

    Attributes:
        folder: Folder of the files in the official archive.
        train: Files of the training part.
        test: File of the test part.
        parse: Function from the bytes of a file to images and labels.
        md5: MD5 of each file, for files that must be checked before they are parsed.
    """

    folder: str
    train: tuple[str, ...]
    test: str
    parse: Callable[[bytes], Batch]
    md5: Mapping[str, str] = field(default_factory=dict)

    def unpacked(self) -> LocalForm:
        """Return the form of an extracted archive."""
        return LocalForm((*self.train, self.test), self.read_folder, (".", self.folder))

    def packed(self, name: str, md5: str) -> LocalForm:
        """Return the form of an archive called `name`, whose MD5 must be `md5`."""

        def read(folder: Path, progress: Progress) -> Parts:
            require_md5(folder / name, md5)
            return self.read_archive(folder / name, progress)

        return LocalForm((name,), read)

    def read_folder(self, folder: Path, progress: Progress) -> Parts:
        """Read the files in `folder`.

        Raises:
            IntegrityError: If one is missing or damaged.
        """
        missing = [name for name in (*self.train, self.test) if not (folder / name).is_file()]
        if missing:
            raise IntegrityError(f"{folder} lacks {', '.join(missing)}")

        def files() -> Iterator[tuple[str, bytes]]:
            for name in (*self.train, self.test):
                if (folder / name).stat().st_size > _LARGEST_BYTES:
                    raise IntegrityError(f"{folder / name} is too large for a CIFAR batch")
                yield name, (folder / name).read_bytes()

        return self._assemble(files(), folder, progress)

    def read_archive(self, archive: Path, progress: Progress) -> Parts:
        """Read the files out of a tar archive, without extracting it to disk.

        Raises:
            IntegrityError: If one is missing or damaged.
        """

        def files() -> Iterator[tuple[str, bytes]]:
            with tarfile.open(archive, "r:*") as tar:
                for member in tar:
                    path = PurePosixPath(member.name)
                    if not member.isfile() or path.parent.name != self.folder:
                        continue
                    if path.name not in (*self.train, self.test):
                        continue
                    if member.size > _LARGEST_BYTES:
                        raise IntegrityError(f"{path} in {archive} is too large for a CIFAR batch")
                    stream = tar.extractfile(member)
                    if stream is not None:
                        yield path.name, stream.read()

        return self._assemble(files(), archive, progress)

    def _assemble(
        self, files: Iterator[tuple[str, bytes]], where: Path, progress: Progress
    ) -> Parts:
        batches: dict[str, Batch] = {}
        with reading(where), progress.task(f"Reading {where.name}", None, "images") as step:
            for name, data in files:
                self._check(name, data, where)
                try:
                    batches[name] = self.parse(data)
                except IntegrityError as error:
                    raise IntegrityError(f"{name} in {where}: {error}") from error
                step(len(batches[name][1]))
            missing = [name for name in (*self.train, self.test) if name not in batches]
            if missing:
                raise IntegrityError(f"{where} lacks {', '.join(missing)}")
            train = [batches[name] for name in self.train]
            return Parts(
                np.concatenate([images for images, _ in train]),
                np.concatenate([labels for _, labels in train]),
                *batches[self.test],
            )

    def _check(self, name: str, data: bytes, where: Path) -> None:
        expected = self.md5.get(name)
        found = hashlib.md5(data, usedforsecurity=False).hexdigest() if expected else None
        if found != expected:
            raise IntegrityError(
                f"{name} in {where} is truncated or damaged: {len(data):,} bytes with md5 {found}, "
                f"expected {expected}"
            )
