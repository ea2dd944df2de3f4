import errno
import os
import subprocess
import sys
import textwrap
import threading

import pytest

from convscope.errors import LockTakenError, StorageError
from convscope.locks import exclusive, share_while_alive

WITHOUT_LOCKS = [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP]


def test_the_lock_refuses_or_waits(tmp_path):
    lock = tmp_path / "lock"
    order = []

    def wait_for_it():
        with exclusive(lock, wait=True):
            order.append("second")

    with exclusive(lock, wait=False):
        with (
            pytest.raises(LockTakenError, match="busy here"),
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
    except LockTakenError:
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
        from convscope.locks import share_while_alive
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


@pytest.mark.parametrize("number", WITHOUT_LOCKS, ids=errno.errorcode.get)
@pytest.mark.parametrize("wait", [True, False])
def test_where_there_are_no_locks_work_goes_on_and_that_is_said_once(
    tmp_path, flock_fails, capsys, number, wait
):
    flock_fails(number)
    for _ in range(2):
        with exclusive(tmp_path / "lock", wait=wait) as held:
            assert held is False
    share_while_alive(tmp_path / "lock", Holder())
    said = capsys.readouterr().err
    assert said.count("without locks") == 1
    assert said.startswith(str(tmp_path))
    assert "--out" in said
    assert said.count("\n") == 1


def test_with_a_lock_it_is_said_that_it_is_held(tmp_path):
    with exclusive(tmp_path / "lock", wait=False) as held:
        assert held is True


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE], ids=errno.errorcode.get)
def test_what_else_keeps_a_lock_from_being_taken_is_named(tmp_path, flock_fails, number):
    flock_fails(number)
    with (
        pytest.raises(StorageError, match=os.strerror(number)),
        exclusive(tmp_path / "lock", wait=True),
    ):
        pass


def test_a_lock_file_that_cannot_be_written_is_no_other_process(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StorageError, match="cannot write"),
        exclusive(tmp_path / "file" / "lock", wait=False),
    ):
        pass


def test_a_taken_lock_is_told_from_one_that_cannot_be_had(tmp_path):
    with (
        exclusive(tmp_path / "lock", wait=False),
        pytest.raises(LockTakenError, match="in use by another process"),
        exclusive(tmp_path / "lock", wait=False),
    ):
        pass


def test_who_waits_is_told_before_the_wait_and_only_then(tmp_path):
    told = []
    with exclusive(tmp_path / "lock", wait=True, on_wait=lambda: told.append("free")):
        assert told == []
        thread = threading.Thread(target=wait_for, args=(tmp_path / "lock", told))
        thread.start()
        thread.join(0.2)
        assert told == ["waits"]
    thread.join(10)
    assert told == ["waits", "has it"]


def wait_for(lock, told) -> None:
    with exclusive(lock, wait=True, on_wait=lambda: told.append("waits")):
        told.append("has it")
