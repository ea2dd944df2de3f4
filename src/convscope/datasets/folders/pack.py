"""Decoded images in one memory-mapped file: made once, read in any order.

Nothing is written into the user's folder. A pack is at `cache_dir()/packed/<key>`; the key is made
of each file's path and content, the decoder and the size, so other content has another key. A pack
is written under a temporary name and renamed when it is complete. Images that another pack holds,
such as that of the folder before a label was corrected, are copied from there.
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
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import PIL

from convscope.datasets.folders._older_images import OlderImages, list_origins, open_older_images
from convscope.datasets.folders._pack_store import (
    IMAGES,
    MANIFEST,
    ORIGINS,
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
from convscope.storage import (
    FOLDER_MODE,
    atomic_path,
    cache_dir,
    npy_header,
    storage_errors,
    write_text,
)
from convscope.types import UInt8Array, hashes_of

IN_MEMORY_BYTES = 2 * 2**30
"""Largest number of bytes held in memory if the cache cannot be written to."""

CHUNK = 16
"""Images that a thread decodes at a time."""

_Outcome = tuple[UInt8Array, str] | str
"""Pixels of a file and their hash, or the reason why it has none."""

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
        progress: Called with each image that is decoded or copied.

    Raises:
        DataError: If no image can be read, or a file changes meanwhile.
        StorageError: If the disk is full, or if the cache cannot be written to and the images need
            more than `IN_MEMORY_BYTES`.
    """
    packed = cache_dir() / "packed"
    work = _Work(packed, root, files, size, channels, fit, white)
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
            made = _open(final, work, _make(final, work, progress))
            if made is not None:
                drop_superseded(packed, final)
    except (StorageError, OSError) as error:
        if not _is_refusal(error if isinstance(error, OSError) else error.__cause__):
            raise
        return _in_memory(work, error, progress)
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
        packed: Path,
        root: Path,
        files: Sequence[FileFacts],
        size: tuple[int, int],
        channels: int,
        fit: Fit,
        white: int | None,
    ) -> None:
        self.packed = packed
        self.root = root
        self.files = files
        self.size = size
        self.channels = channels
        self.fit = fit
        self.white = white
        self.shape = (len(files), *size, channels)
        self._settings = {heif: self._settings_of(heif=heif) for heif in (False, True)}
        self.key = self._key()

    def _key(self) -> str:
        settings = self._settings[any(file.format == "HEIF" for file in self.files)]
        digest = hashlib.sha256(settings.encode())
        for file in self.files:
            # With the fault: a picture whose reader was installed meanwhile has none any more.
            line = f"{file.name}\0{file.n_bytes}\0{file.digest}\0{file.fault}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()[:32]

    def _settings_of(self, *, heif: bool) -> str:
        """Return all that decides the pixels of a file, apart from its content."""
        # Another Pillow may bring another JPEG decoder, and with it other pixels.
        head = [DECODER_VERSION, PIL.__version__, *self.size, self.channels, self.white]
        # What was packed before there were others was squashed, and stays valid.
        if self.fit != "squash":
            head.append(self.fit)
        if heif:
            head.append(reader_version("HEIF"))
        return json.dumps(head)

    def origin(self, file: FileFacts) -> bytes:
        """Return a hash of all that decides the pixels of a file."""
        settings = self._settings[file.format == "HEIF"]
        return hashlib.sha256(f"{settings} {file.digest}".encode()).digest()

    def outcomes(self, progress: Progress) -> Generator[_Outcome, None, None]:
        """Yield the image of each file, in order, or the reason why it has none."""
        workers = n_decoders(self.files)
        starts = range(0, len(self.files), CHUNK)
        chunks = (self.files[start : start + CHUNK] for start in starts)
        wanted = {self.origin(file) for file in self.files if not file.fault}
        copied = 0
        with (
            progress.task(f"Packing {self.root.name}", len(self.files), "images") as step,
            open_older_images(self.packed, self.shape[1:], wanted) as older,
            contextlib.closing(
                map_ordered(partial(self._images_of, older=older), chunks, workers)
            ) as results,
        ):
            for images, n_copied in results:
                yield from images
                copied += n_copied
                step(len(images), f"{copied:,} of them decoded before" if copied else "")

    def _images_of(
        self, chunk: Sequence[FileFacts], older: OlderImages
    ) -> tuple[list[_Outcome], int]:
        """Return the outcomes of some files, and how many of them were copied."""
        outcomes: list[_Outcome] = []
        n_copied = 0
        for file in chunk:
            if not file.fault and (known := older.take(self.origin(file))) is not None:
                outcomes.append(known)
                n_copied += 1
            else:
                outcomes.append(self._decode(file))
        return outcomes, n_copied

    def _decode(self, file: FileFacts) -> _Outcome:
        pixels = decode_file(
            self.root,
            file,
            size=self.size,
            channels=self.channels,
            fit=self.fit,
            white=self.white,
        )
        return pixels if isinstance(pixels, str) else (pixels, hashes_of([pixels])[0])

    def result(
        self, images: UInt8Array, hashes: list[str], faults: dict[str, str], *notes: str
    ) -> Pack:
        """Return the pack of these images.

        Raises:
            DataError: If there is none.
        """
        kept = [place for place, file in enumerate(self.files) if file.name not in faults]
        return Pack(images, hashes, np.array(kept, dtype=np.intp), faults, notes)


def _make(final: Path, work: _Work, progress: Progress) -> list[str]:
    """Write a pack, rename it when it is complete, and return the hashes of its images."""
    with storage_errors(final):
        part = Path(tempfile.mkdtemp(prefix=f".{work.key}-", suffix=".part", dir=final.parent))
    try:
        with storage_errors(final):
            # mkdtemp makes the folder private; the cache may be shared.
            os.chmod(part, FOLDER_MODE)
            with (part / IMAGES).open("wb") as file:
                faults, hashes = _write(file, work, progress)
        kept = [file for file in work.files if file.name not in faults]
        origins, digest = list_origins([work.origin(file) for file in kept], hashes)
        with atomic_path(part / ORIGINS) as place:
            place.write_bytes(origins)
        manifest = {
            "key": work.key,
            "root": str(work.root.resolve()),
            "fit": work.fit,
            "shape": [len(kept), *work.shape[1:]],
            "faults": faults,
            "digest": _digest(hashes),
            "origins": digest,
        }
        write_text(part / MANIFEST, json.dumps(manifest))
        with storage_errors(final):
            # An existing pack of that name was found to be damaged.
            shutil.rmtree(final, ignore_errors=True)
            part.rename(final)
        return hashes
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write(file: BinaryIO, work: _Work, progress: Progress) -> tuple[dict[str, str], list[str]]:
    """Write the images as a .npy file; return the faults, and the hashes of the images.

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
                pixels, digest = outcome
                file.write(pixels.data)
                hashes.append(digest)
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
        raise DataError(
            f"no image in {work.root} can be read ({first}); 'convscope data check' lists the "
            "reasons"
        )


def _open(final: Path, work: _Work, hashes: list[str] | None = None) -> Pack | None:
    """Return the existing pack, or None if it is absent or damaged.

    Args:
        final: Folder of the pack.
        work: Images that it holds.
        hashes: Hashes of the images, if they are known since it was just made.
    """
    try:
        manifest = read_manifest(final)
        # This fails if the file is shorter than its header says.
        images = np.load(final / IMAGES, mmap_mode="r", allow_pickle=False)
        if manifest["key"] != work.key or list(images.shape) != manifest["shape"]:
            return None
        # Marks it as in use; the folder may belong to another user.
        with contextlib.suppress(OSError):
            os.utime(final / MANIFEST)
        if hashes is None:
            # All is read here: the hashes are needed anyway, to divide the images and to record
            # them. A memory-mapped array is slow to take rows of.
            hashes = hashes_of(np.asarray(images))
            # Packs of earlier versions have no digest.
            if manifest.get("digest") not in (None, _digest(hashes)):
                return None
        return work.result(images, hashes, dict(manifest["faults"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _in_memory(work: _Work, error: Exception, progress: Progress) -> Pack:
    """Decode into memory instead, because of `error`."""
    n_bytes = int(np.prod(work.shape))
    if n_bytes > IN_MEMORY_BYTES:
        raise StorageError(
            f"the image cache {work.packed} cannot be written to, and {n_bytes / 2**30:.1f} GiB of "
            "images are too many for memory; set CONVSCOPE_CACHE to a folder with that much space"
        ) from error
    images = np.empty(work.shape, dtype=np.uint8)
    faults: dict[str, str] = {}
    hashes: list[str] = []
    for facts, outcome in zip(work.files, work.outcomes(progress), strict=True):
        if isinstance(outcome, str):
            faults[facts.name] = outcome
        else:
            images[len(hashes)], digest = outcome
            hashes.append(digest)
    _refuse_empty(work, faults)
    images = images[: len(hashes)]
    images.flags.writeable = False
    note = (
        f"the image cache {work.packed} cannot be written to, so {n_bytes / 2**20:.0f} MiB of "
        "images are held in memory and decoded again each time"
    )
    return work.result(images, hashes, faults, note)


def _is_refusal(cause: BaseException | None) -> bool:
    """Return whether the cache cannot be written to at all, as opposed to being full."""
    # The last two: a file exists where the cache folder should be.
    refusals = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST)
    return isinstance(cause, OSError) and cause.errno in refusals
