"""Facts about each image file: the hash of its content, and its header.

A second scan of an unchanged folder need not read the files again: an index in the cache remembers
the result.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL

from convscope.datasets.folders.parallel import map_ordered, n_readers
from convscope.errors import ImageError, StorageError, UnreadFormatError
from convscope.images.decode import DECODER_VERSION, read_peak
from convscope.images.formats import may_pass, read_header
from convscope.progress import Progress
from convscope.storage import cache_dir, read_object, write_text
from convscope.wording import printable

MAX_FILE_BYTES = 2**30
"""Files are read whole, so that the hashed bytes are the decoded bytes."""

SETTLED_NS = 2_000_000_000
"""A file that changed this recently may change again without a new time stamp: file systems have a
resolution of up to two seconds."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """Facts about an image file before its pixels are decoded.

    Attributes:
        name: Path relative to the folder, with forward slashes.
        n_bytes: Size of the file.
        digest: SHA-256 of its bytes, in hex; "" if they could not be read.
        height: Height in pixels, upright; 0 if the header cannot be read.
        width: Width in pixels, upright; 0 if the header cannot be read.
        grey: Whether it has no colour.
        fault: Reason why it cannot be read, with the file's name; "" if none is known.
        peak: Largest value of an image that does not define white; None for all others.
        format: Pillow's name of the format ("PNG"); "" if the header cannot be read.
    """

    name: str
    n_bytes: int
    digest: str
    height: int
    width: int
    grey: bool
    fault: str
    peak: float | None = None
    format: str = ""


def read_bytes(root: Path, name: str) -> bytes:
    """Return the content of an image file.

    Raises:
        ImageError: If it cannot be read, or is larger than `MAX_FILE_BYTES`.
    """
    try:
        name.encode()
        with (root / name).open("rb") as file:
            if os.fstat(file.fileno()).st_size > MAX_FILE_BYTES:
                raise ImageError(f"{name} is larger than {MAX_FILE_BYTES:,} bytes")
            return file.read()
    except UnicodeEncodeError:
        raise ImageError(f"{printable(name)} has a name that is not UTF-8; rename it") from None
    except OSError as error:
        raise ImageError(f"{name} cannot be read ({error.strerror})") from error


def scan_files(root: Path, names: Sequence[str], *, progress: Progress) -> list[FileFacts]:
    """Return the facts about each file, in the order of `names`.

    Args:
        root: Folder.
        names: Paths relative to it, with forward slashes.
        progress: Called with each file that has to be read.
    """
    index = _Index(root)
    known = {name: facts for name in names if (facts := index.find(name)) is not None}
    unknown = [name for name in names if name not in known]
    if unknown:
        workers = n_readers(root, unknown, worthwhile=65536)
        with progress.task(f"Reading {root.name}", len(unknown), "images") as step:
            for facts in map_ordered(index.look, unknown, workers):
                known[facts.name] = facts
                step(1)
        index.save(known)
    return [known[name] for name in names]


class _Index:
    """Results of the last scan of a folder, valid for files that have not changed since.

    "Not changed" means the same size, inode, modification time and change time. The kernel sets the
    change time and it cannot be set back, so a file whose content was replaced and whose
    modification time was restored is read again.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        place = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
        self._path = cache_dir() / "packed" / "index" / f"{place}.json"
        self._tag = f"2 {DECODER_VERSION} {PIL.__version__}"
        self._old: dict[str, list[Any]] = {}
        self._stamps: dict[str, list[int]] = {}
        # The index only saves time: if it is missing or damaged, files are read.
        with contextlib.suppress(ValueError, KeyError, TypeError):
            stored = read_object(self._path)
            if stored["tag"] == self._tag:
                self._old = dict(stored["files"])

    def find(self, name: str) -> FileFacts | None:
        """Return the facts about a file, or None if it has to be read."""
        entry = self._old.get(name)
        if entry is None:
            return None
        with contextlib.suppress(OSError, TypeError, ValueError):
            stamp, *rest = entry
            if stamp == stamp_of(self._root / name):
                self._stamps[name] = stamp
                return FileFacts(name, *rest)
        return None

    def look(self, name: str) -> FileFacts:
        """Read a file."""
        now = time.time_ns()
        try:
            with contextlib.suppress(OSError):
                stamp = stamp_of(self._root / name)
                if max(stamp[2:]) < now - SETTLED_NS:
                    self._stamps[name] = stamp
            content = read_bytes(self._root, name)
        except ImageError as error:
            self._stamps.pop(name, None)
            return FileFacts(name, 0, "", 0, 0, False, str(error))
        digest = hashlib.sha256(content).hexdigest()
        peak = None
        try:
            header = read_header(content, name=name)
        except ImageError as error:
            self._forget_passing(name, error)
            return FileFacts(name, len(content), digest, 0, 0, False, str(error))
        if header.white is None:
            try:
                peak = read_peak(content, name=name)
            except ImageError as error:  # the decoder reports it
                self._forget_passing(name, error)
        height, width = header.height, header.width
        return FileFacts(
            name, len(content), digest, height, width, header.grey, "", peak, header.format
        )

    def _forget_passing(self, name: str, error: ImageError) -> None:
        """Have a file read in the next scan again if its fault may be gone by then.

        Memory may be free, or a package installed that reads the format.
        """
        if isinstance(error, UnreadFormatError) or may_pass(error):
            self._stamps.pop(name, None)

    def save(self, known: dict[str, FileFacts]) -> None:
        """Remember the facts about files that were old enough when they were read."""
        files = {
            name: [stamp, *dataclasses.astuple(known[name])[1:]]
            for name, stamp in self._stamps.items()
            if name in known
        }
        # The pack reports a full or read-only cache; the index is optional.
        with contextlib.suppress(StorageError, OSError):
            write_text(self._path, json.dumps({"tag": self._tag, "files": files}))


def stamp_of(path: Path) -> list[int]:
    """Return by what a file is known to be unchanged: size, inode, modification and change time."""
    status = path.stat()
    return [status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]
