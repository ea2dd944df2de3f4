"""Folders of convscope's own files, and writing files as a whole or not at all."""

import contextlib
import errno
import json
import math
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convscope.errors import ConvscopeError, DataError, ReadOnlyError, StorageError
from convscope.paths import short_name, user_path

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_CACHE_VARIABLE = "CONVSCOPE_CACHE"

# The mask can only be read by setting it, for the whole process: once, before there are threads
# whose files would be writable for everyone in that moment.
_umask = os.umask(0o077)
os.umask(_umask)

FILE_MODE = 0o666 & ~_umask
"""Mode of an ordinary new file; `tempfile` makes private ones."""

_LONGEST_SUFFIX = 12
"""Longest suffix of a file name that counts as such, in characters."""

_LARGE = 2**29
"""Bytes from which `scratch_array` maps a file."""

_BLOCK = 2**24

FOLDER_MODE = 0o777 & ~_umask
"""Mode of an ordinary new folder."""


def cache_dir() -> Path:
    """Return the folder for downloads, packed images and measurements.

    `$CONVSCOPE_CACHE` if set, otherwise the operating system's user cache. The folder is not
    created here, but on the first write. Without a home folder, or if it cannot be created there
    (a container, a batch job), it is a temporary folder of this user, with one warning.

    Raises:
        PathError: If `$CONVSCOPE_CACHE` contains a variable that is not set.
        StorageError: If there is no temporary folder either.
    """
    chosen = os.environ.get(_CACHE_VARIABLE)
    if chosen:
        return user_path(chosen, f"${_CACHE_VARIABLE}")
    import platformdirs

    try:
        usual = Path(platformdirs.user_cache_dir("convscope", appauthor=False))
    except RuntimeError:
        return _temporary_cache("there is no home folder")
    if not usual.is_absolute():  # platformdirs before 4.1 returns ~/.cache
        return _temporary_cache("there is no home folder")
    if can_be_made(usual):
        return usual
    return _temporary_cache(f"the folder {usual} cannot be made")


def can_be_made(folder: Path) -> bool:
    """Return whether a folder exists, or could be created by this process."""
    for place in (folder, *folder.parents):
        if os.path.lexists(place):
            return place.is_dir() and (place == folder or os.access(place, os.W_OK | os.X_OK))
    return False


def _temporary_cache(reason: str) -> Path:
    """Return a temporary cache folder, the same for all processes of a user."""
    try:
        path = Path(tempfile.gettempdir()) / f"convscope-{_user_id()}"
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
        # Another user may have created it, to get hold of our files.
        status = path.lstat()
        if (
            not stat.S_ISDIR(status.st_mode)
            or status.st_uid != _user_id()
            or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        ):
            path = Path(tempfile.mkdtemp(prefix="convscope-"))
    except OSError as error:
        raise StorageError(
            f"{reason}, and no temporary folder can be made ({error.strerror}); "
            f"set {_CACHE_VARIABLE} to a folder that you can write to"
        ) from error
    # For this process and its children, so that the warning comes once.
    os.environ[_CACHE_VARIABLE] = str(path)
    # Otherwise matplotlib warns about its own cache likewise.
    os.environ.setdefault("MPLCONFIGDIR", str(path / "matplotlib"))
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(
                f"Keeping downloads and measurements in {path}, since {reason}; "
                f"{_CACHE_VARIABLE} names another place",
                file=sys.stderr,
            )
    return path


def _user_id() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


def size_on_disk(path: Path) -> int:
    """Return the bytes in a file, or in all files below a folder; links are not followed.

    Missing files, and files that vanish meanwhile, count as nothing.
    """
    with contextlib.suppress(OSError):
        if path.is_symlink() or not path.is_dir():
            return path.lstat().st_size
        return sum(size_on_disk(Path(entry)) for entry in os.scandir(path))
    return 0


def require_outside(place: Path, data: Path | str | None, option: str = "--out") -> Path:
    """Return the path of a result, unless it is inside the user's folder of images.

    Args:
        place: File or folder to be written.
        data: Folder of images; None if the data is not the user's own.
        option: Option that names the path.

    Raises:
        DataError: If the path is inside.
    """
    if data is not None:
        folder = Path(data).resolve()
        if place.resolve().is_relative_to(folder):
            raise DataError(
                f"{place} would be inside the data folder {folder}, which is never written to; "
                f"choose another folder with {option}"
            )
    return place


def require_writable(folder: Path) -> None:
    """Reject a folder that cannot be made or written to, before there is work in vain.

    Raises:
        StorageError: If nothing can be created in it, or in the nearest folder above that exists.
    """
    with storage_errors(folder):
        there = next(each for each in (folder, *folder.parents) if os.path.exists(each))  # noqa: PTH110 (pathlib's may raise)
        os.rmdir(tempfile.mkdtemp(prefix=".", suffix=".part", dir=there))  # noqa: PTH106


def require_other(place: Path, inputs: Iterable[Path]) -> Path:
    """Return the path of a result, unless it is one of the files that it is made from.

    Raises:
        DataError: If it is, by whatever name.
    """
    try:
        status = place.stat()
    except OSError:  # there is none, or it cannot be written either
        return place
    for file in inputs:
        with contextlib.suppress(OSError):
            if os.path.samestat(status, file.stat()):
                raise DataError(
                    f"{place} is one of the inputs, which are never replaced; choose another place"
                )
    return place


_followers: dict[Path, Callable[[Path], None]] = {}


def follow_writes(folder: Path, call: Callable[[Path], None]) -> None:
    """Call a function with each file below a folder that `atomic_path` has put into place.

    Args:
        folder: Absolute path of the folder.
        call: Function of the file's absolute path; what it raises, the writer raises.
    """
    _followers[folder] = call


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; at a clean exit it takes the place of `path`.

    A reader sees the old file or the new one, never a part: the bytes are flushed to disk before
    the rename, so this holds after a power cut too. If the body raises, or the process is killed,
    `path` is untouched; a temporary file left by a kill starts with a dot and ends in `.part`.

    Raises:
        StorageError: If the disk is full or the folder cannot be written to.
    """
    path = Path(path)
    # The suffix is kept: Keras and matplotlib choose the format by it. The rest is short: a name
    # may be as long as the file system allows.
    suffix = path.suffix if len(path.suffix) <= _LONGEST_SUFFIX else ""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{short_name(path.stem, 64)}-", suffix=f".part{suffix}", dir=path.parent
        )
    temporary = Path(name)
    try:
        with storage_errors(path):
            os.close(handle)
            os.chmod(name, FILE_MODE)
            yield temporary
            _sync(temporary)
            os.replace(temporary, path)
            _sync(path.parent)
        written = path.absolute()
        for folder, call in list(_followers.items()):
            if written.is_relative_to(folder):
                call(written)
    finally:
        temporary.unlink(missing_ok=True)


def link_or_copy(source: Path, path: Path) -> None:
    """Give a file a second name, atomically; a copy where the file system has no hard links.

    It takes no room, and as files are replaced and never changed, one name keeps its content when
    the other gets a new file.

    Raises:
        StorageError: If the file cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.unlink()
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically.

    Raises:
        StorageError: If the file cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file; an empty one if the file is missing or holds none."""
    try:
        return object_in(path.read_bytes())
    except OSError:
        return {}


def object_in(text: str | bytes) -> dict[str, Any]:
    """Return the JSON object in a text; an empty one if it is damaged or holds anything else.

    Examples:
        >>> object_in('{"a": 1}'), object_in("[1]"), object_in('{"a":')
        ({'a': 1}, {}, {})
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):  # the latter: lists in lists, a hundred thousand deep
        return {}
    return content if isinstance(content, dict) else {}


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a table as a CSV file, atomically.

    Args:
        path: File to replace as a whole.
        columns: Names of the columns, in order.
        rows: Values by the name of the column; a name that is no column is an error of the caller.

    Raises:
        StorageError: If the file cannot be written.
    """
    import csv

    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def npy_header(shape: tuple[int, ...], dtype: "npt.DTypeLike") -> bytes:
    """Return the header of a .npy file; the bytes of the array follow, in C order.

    For files that `np.save` cannot write: it needs the whole array, and on a full disk it loses the
    reason ("40 requested and 12 written"). numpy pads the header so that its length stays the same
    when the first axis grows or shrinks.

    Args:
        shape: Shape of the array.
        dtype: Data type of the array, a plain number type.
    """
    import io

    import numpy as np

    held = io.BytesIO()
    description = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(held, description)
    return held.getvalue()


def scratch_array(shape: tuple[int, ...]) -> "npt.NDArray[np.float32]":
    """Return an array of arbitrary contents, float32, that need not fit into memory.

    A large one is mapped from a nameless file in the cache folder, whose space is free again when
    the array is; without room there, it is made in memory.

    Args:
        shape: Shape of the array.
    """
    import numpy as np

    n_bytes = 4 * math.prod(shape)
    if n_bytes >= _LARGE:
        with contextlib.suppress(OSError, StorageError):
            folder = cache_dir()
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                # In advance: a full disk under a mapped page kills the process.
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, n_bytes)
                else:
                    for start in range(0, n_bytes, _BLOCK):
                        file.write(bytes(min(_BLOCK, n_bytes - start)))
                    file.flush()
                # As a plain array: the memmap subclass slows every slice down.
                return np.asarray(np.memmap(file, np.float32, "r+", shape=shape))
    return np.empty(shape, np.float32)


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_NO_ROOM_TEXTS = ("No space left", "Disk quota exceeded")
_STREAM_FAILED = "iostream error"
"""What is left of any error where a program in C++, such as OpenVINO, writes a file."""

_BROKEN = (errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE, errno.EISDIR, errno.EBUSY)
"""What a disk that fails answers, a network drive that was taken away, a folder in the place."""


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusal to write `path` into one clear line.

    The refusal may come as an exception of the library that writes, such as TensorFlow's.

    Raises:
        StorageError: On a full disk or quota, a read-only or forbidden place.
    """
    try:
        yield
    except ConvscopeError:
        raise
    except Exception as error:
        if _is_full(error, path):
            raise StorageError(
                f"no space left on disk while writing {path}; free some space and try again "
                "(what was written before is intact)"
            ) from error
        if not isinstance(error, OSError):
            raise
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise ReadOnlyError(
                f"cannot write {path} ({error.strerror}); choose a place that you can write to"
            ) from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST):
            raise StorageError(
                f"cannot write {path}: there is a file where a folder must be"
            ) from error
        if error.errno == errno.ENAMETOOLONG:
            raise StorageError(
                f"cannot write {path}: that name, or the whole path, is too long for this file "
                "system; choose a shorter one"
            ) from error
        if error.errno in _BROKEN:
            raise StorageError(f"cannot write {path} ({error.strerror})") from error
        if error.errno == errno.ENOENT and not path.parent.is_dir():
            raise StorageError(
                f"cannot write {path}: the folder {path.parent} has vanished"
            ) from error
        if error.errno == errno.ENOENT:  # in /proc, say
            raise StorageError(
                f"cannot write {path} ({error.strerror}); choose another place"
            ) from error
        if error.errno == errno.EFBIG:
            raise StorageError(f"{path} would be larger than the file size limit allows") from error
        raise


def _is_full(error: Exception, path: Path) -> bool:
    """Return whether an error while writing `path` says that the disk is full."""
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        return True
    # TensorFlow, h5py and zipfile lose the number; the text still shows it.
    text = str(error)
    if any(known in text for known in _NO_ROOM_TEXTS):
        return True
    with contextlib.suppress(OSError):  # the folder may be gone
        return _STREAM_FAILED in text and shutil.disk_usage(path.parent).free < _BLOCK
    return False


def _sync(path: Path) -> None:
    """Flush a file's bytes, or a folder's entries, to the disk."""
    if os.name != "posix" and path.is_dir():
        return
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as error:
        # Some file systems cannot sync a folder; the rename is still atomic there.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(fd)
