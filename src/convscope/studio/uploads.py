"""What is dropped into the browser: limited in size and kind, kept in the folder of the studio."""

import contextlib
import datetime
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fastapi import FastAPI
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from convscope.datasets.folders.archives import ENDINGS
from convscope.datasets.folders.tables import SUFFIXES
from convscope.errors import ConvscopeError, DataError, StorageError
from convscope.images.find import IMAGE_SUFFIXES
from convscope.storage import atomic_path, size_on_disk, storage_errors
from convscope.studio.workplace import Workplace
from convscope.wording import file_size

IMAGES = tuple(sorted(IMAGE_SUFFIXES))
TABLES = tuple(sorted(SUFFIXES))
ARCHIVES = ENDINGS
TAKEN = (*IMAGES, *TABLES, *ARCHIVES)
"""Endings of the files that are taken, in small letters."""

MAX_IMAGE = 256 * 1024**2
"""Largest image or table, in bytes."""

MAX_TOTAL = 16 * 1024**3
"""Largest archive, and all files of one drop, in bytes."""

MAX_FILES = 200_000
"""Largest number of files of one drop."""

_LEFT_FREE = 1024**3
"""Bytes of the disk that stay free."""

_LOOK_AFTER = 8 * 1024**2
"""Bytes that are written before the free space is asked for again: others fill the disk too."""

_UNFINISHED = ".unfinished"
"""File in the folder of a drop that is not whole yet; no dropped file can have its name."""

_REMOVED = ".removed-"
"""Beginning of the name of a drop that is being removed."""

_SILENT_S = 120.0
"""Seconds without a byte after which the rest of a drop is not waited for any more."""

_NOT_IN_NAMES = '\\:*?"<>|' if os.name == "nt" else "\\"
"""Characters that names cannot have here. A backslash would part folders on another system."""


@dataclass
class _Taken:
    """What a drop has taken so far, files that are still on their way among it."""

    n_files: int = 0
    n_bytes: int = 0
    noted: float = 0.0

    def note(self, mark: Path) -> None:
        """Keep in the date of a drop's mark that bytes are coming, now and then."""
        if time.monotonic() - self.noted > _SILENT_S / 10:
            self.noted = time.monotonic()
            # Another page may have removed the drop.
            with contextlib.suppress(OSError):
                os.utime(mark)


class Uploads:
    """Drops, each a folder; several of their files may come at once.

    Args:
        folder: Folder of the drops.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._taken: dict[str, _Taken] = {}
        self._room = 0

    def begin(self) -> str:
        """Return the name of a new drop."""
        moment = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S")
        name = f"{moment}-{secrets.token_hex(4)}"
        with storage_errors(self.folder):
            (self.folder / name).mkdir(parents=True)
            (self.folder / name / _UNFINISHED).touch()
        self._taken = {**dict(list(self._taken.items())[-100:]), name: _Taken()}
        return name

    async def keep(self, drop: str, name: str, chunks: AsyncIterator[bytes]) -> Path:
        """Write a file of a drop, and return its path.

        Args:
            drop: Name of the drop.
            name: Path of the file in it, with forward slashes.
            chunks: Bytes of the file.

        Raises:
            DataError: If the name, the kind or the size is not allowed.
            StorageError: If it cannot be written.
        """
        mark = self._unfinished(drop)
        place = mark.parent / inside(name)
        largest = MAX_TOTAL if name.lower().endswith(ARCHIVES) else MAX_IMAGE
        taken, n_bytes = self._taken[drop], 0
        if taken.n_files >= MAX_FILES:
            raise DataError(f"at most {MAX_FILES:,} files can be dropped at once")
        taken.n_files += 1
        try:
            with atomic_path(place) as temporary, temporary.open("wb") as file:
                async for chunk in chunks:
                    n_bytes += len(chunk)
                    taken.n_bytes += len(chunk)
                    if n_bytes > largest:
                        raise DataError(f"{name} is larger than {file_size(largest)}")
                    if taken.n_bytes > MAX_TOTAL:
                        raise DataError(
                            f"with {name} the files of this drop are larger than "
                            f"{file_size(MAX_TOTAL)} together; drop the rest separately"
                        )
                    self._require_room(len(chunk))
                    file.write(chunk)
                    taken.note(mark)
        except BaseException:
            taken.n_files -= 1
            taken.n_bytes -= n_bytes
            raise
        return place

    def _unfinished(self, drop: str) -> Path:
        """Return the mark of a drop that is not whole yet.

        Raises:
            DataError: If there is no such drop; another page may have removed it.
        """
        mark = self.folder / drop / _UNFINISHED
        if drop not in self._taken or not mark.exists():
            raise DataError("this drop is not known any more; drop the files again")
        return mark

    def _require_room(self, n_bytes: int) -> None:
        """Take bytes off the room on the disk, which all files on their way share."""
        if n_bytes > self._room:
            free = shutil.disk_usage(self.folder).free - _LEFT_FREE
            if n_bytes > free:
                raise StorageError("the disk is nearly full; free some space")
            self._room = min(free, _LOOK_AFTER)
        self._room -= n_bytes

    def end(self, drop: str) -> None:
        """Keep that a drop is whole: every file that was to be sent has been.

        Raises:
            DataError: If the drop is not known.
            StorageError: If that cannot be kept.
        """
        with storage_errors(self.folder):
            self._unfinished(drop).unlink()

    def all(self) -> "list[Drop]":
        """Return all drops, the newest first."""
        try:
            with os.scandir(self.folder) as entries:
                found = [
                    Drop(Path(each))
                    for each in entries
                    if each.is_dir(follow_symlinks=False) and not each.name.startswith(_REMOVED)
                ]
        except OSError:
            return []
        return sorted(found, key=lambda each: each.path.name, reverse=True)

    def remove(self, drop: "Drop") -> None:
        """Remove a drop.

        Raises:
            StorageError: If it cannot be removed.
        """
        if drop.path.parent != self.folder or drop.path.name in ("", ".", ".."):
            raise StorageError(f"{drop.path} is no upload of this studio")
        # What an earlier removal left; another one may be at it.
        for each in self.folder.glob(f"{_REMOVED}*"):
            shutil.rmtree(each, ignore_errors=True)
        # First out of the list, in which half of it would look like an upload.
        removed = drop.path.with_name(f"{_REMOVED}{drop.path.name}")
        with storage_errors(drop.path), contextlib.suppress(FileNotFoundError):
            drop.path.rename(removed)
            shutil.rmtree(removed)


@dataclass(frozen=True)
class Drop:
    """Files that were dropped at once.

    Attributes:
        path: Folder of the drop.
    """

    path: Path

    @property
    def tops(self) -> list[str]:
        """Names of its folders and files, sorted."""
        try:
            names = sorted(each.name for each in self.path.iterdir())
        except OSError:
            return []
        return [name for name in names if not name.startswith(".")]

    @property
    def is_whole(self) -> bool:
        """Whether all its files came, as far as the browser could send them."""
        return not (self.path / _UNFINISHED).exists()

    @property
    def is_coming(self) -> bool:
        """Whether its files are on their way: it is not whole, and the last bytes came just now."""
        try:
            last = (self.path / _UNFINISHED).stat().st_mtime
        except OSError:
            return False
        return time.time() - last < _SILENT_S

    @property
    def n_bytes(self) -> int:
        """Bytes of its files."""
        return size_on_disk(self.path)

    def holds(self, path: Path | str) -> bool:
        """Return whether a path leads into it."""
        return Path(path).resolve().is_relative_to(self.path.resolve())


def inside(name: str) -> PurePosixPath:
    """Return the path of a dropped file below the folder of its drop.

    Raises:
        DataError: If it would lie elsewhere, or is of a kind that is not taken.

    Examples:
        >>> inside("cats/1.jpg")
        PurePosixPath('cats/1.jpg')
    """
    path = PurePosixPath(name)
    odd = (
        not path.parts
        or path.is_absolute()
        or len(path.parts) > 20
        or len(name) > 2_000
        or any(part.startswith(".") or part != part.strip() for part in path.parts)
        or any(ord(each) < 32 or each in f"{_NOT_IN_NAMES}\x7f" for each in name)
    )
    if odd:
        raise DataError(f"a file called {name[:200]!r} cannot be taken")
    if not path.name.lower().endswith(TAKEN):
        raise DataError(
            f"{path.name[:200]} is neither an image nor a table of labels nor an archive"
        )
    return path


def add_uploads(app: FastAPI, place: Workplace) -> None:
    """Add the addresses to which the browser sends what is dropped."""
    uploads = Uploads(place.uploads)

    @app.post("/upload/begin")
    async def begin() -> Response:
        try:
            return JSONResponse({"drop": uploads.begin()})
        except ConvscopeError as error:
            return JSONResponse({"error": str(error)}, 507)

    @app.post("/upload/{drop}/end")
    async def end(drop: str) -> Response:
        try:
            uploads.end(drop)
        except ConvscopeError as error:
            return JSONResponse({"error": str(error)}, 400)
        return JSONResponse({})

    @app.put("/upload/{drop}")
    async def keep(drop: str, path: str, request: Request) -> Response:
        try:
            kept = await uploads.keep(drop, path, request.stream())
        except ClientDisconnect:
            return Response(status_code=400)
        except ConvscopeError as error:
            return JSONResponse({"error": str(error)}, 400)
        return JSONResponse({"path": str(kept)})
