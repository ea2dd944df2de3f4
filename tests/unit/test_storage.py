import errno
import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from convscope import storage
from convscope.errors import DataError, FailureError, ReadOnlyError, StorageError
from convscope.storage import (
    atomic_path,
    link_or_copy,
    npy_header,
    read_object,
    require_outside,
    scratch_array,
    storage_errors,
    write_text,
)


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        assert path.read_text() == "old"
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["file.txt"]


@pytest.mark.parametrize(
    ("error", "free", "full"),
    [
        (RuntimeError("{{node Save}} x.tempstate; No space left on device [Op:SaveV2]"), 1e9, True),
        (RuntimeError("basic_ios::clear: iostream error"), 0, True),
        (RuntimeError("basic_ios::clear: iostream error"), 1e9, False),
        (RuntimeError("OOM when allocating tensor"), 0, False),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 1e9, True),
        (FailureError("it told: No space left on device"), 0, False),
    ],
)
def test_a_full_disk_is_told_whichever_library_met_it(error, free, full, tmp_path, monkeypatch):
    usage = SimpleNamespace(free=free)
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda folder: usage)

    def write():
        with storage_errors(tmp_path / "model"):
            raise error

    with pytest.raises(Exception) as raised:
        write()
    if full:
        assert type(raised.value) is StorageError
        assert str(raised.value).startswith(f"no space left on disk while writing {tmp_path}/model")
    else:
        assert raised.value is error


def test_a_failure_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")

    def fail():
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_a_mode_that_cannot_be_set_leaves_no_litter_either(tmp_path, monkeypatch):
    def refuse(path, mode):
        raise PermissionError(errno.EPERM, "not allowed", path)

    monkeypatch.setattr("convscope.storage.os.chmod", refuse)
    with pytest.raises(ReadOnlyError, match="not allowed"):
        write_text(tmp_path / "a", "new")
    assert list(tmp_path.iterdir()) == []


def test_killed_in_the_middle_of_a_write(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")
    code = textwrap.dedent(
        f"""
        import os, signal
        from pathlib import Path
        from convscope.storage import atomic_path
        with atomic_path(Path({str(path)!r})) as temporary:
            temporary.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    litter = [name for name in os.listdir(tmp_path) if name != "file.txt"]
    assert all(name.startswith(".file-") and ".part" in name for name in litter)


def test_no_space_left_is_one_clear_line(tmp_path):
    # A file size limit is the full disk that needs no rights to set up.
    path = tmp_path / "file.bin"
    write_text(path, "old")
    code = textwrap.dedent(
        f"""
        import resource, signal
        from pathlib import Path
        from convscope.errors import StorageError
        from convscope.storage import atomic_path
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, {resource.RLIM_INFINITY}))
        try:
            with atomic_path(Path({str(path)!r})) as temporary:
                temporary.write_bytes(bytes(5000))
        except StorageError as error:
            print(error)
        """
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "file.bin" in done.stdout
    assert done.stdout.count("\n") == 1
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.bin"]


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises((StorageError, NotADirectoryError)) as caught:
        write_text(tmp_path / "file" / "below.txt", "x")
    assert isinstance(caught.value, StorageError)
    assert "below.txt" in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc takes no files")
def test_a_place_that_takes_no_files_is_one_clear_line():
    with pytest.raises(StorageError, match=r"cannot write /proc/a.txt .*choose another place"):
        write_text(Path("/proc/a.txt"), "a")


@pytest.mark.parametrize(
    "content", [None, b"", b"[1]", b'{"a": 1', b"\xff", b'{"a": ' + b"[" * 200_000], ids=range(6)
)
def test_what_is_no_json_object_is_an_empty_one(content, tmp_path):
    path = tmp_path / "notes.json"
    if content is not None:
        path.write_bytes(content)
    assert read_object(path) == {}
    path.write_text('{"a": "é"}', encoding="utf-8")
    assert read_object(path) == {"a": "é"}


def test_new_files_have_the_mode_of_ordinary_ones(tmp_path):
    write_text(tmp_path / "a", "x")
    (tmp_path / "b").write_text("x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_writing_leaves_the_mask_of_the_process_alone(tmp_path, monkeypatch):
    # For a moment every thread's new files would be writable for all.
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("the mask was touched"))
    write_text(tmp_path / "a", "x")


def test_file_and_folder_are_on_the_disk_before_a_file_counts_as_written(tmp_path, monkeypatch):
    # What a power cut would take: the bytes before the rename, the name before the return.
    happened = []
    fsync, replace = os.fsync, os.replace

    def synced(fd: int) -> None:
        happened.append(("fsync", str(Path(f"/proc/self/fd/{fd}").readlink())))
        fsync(fd)

    def replaced(source, target) -> None:
        happened.append(("replace", str(target)))
        assert happened[0] == ("fsync", str(source))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    write_text(tmp_path / "file.txt", "new")
    assert [what for what, _ in happened] == ["fsync", "replace", "fsync"]
    assert happened[1:] == [("replace", str(tmp_path / "file.txt")), ("fsync", str(tmp_path))]


@pytest.mark.parametrize(("number", "kept"), [(errno.EIO, True), (errno.EINVAL, False)])
def test_a_file_whose_bytes_do_not_reach_the_disk_does_not_replace_the_old_one(
    tmp_path, monkeypatch, number, kept
):
    write_text(tmp_path / "file.txt", "old")

    def fail(fd: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    if kept:
        with pytest.raises(StorageError, match=r"cannot write .*file.txt \(Input/output error\)"):
            write_text(tmp_path / "file.txt", "new")
    else:  # a file system that cannot do it
        write_text(tmp_path / "file.txt", "new")
    assert (tmp_path / "file.txt").read_text() == ("old" if kept else "new")
    assert os.listdir(tmp_path) == ["file.txt"]


def test_no_way_into_the_folder_of_images_is_overlooked(tmp_path):
    data = tmp_path / "data"
    (data / "cats").mkdir(parents=True)
    (tmp_path / "results").symlink_to(data / "cats")
    (tmp_path / "images").symlink_to(data)
    for place in (data, data / "a", tmp_path / "results" / "a", tmp_path / "other" / ".." / "data"):
        for folder in (data, tmp_path / "images"):
            with pytest.raises(DataError, match="would be inside the data folder .* with --out"):
                require_outside(place, folder)
    for place in (tmp_path / "a", tmp_path / "data-2", tmp_path):
        assert require_outside(place, tmp_path / "images") == place
    assert require_outside(data, None) == data


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "int64"])
@pytest.mark.parametrize("shape", [(7,), (0, 4), (3, 4, 2)])
def test_the_header_is_the_one_that_numpy_writes(tmp_path, shape, dtype):
    array = np.arange(np.prod(shape)).astype(dtype).reshape(shape)
    np.save(tmp_path / "array.npy", array)
    assert npy_header(shape, dtype) + array.tobytes() == (tmp_path / "array.npy").read_bytes()


def test_the_first_axis_may_change_without_moving_what_follows_the_header():
    lengths = {len(npy_header((rows, 96, 96, 3), np.uint8)) for rows in (0, 9, 10, 10**6, 10**18)}
    assert len(lengths) == 1


def mapped_from(array, folder):
    """Return whether an array's memory is that of a file that was in a folder."""
    start = array.__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, last = (int(each, 16) for each in line.split()[0].split("-"))
        if first <= start < last:
            return str(folder) in line
    return False


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux shows mappings")
def test_a_large_scratch_array_is_in_a_nameless_file_of_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path / "cache"))
    small = scratch_array((3, 5))
    assert not mapped_from(small, tmp_path)
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(storage, "_LARGE", 4 * 3000 * 50)
    large = scratch_array((3000, 50))
    assert mapped_from(large, tmp_path)
    assert type(large) is np.ndarray
    assert os.listdir(tmp_path / "cache") == []
    large[:] = np.arange(150_000).reshape(3000, 50)
    large *= 2
    assert large[2999, 49] == 299_998


def test_a_scratch_array_without_room_on_the_disk_is_made_in_memory(tmp_path, monkeypatch):
    monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path))
    monkeypatch.setattr(storage, "_LARGE", 1)

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    array = scratch_array((3, 5))
    array[:] = 1
    assert array.sum() == 15
    assert not mapped_from(array, tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("links", [True, False])
def test_a_second_name_keeps_its_content_when_the_first_gets_a_new_file(
    tmp_path, monkeypatch, links
):
    def refused(*_):
        raise OSError(errno.EPERM, "no hard links here")

    if not links:
        monkeypatch.setattr(storage.os, "link", refused)
    best, last = tmp_path / "best", tmp_path / "last"
    write_text(best, "first")
    link_or_copy(best, last)
    assert last.samefile(best) == links
    link_or_copy(best, last)  # the same file once more
    write_text(best, "second")
    assert (last.read_text(), best.read_text()) == ("first", "second")
    assert sorted(tmp_path.iterdir()) == [best, last]
