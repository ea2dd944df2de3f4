"""Archives of images: unpacked once into the cache, under the hash of their content.

A folder is what everything else reads, so nothing else knows about archives. Of an archive only the
images and the tables are unpacked; other files become empty ones, which keep their names for the
notes. Archives come from strangers: a member that leads out of the folder, a link or a device is
refused by name, and so is what would unpack to absurd sizes.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from convscope.datasets.folders._pack_store import sweep
from convscope.datasets.folders.members import DAMAGED, Member, open_members
from convscope.datasets.folders.scan import MAX_FILE_BYTES, SETTLED_NS, stamp_of
from convscope.datasets.folders.tables import MAX_BYTES, is_table
from convscope.errors import DataError, LockTakenError, ReadOnlyError, StorageError
from convscope.images.find import RESULTS, is_image
from convscope.locks import exclusive, readers_lock, share_while_alive, writer_lock
from convscope.progress import Progress
from convscope.storage import FOLDER_MODE, cache_dir, read_object, storage_errors, write_text
from convscope.wording import file_size, first_line, printable

FOLDER = "archives"
"""Name of the folder in the cache."""

MANIFEST = "archive.json"

MAX_MEMBERS = 2**21
"""Largest number of files in an archive."""

FREE_BYTES = 2**30
"""Unpacked size up to which any ratio is accepted: black pictures pack well."""

MAX_RATIO = 200
"""Largest ratio of the unpacked size to that of the archive, above `FREE_BYTES`."""

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
"""Endings of the archives that can be unpacked."""

_CHUNK = 2**20


def is_archive(path: Path) -> bool:
    """Return whether a path ends like an archive that can be unpacked."""
    return path.name.lower().endswith(ENDINGS)


@contextlib.contextmanager
def unpacked(path: Path, progress: Progress) -> Iterator[Path]:
    """Yield the folder of images: `path` itself, or what an archive holds.

    Args:
        path: Folder or archive.
        progress: Called while an archive is unpacked.

    Raises:
        DataError: If the archive is damaged, or a member is refused.
        StorageError: If the cache cannot be written to.
    """
    if not is_archive(path) or not path.is_file():
        yield path
        return
    holder = _Holder()
    try:
        root = _unpack(path, holder, progress)
    except ReadOnlyError as error:
        raise ReadOnlyError(
            f"{path} is unpacked into the cache, and {cache_dir()} cannot be written to; set "
            "CONVSCOPE_CACHE, or unpack it yourself and name the folder"
        ) from error
    try:
        yield root
    except DataError as error:
        # People know the archive, not the cache.
        raise type(error)(str(error).replace(str(root), str(path))) from None


class _Holder:
    """Object that keeps an unpacked archive from being removed while it lives."""


def _unpack(path: Path, holder: _Holder, progress: Progress) -> Path:
    """Return the folder with the contents of an archive, unpacked now or before."""
    folder = cache_dir() / FOLDER
    key = hashlib.sha256(f"3 {_digest(path, folder)} {path.name}".encode()).hexdigest()[:32]
    final = folder / key
    name = _stem(path)
    waiting = f"Waiting for another process that is unpacking {path.name}"
    with exclusive(writer_lock(final), wait=True, on_wait=lambda: progress.say(waiting)):
        share_while_alive(readers_lock(final), holder)
        if not (final / MANIFEST).is_file():
            with storage_errors(final):
                part = Path(tempfile.mkdtemp(prefix=f".{key}-", suffix=".part", dir=folder))
            try:
                with storage_errors(final):
                    os.chmod(part, FOLDER_MODE)
                _unpack_into(path, part / name, progress)
                write_text(part / MANIFEST, json.dumps({"path": str(path)}))
                with storage_errors(final):
                    shutil.rmtree(final, ignore_errors=True)
                    part.rename(final)
            finally:
                shutil.rmtree(part, ignore_errors=True)
            sweep(folder, key)
            _drop_superseded(folder, final, str(path))
    return final / name


def _drop_superseded(folder: Path, newest: Path, path: str) -> None:
    """Remove what earlier contents of the same archive were unpacked to, unless it is in use."""
    for other in folder.iterdir():
        if other == newest or read_object(other / MANIFEST).get("path") != path:
            continue
        with (
            contextlib.suppress(OSError, LockTakenError, StorageError),
            exclusive(writer_lock(other), wait=False) as alone,
            exclusive(readers_lock(other), wait=False) as unread,
        ):
            if alone and unread:
                shutil.rmtree(other, ignore_errors=True)


def _digest(path: Path, folder: Path) -> str:
    """Return the SHA-256 of an archive; one that has not changed since is not read again."""
    stamp = stamp_of(path)
    place = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    index = folder / "index" / f"{place}.json"
    known = read_object(index)
    if known.get("stamp") == stamp and "sha256" in known:
        return str(known["sha256"])
    now = time.time_ns()
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error
    if max(stamp[2:]) < now - SETTLED_NS:
        write_text(index, json.dumps({"stamp": stamp, "sha256": digest}))
    return digest


def _stem(path: Path) -> str:
    ending = max((each for each in ENDINGS if path.name.lower().endswith(each)), key=len)
    return path.name[: -len(ending)].strip(". ") or "images"


def _unpack_into(path: Path, root: Path, progress: Progress) -> None:
    """Unpack an archive into a new folder.

    Raises:
        DataError: If it is damaged, or a member is refused.
        StorageError: If the folder cannot be written to.
    """
    with storage_errors(root):
        root.mkdir()
    try:
        with (
            open_members(path) as members,
            progress.task(f"Unpacking {path.name}", None, "files") as step,
        ):
            for member in within_limits(path, members):
                inside = _inside(path, member)
                if inside is not None:
                    _write(path, member, root / inside)
                    step(1)
    except (*DAMAGED, OSError) as error:
        raise DataError(f"{path} cannot be unpacked ({complaint(error)})") from None


def within_limits(path: Path, members: Iterable[Member]) -> Iterator[Member]:
    """Yield the members of an archive as long as they are no more, and no larger, than photos.

    Raises:
        DataError: If they are.
    """
    n_packed = path.stat().st_size
    total = 0
    for count, member in enumerate(members, 1):
        total += member.n_bytes
        if count > MAX_MEMBERS:
            raise DataError(f"{path} holds more than {MAX_MEMBERS:,} files")
        if total > max(FREE_BYTES, MAX_RATIO * n_packed):
            raise DataError(
                f"{path} would unpack {file_size(n_packed)} to more than "
                f"{file_size(total)} (at '{printable(member.name)}'), which no photos do; "
                "if you trust it, unpack it yourself and name the folder"
            )
        yield member


def complaint(error: Exception) -> str:
    """Return what a reader of archives said of a damaged one, as one line."""
    # What gzip and bz2 raise for damaged data is an OSError without a number.
    return getattr(error, "strerror", None) or first_line(error)


def _inside(archive: Path, member: Member) -> PurePosixPath | None:
    """Return the path of a member below the folder; None for the folder itself.

    Raises:
        DataError: If it leads out of the folder, or is neither a file nor a folder.
    """
    name = member.name.replace("\\", "/")

    def refused(why: str) -> DataError:
        return DataError(
            f"{archive}: '{printable(member.name)}' {why}; the archive is not unpacked"
        )

    if member.kind not in ("file", "folder"):
        raise refused(f"is {member.kind}")
    steps = [step for step in name.split("/") if step not in ("", ".")]
    if name.startswith("/") or re.match(r"[A-Za-z]:/", name):
        raise refused("has an absolute path")
    if ".." in steps:
        raise refused("leads out of the archive's folder")
    if "\0" in name:
        raise refused("has a null character in its name")
    limit = MAX_BYTES if is_table(Path(name)) else MAX_FILE_BYTES
    if _has_content(name) and member.n_bytes > limit:
        raise refused(f"is larger than {limit:,} bytes")
    return PurePosixPath(*steps) if steps else None


def _has_content(name: str) -> bool:
    """Return whether a member is unpacked with its content, not only its name."""
    return is_image(name) or is_table(Path(name)) or PurePosixPath(name).name in RESULTS


def _write(archive: Path, member: Member, target: Path) -> None:
    try:
        if member.kind == "folder":
            with storage_errors(target):
                target.mkdir(parents=True, exist_ok=True)
            return
        with storage_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            file = target.open("xb")
    except (FileExistsError, NotADirectoryError, StorageError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if isinstance(cause, FileExistsError | NotADirectoryError):
            raise DataError(
                f"{archive}: '{printable(member.name)}' is in it twice; the archive is not unpacked"
            ) from None
        raise
    with storage_errors(target), file:
        content = member.open() if _has_content(member.name) else None
        if content is None:
            return
        with content:
            left = member.n_bytes
            while chunk := content.read(min(_CHUNK, left + 1)):
                left -= len(chunk)
                file.write(chunk)
                if left < 0:
                    break
        if left != 0:
            raise DataError(
                f"{archive}: '{printable(member.name)}' has another size than the archive states"
            )
