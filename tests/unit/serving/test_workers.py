"""Processes of a server: which are replaced, and which are not."""

import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def run(folder, work):
    """Run two workers in a process of their own; return its exit code and how many began."""
    code = f"""
        import os, signal, sys
        from pathlib import Path
        from convscope.errors import FailureError
        from convscope.serving.workers import run_workers

        def work():
            with Path("began").open("a") as file:
                file.write("x")
            {work}

        try:
            run_workers(2, work)
        except FailureError:
            sys.exit(7)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, cwd=folder, timeout=60, check=False, capture_output=True)
    return done.returncode, len((folder / "began").read_text())


def test_workers_that_are_killed_again_and_again_are_not_replaced_for_ever(tmp_path):
    code, n_began = run(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)")
    assert code == 7
    assert 6 <= n_began <= 7


def test_a_worker_that_cannot_start_ends_all(tmp_path):
    assert run(tmp_path, "raise ValueError")[0] == 7


def test_a_signal_ends_all_workers(tmp_path):
    work = "os.kill(os.getppid(), signal.SIGTERM) or signal.pause()"
    code, n_began = run(tmp_path, work)
    assert code == 0
    assert 1 <= n_began <= 2


def test_a_worker_that_is_killed_once_is_replaced(tmp_path):
    work = (
        'os.kill(*((os.getpid(), signal.SIGKILL) if len(Path("began").read_text()) == 1 '
        "else (os.getppid(), signal.SIGTERM))) or signal.pause()"
    )
    code, n_began = run(tmp_path, work)
    assert code == 0
    assert 2 <= n_began <= 3
