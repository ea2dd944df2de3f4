"""Decoded images in one memory-mapped file: made once, read in any order.

Nothing is written into the user's folder. A pack is at `cache_dir()/packed/<key>`; the key is made
of each file's path and content, the decoder and the size, so other content has another key. A pack
is written under a temporary name and renamed when it is complete.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import PIL

from convscope.datasets.folders._pack_store import (
    MANIFEST,
    alone,
    drop_superseded,
    read_manifest,
    sweep,
)
from convscope.datasets.folders.parallel import map_ordered, n_workers
from convscope.datasets.folders.scan import FileFacts, read_bytes
from convscope.errors import DataError, ImageError, StorageError
from convscope.images.containers import reader_version
from convscope.images.decode import DECODER_VERSION, decode_image
from convscope.images.fit import Fit
from convscope.images.formats import may_pass
from convscope.progress import Progress
from convscope.storage import FOLDER_MODE, cache_dir, npy_header, storage_errors, write_text
from convscope.types import UInt8Array, hashes_of

IN_MEMORY_BYTES = 2 * 2**30
"""Largest number of bytes held in memory if the cache cannot be written to."""

CHUNK = 16
"""Images that a thread decodes at a time."""

_IMAGES = "images.npy"
# Measured: two threads pack images of 128 x 128 pixels as fast as one, larger ones faster.
_WORTHWHILE_PIXELS = 128 * 128


@dataclass(frozen=True)
class Pack:
    """The decoded images of a list of files.

    Attributes:
        images: Shape (n_kept, height, width, channels), uint8, read-only; memory-mapped unless the
            cache could not be written to.
        hashes: Hash of the pixels of each image, as `Split.hashes`.
        kept: Shape (n_kept,), index of the file of each image.
        faults: Reason why an image was left out, by file name.
        notes: Lines for the user.
    """

    images: UInt8Array
    hashes: list[str]
    kept: npt.NDArray[np.intp]
    faults: dict[str, str]
    notes: tuple[str, ...] = ()


def pack_images(
    root: Path,
    files: Sequence[FileFacts],
    *,
    size: tuple[int, int],
    channels: int,
    fit: Fit = "squash",
    white: int | None = None,
    progress: Progress,
) -> Pack:
    """Decode the images of a folder, or open those that were decoded before.

    Args:
        root: Folder, which is only read.
        files: Result of `scan_files`; the images come in this order.
        size: (height, width) of every image in the pack.
        channels: Number of channels, 1 or 3.
        fit: Method of fitting images of another aspect ratio.
        white: White of images that do not define it.
        progress: Called with each image that is decoded.

    Raises:
        DataError: If no image can be read, or a file changes meanwhile.
        StorageError: If the disk is full, or if the cache cannot be written to and the images need
            more than `IN_MEMORY_BYTES`.
    """
    work = _Work(root, files, size, channels, fit, white)
    packed = cache_dir() / "packed"
    final = packed / work.key
    # Packs appear as a whole, so an existing one may be read without a lock.
    if (pack := _open(final, work)) is not None:
        return pack
    try:
        with alone(packed, work.key, progress) as held:
            # Another process may have made it while this one waited.
            if (pack := _open(final, work)) is not None:
                return pack
            if held:
                sweep(packed, work.key)
            _make(final, work, progress)
            made = _open(final, work)
            if made is not None:
                drop_superseded(packed, final)
    except (StorageError, OSError) as error:
        if not _is_refusal(error if isinstance(error, OSError) else error.__cause__):
            raise
        return _in_memory(work, packed, error, progress)
    if made is None:
        raise StorageError(
            f"{final} cannot be mapped into memory; set CONVSCOPE_CACHE to a folder on a local disk"
        )
    return made


def n_decoders(files: Sequence[FileFacts]) -> int:
    """Return the number of threads with which it is quickest to decode files."""
    pixels = [file.height * file.width for file in files if not file.fault]
    return n_workers(float(np.median(pixels or [0])), worthwhile=_WORTHWHILE_PIXELS)


def decode_file(
    root: Path,
    file: FileFacts,
    *,
    size: tuple[int, int],
    channels: int,
    fit: Fit,
    white: int | None,
) -> UInt8Array | str:
    """Return the pixels of a file, or the reason why it has none; parameters as `pack_images`.

    Raises:
        DataError: If the file has changed since it was scanned, or cannot be read at the moment:
            only what the decoder refuses is a reason that holds for as long as the file.
    """
    if file.fault:
        return file.fault
    try:
        content = read_bytes(root, file.name)
        if hashlib.sha256(content).hexdigest() == file.digest:
            return decode_image(
                content, channels=channels, size=size, fit=fit, white=white, name=file.name
            )
    except ImageError as error:
        if may_pass(error):
            raise DataError(f"{root}: {error}, but could be before; try again") from error
        return str(error)
    raise DataError(f"{root / file.name} changed while it was being read; try again")


class _Work:
    """Images to pack."""

    def __init__(
        self,
        root: Path,
        files: Sequence[FileFacts],
        size: tuple[int, int],
        channels: int,
        fit: Fit,
        white: int | None,
    ) -> None:
        self.root = root
        self.files = files
        self.size = size
        self.channels = channels
        self.fit = fit
        self.white = white
        self.shape = (len(files), *size, channels)
        self.key = self._key()

    def _key(self) -> str:
        # Another Pillow may bring another JPEG decoder, and with it other pixels.
        head = [DECODER_VERSION, PIL.__version__, *self.size, self.channels, self.white]
        # What was packed before there were others was squashed, and stays valid.
        if self.fit != "squash":
            head.append(self.fit)
        if any(file.format == "HEIF" for file in self.files):
            head.append(reader_version("HEIF"))
        digest = hashlib.sha256(json.dumps(head).encode())
        for file in self.files:
            # With the fault: a picture whose reader was installed meanwhile has none any more.
            line = f"{file.name}\0{file.n_bytes}\0{file.digest}\0{file.fault}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()[:32]

    def outcomes(self, progress: Progress) -> Generator[UInt8Array | str, None, None]:
        """Yield the pixels of each file, in order, or the reason why it has none."""
        workers = n_decoders(self.files)
        starts = range(0, len(self.files), CHUNK)
        chunks = (self.files[start : start + CHUNK] for start in starts)
        with (
            progress.task(f"Packing {self.root.name}", len(self.files), "images") as step,
            contextlib.closing(map_ordered(self._decode, chunks, workers)) as results,
        ):
            for chunk in results:
                yield from chunk
                step(len(chunk))

    def _decode(self, chunk: Sequence[FileFacts]) -> list[UInt8Array | str]:
        return [
            decode_file(
                self.root,
                file,
                size=self.size,
                channels=self.channels,
                fit=self.fit,
                white=self.white,
            )
            for file in chunk
        ]

    def result(self, images: UInt8Array, faults: dict[str, str], *notes: str) -> Pack:
        """Return the pack of these images.

        Raises:
            DataError: If there is none.
        """
        kept = [place for place, file in enumerate(self.files) if file.name not in faults]
        # A memory-mapped array is slow to take rows of.
        hashes = hashes_of(np.asarray(images))
        return Pack(images, hashes, np.array(kept, dtype=np.intp), faults, notes)


def _make(final: Path, work: _Work, progress: Progress) -> None:
    """Write a pack, and rename it when it is complete."""
    with storage_errors(final):
        part = Path(tempfile.mkdtemp(prefix=f".{work.key}-", suffix=".part", dir=final.parent))
    try:
        with storage_errors(final):
            # mkdtemp makes the folder private; the cache may be shared.
            os.chmod(part, FOLDER_MODE)
            with (part / _IMAGES).open("wb") as file:
                faults, hashes = _write(file, work, progress)
        manifest = {
            "key": work.key,
            "root": str(work.root.resolve()),
            "fit": work.fit,
            "shape": [len(work.files) - len(faults), *work.shape[1:]],
            "faults": faults,
            "digest": _digest(hashes),
        }
        write_text(part / MANIFEST, json.dumps(manifest))
        with storage_errors(final):
            # An existing pack of that name was found to be damaged.
            shutil.rmtree(final, ignore_errors=True)
            part.rename(final)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write(file: BinaryIO, work: _Work, progress: Progress) -> tuple[dict[str, str], Sequence[str]]:
    """Write the decoded images as a .npy file; return the faults, and the hashes of the images.

    Written, not mapped: on a full disk a write raises an error, but a mapped page kills the
    process.
    """
    header = npy_header(work.shape, np.uint8)
    file.write(header)
    with contextlib.suppress(AttributeError):
        # Reserve the space now, so that a disk that is too small shows before the work is done.
        _reserve(file, len(header) + int(np.prod(work.shape)))
    faults: dict[str, str] = {}
    hashes: list[str] = []
    with contextlib.closing(work.outcomes(progress)) as outcomes:
        for facts, outcome in zip(work.files, outcomes, strict=True):
            if isinstance(outcome, str):
                faults[facts.name] = outcome
            else:
                hashes += hashes_of([outcome])
                file.write(outcome.data)
    _refuse_empty(work, faults)
    file.truncate()
    # numpy leaves room in the header for the first axis to change.
    final = npy_header((len(hashes), *work.shape[1:]), np.uint8)
    if len(final) != len(header):
        raise StorageError(
            f"the header of {work.key} changed its length; this is a bug in convscope"
        )
    file.seek(0)
    file.write(final)
    file.flush()
    os.fsync(file.fileno())
    return faults, hashes


def _digest(hashes: Sequence[str]) -> str:
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def _reserve(file: BinaryIO, n_bytes: int) -> None:
    file.flush()
    try:
        os.posix_fallocate(file.fileno(), 0, n_bytes)
    except OSError as error:
        # Some file systems cannot; there a full disk shows on writing.
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENODEV):
            raise


def _refuse_empty(work: _Work, faults: dict[str, str]) -> None:
    if len(faults) == len(work.files):
        first = next(iter(faults.values()), "there is none")
        raise DataError(f"no image in {work.root} can be read ({first})")


def _open(final: Path, work: _Work) -> Pack | None:
    """Return the existing pack, or None if it is absent or damaged."""
    try:
        manifest = read_manifest(final)
        # This fails if the file is shorter than its header says.
        images = np.load(final / _IMAGES, mmap_mode="r", allow_pickle=False)
        if manifest["key"] != work.key or list(images.shape) != manifest["shape"]:
            return None
        # Marks it as in use; the folder may belong to another user.
        with contextlib.suppress(OSError):
            os.utime(final / MANIFEST)
        # All is read here: the hashes are needed anyway, to divide the images and to record them.
        pack = work.result(images, dict(manifest["faults"]))
        # Packs of earlier versions have no digest.
        return pack if manifest.get("digest") in (None, _digest(pack.hashes)) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _in_memory(work: _Work, packed: Path, error: Exception, progress: Progress) -> Pack:
    """Decode into memory instead, because of `error`."""
    n_bytes = int(np.prod(work.shape))
    if n_bytes > IN_MEMORY_BYTES:
        raise StorageError(
            f"the image cache {packed} cannot be written to, and {n_bytes / 2**30:.1f} GiB of "
            "images are too many for memory; set CONVSCOPE_CACHE to a folder with that much space"
        ) from error
    images = np.empty(work.shape, dtype=np.uint8)
    faults: dict[str, str] = {}
    n_kept = 0
    for facts, outcome in zip(work.files, work.outcomes(progress), strict=True):
        if isinstance(outcome, str):
            faults[facts.name] = outcome
        else:
            images[n_kept] = outcome
            n_kept += 1
    _refuse_empty(work, faults)
    images = images[:n_kept]
    images.flags.writeable = False
    note = (
        f"the image cache {packed} cannot be written to, so {n_bytes / 2**20:.0f} MiB of images "
        "are held in memory and decoded again each time"
    )
    return work.result(images, faults, note)


def _is_refusal(cause: BaseException | None) -> bool:
    """Return whether the cache cannot be written to at all, as opposed to being full."""
    # The last two: a file exists where the cache folder should be.
    refusals = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST)
    return isinstance(cause, OSError) and cause.errno in refusals
