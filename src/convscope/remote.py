"""Run folders at addresses: `s3://bucket/runs/birds`, and whatever else fsspec reaches.

Work goes on in a copy on this machine, in the cache folder. Each file that is written there as a
whole is sent to the address at once, in the order of writing, so another host sees the run's status
and resumes it; what other hosts wrote is fetched when the address is opened. Needs the extra
`remote`, and for most kinds of address a package of their own, such as s3fs.
"""

import contextlib
import datetime
import hashlib
import json
import math
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from convscope.errors import LockTakenError, MissingExtraError, PathError, StorageError
from convscope.locks import LOCK, STATE_LOCK, exclusive
from convscope.paths import is_address, require_plain_address, user_path
from convscope.progress import console_progress
from convscope.storage import FILE_MODE, cache_dir, follow_writes, storage_errors, write_text
from convscope.wording import first_line

FOLDER = "remote"
"""Folder of the copies in the cache folder."""

_WHOLE = {"abfs", "az", "gcs", "gs", "memory", "oss", "s3", "s3a"}
"""Kinds of address where a file appears when it is complete. Elsewhere it is moved into place."""

_OF_THIS_HOST = (LOCK, STATE_LOCK)

_WORTH_SAYING = 5_000_000
"""Bytes from which a transfer is announced."""

_Stamp = list[Any]
"""What tells that a file changed: here its size and time, at the address what that offers."""

_Files = dict[str, tuple[_Stamp, _Stamp]]
"""For each file, as of when both sides were last equal: its stamps here and at the address."""


@dataclass
class _Copy:
    """The copy of a folder at an address.

    Attributes:
        address: Address of the folder.
        folder: Folder of the copy.
        up_to: Bytes of the largest file to fetch.
        guard: Held while files are compared, fetched or sent: a heartbeat has its own thread.
    """

    address: str
    folder: Path
    up_to: float
    guard: Any = field(default_factory=threading.RLock)

    def save(self, files: _Files) -> None:
        content = {"address": self.address, "files": files}
        write_text(_record_of(self.folder), json.dumps(content) + "\n")


_open_copies: dict[Path, _Copy] = {}


def folder_path(given: Path | str, option: str, up_to: float = math.inf) -> Path:
    """Return the folder that a user means; for an address, its copy on this machine.

    What is newer at the address is fetched, unless a process of this machine is at work in the
    copy. From then on this process sends what it writes there.

    Args:
        given: Path, or address such as "s3://bucket/runs/birds"; need not exist.
        option: Name of the option, for the error.
        up_to: Bytes of the largest file to fetch.

    Raises:
        PathError: If it is no path and no address, or an address that is not opened.
        MissingExtraError: If fsspec is not installed.
        StorageError: If the address cannot be reached, or is empty where the copy is not, or the
            copy cannot be written.
    """
    if is_address(given):
        address = os.fspath(given).rstrip("/")
        name = address.rpartition("/")[2]
        if not name or name in (".", "..") or address.endswith(":"):
            raise PathError(f"{option} is '{given}', an address that names no folder")
        with _reaching(address):
            _remote(address)
        digest = hashlib.sha256(address.encode()).hexdigest()[:16]
        folder = place = cache_dir().absolute() / FOLDER / digest / name
    else:
        place = user_path(given, option)
        found = _folder_around(place)
        if found is None:
            return place
        folder = found
        address = _recorded(folder)[0]
    known = _open_copies.get(folder)
    if known is None or known.up_to < up_to or is_address(given):
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        copy = known or _Copy(address, folder, up_to)
        copy.up_to = max(copy.up_to, up_to)
        if not _record_of(folder).exists():
            copy.save({})
        with contextlib.suppress(LockTakenError), exclusive(folder / LOCK, wait=False):
            _settle(copy, folder, send=False)
        _open_copies[folder] = copy
        follow_writes(folder, lambda path: _send(copy, path.relative_to(folder).as_posix()))
    return place


def folder_or_none(given: Path | str | None, option: str) -> Path | None:
    """Return `folder_path` of a given path or address; None for None."""
    return None if given is None else folder_path(given, option)


def address_of(path: Path) -> str | None:
    """Return the address of a path in a copy; None for any other path."""
    folder = _folder_around(path)
    if folder is None:
        return None
    inside = path.absolute().relative_to(folder).as_posix()
    address = _recorded(folder)[0]
    return address if inside == "." else f"{address}/{inside}"


def shown(path: Path) -> str:
    """Return a path for people: of a copy with its address."""
    address = address_of(path)
    return str(path) if address is None else f"{address} (copied to {path})"


def fetch(*paths: Path) -> None:
    """Fetch what is newer at the addresses of paths in copies that are open, and below them.

    Nothing is done for other paths.

    Raises:
        StorageError: If an address cannot be reached or is empty, or a copy not be written.
    """
    wanted: dict[Path, list[Path]] = {}
    for path in paths:
        wanted.setdefault(_folder_around(path) or path, []).append(path)
    for folder, inside in wanted.items():
        if folder in _open_copies:
            _settle(_open_copies[folder], *inside, send=False)


def settle(path: Path) -> None:
    """Make a path in a copy that is open, and all below it, equal to what is at its address.

    Nothing is done for other paths. For what `storage.atomic_path` does not write: removed files,
    folders, files of libraries. A file that changed on both sides is taken from the address, whose
    later work others have seen.

    Raises:
        StorageError: If the address cannot be reached or is empty, or the copy not be written.
    """
    copy = _open_copies.get(_folder_around(path) or path)
    if copy is not None:
        _settle(copy, path, send=True)


def settle_all() -> None:
    """Do `settle` for all copies that this process opened, unless another works there.

    Raises:
        StorageError: As for `settle`.
    """
    for folder, copy in _open_copies.items():
        with contextlib.suppress(LockTakenError), exclusive(folder / LOCK, wait=False):
            _settle(copy, folder, send=True)


def copies() -> Iterator[Path]:
    """Return the folders of all copies whose files have been sent to their address.

    The addresses are not looked at; see `require_there`.
    """
    for _, folder, files in _records():
        if _files_here(folder) == {name: here for name, (here, _) in files.items()}:
            yield folder


def require_there(folder: Path) -> None:
    """Reject a copy that could not be fetched again, and may be all that is left.

    Args:
        folder: Folder from `copies`.

    Raises:
        StorageError: If its address cannot be reached or is empty.
        MissingExtraError: If fsspec is not installed.
    """
    address, files = _recorded(folder)
    with _reaching(address):
        _require_any(address, folder, files, _files_there(*_remote(address)))


@contextlib.contextmanager
def at_address(address: str) -> Iterator[tuple[Any, str]]:
    """Yield fsspec's file system of an address, and the path in it.

    Raises:
        PathError: If it is an address that is not opened.
        MissingExtraError: If fsspec is not installed.
        StorageError: For whatever the body meets there; the cause is what the package raised.
    """
    with _reaching(address):
        yield _remote(address)


def put_whole(fs: Any, path: Path, target: str) -> None:
    """Send a file, which appears at its place as a whole.

    Args:
        fs: File system from `at_address`.
        path: File on this machine.
        target: Path in the file system; folders around it are made.
    """
    kinds = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
    if kinds & _WHOLE:
        fs.put_file(str(path), target)
        return
    parent, _, last = target.rpartition("/")
    fs.makedirs(parent, exist_ok=True)
    part = f"{parent}/.{last[:64]}-{os.getpid()}.part"
    fs.put_file(str(path), part)
    fs.mv(part, target)


def read_at_most(fs: Any, source: str, most: int) -> bytes:
    """Return the content of a file, of a larger one a byte more than `most`.

    Args:
        fs: File system from `at_address`.
        source: Path in the file system.
        most: Bytes.
    """
    kinds = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
    # Otherwise it takes as a whole what a server sends in place of the range that was asked for.
    further = {"block_size": 0} if kinds & {"http", "https"} else {}
    parts, n_left = [], most + 1
    with fs.open(source, "rb", **further) as file:
        while n_left > 0 and (part := file.read(min(n_left, 2**20))):
            parts.append(part)
            n_left -= len(part)
    return b"".join(parts)


def get_whole(
    fs: Any,
    source: str,
    path: Path,
    check: Callable[[Path], None] = lambda part: None,
    most: float = math.inf,
) -> None:
    """Fetch a file, which appears at its place as a whole; nobody is told that it was written.

    Args:
        fs: File system from `at_address`.
        source: Path in the file system.
        path: File on this machine; folders around it are made.
        check: Called with the fetched file before it counts; what it raises leaves none behind.
        most: Bytes above which the file is not fetched further.

    Raises:
        StorageError: If the file cannot be written, or is larger.
    """
    from fsspec.callbacks import Callback

    class Limit(Callback):  # type: ignore[misc]
        """Told of the bytes that came, which may be more than were announced."""

        def call(self, *args: Any, **settings: Any) -> None:
            if self.value > most:
                raise StorageError(f"{source} is larger than {most / 1e6:,.1f} MB, its stated size")

    if most < math.inf:
        Limit(value=fs.size(source) or 0).call()
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(prefix=".fetched-", suffix=".part", dir=path.parent)
        os.close(handle)
        try:
            fs.get_file(source, part, callback=Limit())
            check(Path(part))
            os.chmod(part, FILE_MODE)
            os.replace(part, path)
        finally:
            Path(part).unlink(missing_ok=True)


def _folder_around(path: Path) -> Path | None:
    """Return the folder of the copy that a path is in."""
    root = cache_dir().absolute() / FOLDER
    try:
        parts = path.absolute().relative_to(root).parts
    except ValueError:
        return None
    folder = root.joinpath(*parts[:2])
    return folder if len(parts) > 1 and _record_of(folder).is_file() else None


def _record_of(folder: Path) -> Path:
    # Beside the copy: what is in a run folder belongs to the run.
    return folder.parent / "files.json"


def _recorded(folder: Path) -> tuple[str, _Files]:
    """Return the address of a copy, and its files."""
    record = _record_of(folder)
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        stamps = content["files"].items()
        files = {str(name): (list(here), list(there)) for name, (here, there) in stamps}
        return str(content["address"]), files
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise StorageError(
            f"{record} is damaged; remove {record.parent}, a copy of what is at its address"
        ) from None


def _records() -> Iterator[tuple[str, Path, _Files]]:
    """Return address, folder and files of all copies on this machine whose record is whole."""
    for record in sorted((cache_dir().absolute() / FOLDER).glob("*/files.json")):
        with contextlib.suppress(StorageError):
            address, files = _recorded(record)
            if address:
                yield address, record.parent / address.rpartition("/")[2], files


def _remote(address: str) -> tuple[Any, str]:
    """Return fsspec's file system of an address, and the path in it."""
    require_plain_address(address)
    try:
        import fsspec
    except ImportError:
        raise MissingExtraError("fsspec", "remote") from None
    return fsspec.core.url_to_fs(address)  # type: ignore[no-any-return]


@contextlib.contextmanager
def _reaching(address: str) -> Iterator[None]:
    """Turn whatever the package for a kind of address raises into one clear line."""
    try:
        yield
    except ImportError as error:
        raise StorageError(f"{address} needs a further package: {error}") from None
    except (StorageError, MissingExtraError, PathError, KeyboardInterrupt):
        raise
    except ValueError as error:
        if "Protocol not known" in str(error):
            raise StorageError(
                f"{address} needs a further package: fsspec alone does not know such addresses"
            ) from None
        raise StorageError(f"{address} cannot be reached ({first_line(error)})") from error
    except Exception as error:  # each package has errors of its own
        raise StorageError(
            f"{address} cannot be reached ({first_line(error)}); what is on this machine is intact"
        ) from error


def _files_here(folder: Path) -> dict[str, _Stamp]:
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and not _stays(path.name):
            with contextlib.suppress(OSError):
                found[path.relative_to(folder).as_posix()] = _stamp_here(path)
    return found


def _stamp_here(path: Path) -> _Stamp:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _stays(name: str) -> bool:
    """Return whether a file is never sent or fetched: a lock, or one that is being written."""
    return name in _OF_THIS_HOST or (name.startswith(".") and ".part" in name)


def _files_there(fs: Any, root: str) -> dict[str, _Stamp]:
    # Listings are kept for a while, by most packages.
    fs.invalidate_cache()
    found = {}
    for path, about in fs.find(root, detail=True).items():
        name = path.removeprefix(root).lstrip("/")
        # A place that nobody may name: "..", or what would be elsewhere on this system.
        if name and not _stays(name.rpartition("/")[2]) and ".." not in name.split("/"):
            found[name] = _stamp_there(about)
    return found


def _stamp_there(about: dict[str, Any]) -> _Stamp:
    times = ("ETag", "etag", "md5Hash", "generation", "mtime", "LastModified", "updated", "created")
    known = next((about[name] for name in times if about.get(name) is not None), None)
    if isinstance(known, datetime.datetime):  # in memory, a listing has the number instead
        known = known.timestamp()
    return [about.get("size"), str(known)]


def _require_any(address: str, folder: Path, known: _Files, there: dict[str, _Stamp]) -> None:
    """Reject an address at which nothing is of a copy that was there once."""
    if known and not there:
        # A disk that is not mounted looks like this, and the copy may be all that is left.
        raise StorageError(
            f"nothing is at {address} any more; the copy in {folder} is intact: move it away to "
            "begin anew at that address"
        )


def _settle(copy: _Copy, *paths: Path, send: bool) -> None:
    """Fetch what changed at the address; then, if wanted, send and remove what changed here.

    Of the copy, that is done for paths in it and all below them.

    Only then does a file that is missing here mean that it was removed on purpose: everything was
    fetched before. Otherwise it is fetched again, so half a copy never empties its address.
    """
    with copy.guard, _reaching(copy.address):
        fs, root = _remote(copy.address)
        here, there = _files_here(copy.folder), _files_there(fs, root)
        # Read anew: a run of a study has a process of its own.
        files = _recorded(copy.folder)[1]
        known = dict(files)
        _require_any(copy.address, copy.folder, known, there)
        tops = {path.absolute().relative_to(copy.folder) for path in paths}
        to_fetch: list[str] = []
        to_send: list[str] = []
        to_remove: list[str] = []
        for name in sorted(here.keys() | there.keys() | known.keys()):
            if tops.isdisjoint((PurePath(name), *PurePath(name).parents)):
                continue
            before_here, before_there = known.get(name, (None, None))
            changed_here = here.get(name) != before_here
            if there.get(name) != before_there:
                if name in there:
                    if (there[name][0] or 0) <= copy.up_to:
                        to_fetch.append(name)
                elif name in here and changed_here:
                    to_send.append(name)
                else:
                    (copy.folder / name).unlink(missing_ok=True)
                    del files[name]
            elif name in here:
                if changed_here:
                    to_send.append(name)
            elif send:
                to_remove.append(name)
            elif there[name][0] is None or there[name][0] <= copy.up_to:
                to_fetch.append(name)
            else:
                del files[name]
        n_bytes = sum(int(there[name][0] or 0) for name in to_fetch)
        if n_bytes > _WORTH_SAYING:
            console_progress().say(f"Fetching {n_bytes / 1e6:,.0f} MB from {copy.address}")
        for name in to_fetch:
            get_whole(fs, f"{root}/{name}", copy.folder / name)
            files[name] = (_stamp_here(copy.folder / name), there[name])
        if send:
            # The status last: who reads "finished" finds everything else.
            for name in sorted(to_send, key=lambda name: name.endswith("run.json")):
                files[name] = _put(copy, fs, f"{root}/{name}", name)
            for name in to_remove:
                with contextlib.suppress(FileNotFoundError):
                    fs.rm_file(f"{root}/{name}")
                del files[name]
        if files != known:
            copy.save(files)
        if send and to_remove:
            _forget({f"{copy.address}/{name}" for name in to_remove})


def _forget(removed: set[str]) -> None:
    """Take files that were removed at their addresses out of all copies on this machine.

    A folder of runs has a copy of its own beside those of its runs. Once the last run was removed,
    its address would look to that copy like a disk that is not mounted.
    """
    for address, folder, files in _records():
        gone = [name for name in files if f"{address}/{name}" in removed]
        if not gone:
            continue
        # Whoever is at work in a copy compares it with its address later.
        with contextlib.suppress(LockTakenError), exclusive(folder / LOCK, wait=False):
            files = _recorded(folder)[1]
            for name in gone:
                before, _ = files.pop(name, (None, None))
                with contextlib.suppress(OSError):
                    if _stamp_here(folder / name) == before:
                        (folder / name).unlink()
            _Copy(address, folder, 0).save(files)


def _send(copy: _Copy, name: str) -> None:
    """Send a file, once it is written."""
    if _stays(name.rpartition("/")[2]):
        return
    with copy.guard, _reaching(copy.address):
        fs, root = _remote(copy.address)
        stamps = _put(copy, fs, f"{root}/{name}", name)
        copy.save(_recorded(copy.folder)[1] | {name: stamps})


def _put(copy: _Copy, fs: Any, target: str, name: str) -> tuple[_Stamp, _Stamp]:
    """Send a file and return its stamps."""
    here = _stamp_here(copy.folder / name)
    put_whole(fs, copy.folder / name, target)
    fs.invalidate_cache()
    return here, _stamp_there(fs.info(target))
