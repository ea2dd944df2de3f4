"""Commands in this process, through the very door that the installed program uses."""

import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from convscope.cli import main


class Done(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def cli(
    tmp_path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Done]:
    """Run `convscope ARGUMENTS` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    # Set first, so that what --debug sets is taken back.
    monkeypatch.setenv("CONVSCOPE_DEBUG", "")
    monkeypatch.setenv("COLUMNS", "160")

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["convscope", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        code = stopped.value.code
        return Done(0 if code is None else int(code), *capsys.readouterr())

    return run


@pytest.fixture
def fails(cli) -> Callable[..., str]:
    """Run a command that is to fail with one line on standard error; return that line."""

    def run(code: int, *arguments: object) -> str:
        done = cli(*arguments)
        assert done.code == code, done
        assert done.out == ""
        assert done.err.startswith("error: ")
        assert done.err.endswith("\n")
        assert done.err.count("\n") == 1, done.err
        return done.err

    return run
