import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from convscope.errors import RunError, StorageError
from convscope.storage import atomic_path, exclusive, write_text


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
