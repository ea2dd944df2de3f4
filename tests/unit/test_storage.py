import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

from convscope.errors import RunError, StorageError
from convscope.storage import atomic_path, exclusive, npy_header, share_while_alive, write_text


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        assert path.read_text() == "old"
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["file.txt"]


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


def test_new_files_have_the_mode_of_ordinary_ones(tmp_path):
    write_text(tmp_path / "a", "x")
    (tmp_path / "b").write_text("x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_the_lock_refuses_or_waits(tmp_path):
    lock = tmp_path / "lock"
    order = []

    def wait_for_it():
        with exclusive(lock, wait=True):
            order.append("second")

    with exclusive(lock, wait=False):
        with (
            pytest.raises(RunError, match="busy here"),
            exclusive(lock, wait=False, busy="busy here"),
        ):
            pass
        thread = threading.Thread(target=wait_for_it)
        thread.start()
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


class Holder:
    """Something that can be garbage collected."""


def is_free(lock) -> bool:
    try:
        with exclusive(lock, wait=False):
            return True
    except RunError:
        return False


def test_a_lock_is_shared_until_the_last_holder_is_gone(tmp_path):
    lock = tmp_path / "folder" / "lock"
    first, second = Holder(), Holder()
    share_while_alive(lock, first)
    share_while_alive(lock, second)
    del first
    assert not is_free(lock)
    del second
    assert is_free(lock)


def test_who_wants_to_share_a_lock_waits_for_its_one_owner(tmp_path):
    lock, holder, order = tmp_path / "lock", Holder(), []

    def share():
        share_while_alive(lock, holder)
        order.append("shared")

    with exclusive(lock, wait=False):
        thread = threading.Thread(target=share)
        thread.start()
        thread.join(0.1)
        order.append("owned")
    thread.join(10)
    assert order == ["owned", "shared"]
    assert not is_free(lock)


def test_a_killed_process_gives_its_share_back(tmp_path):
    lock = tmp_path / "lock"
    code = textwrap.dedent(
        f"""
        from pathlib import Path
        from convscope.storage import share_while_alive
        holder = type("Holder", (), {{}})()
        share_while_alive(Path({str(lock)!r}), holder)
        print("shared", flush=True)
        input()
        """
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], text=True, **pipes) as other:
        assert other.stdout.readline() == "shared\n"
        assert not is_free(lock)
        other.kill()
    assert is_free(lock)


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "int64"])
@pytest.mark.parametrize("shape", [(7,), (0, 4), (3, 4, 2)])
def test_the_header_is_the_one_that_numpy_writes(tmp_path, shape, dtype):
    array = np.arange(np.prod(shape)).astype(dtype).reshape(shape)
    np.save(tmp_path / "array.npy", array)
    assert npy_header(shape, dtype) + array.tobytes() == (tmp_path / "array.npy").read_bytes()


def test_the_first_axis_may_change_without_moving_what_follows_the_header():
    lengths = {len(npy_header((rows, 96, 96, 3), np.uint8)) for rows in (0, 9, 10, 10**6, 10**18)}
    assert len(lengths) == 1
