"""The folder of a study of several runs: new, or taken up where it was left."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from convscope.errors import RunError
from convscope.locks import exclusive
from convscope.run import Run


def require_free(path: Path, state_file: Path, kind: str) -> None:
    """Refuse a folder that holds something else.

    Args:
        path: The study's folder; need not exist.
        state_file: The file in it that makes it one.
        kind: What it is, in a word.

    Raises:
        RunError: If it is a file, or holds other things.
    """
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file; choose another --out")
    # What a kill may leave behind is no reason to refuse.
    if not state_file.exists() and any(
        item.name != ".lock" and ".part" not in item.name for item in path.glob("*")
    ):
        raise RunError(f"{path} is not empty and holds no {kind}; choose another --out")


@contextlib.contextmanager
def study_folder(path: Path, state_file: Path, kind: str) -> Iterator[None]:
    """Hold a study's folder, so that no other process works on it.

    Args:
        path: The folder; made if absent.
        state_file: The file in it that makes it such a study.
        kind: What it is, in a word.

    Raises:
        RunError: If it is a file, holds other things, or another process works on it.
        StorageError: If it cannot be written to.
    """
    require_free(path, state_file, kind)
    busy = f"{path} is being worked on by another process; wait for it or stop it"
    with exclusive(path / ".lock", wait=False, busy=busy):
        yield


def look_of(path: Path, first: Run) -> str:
    """Return what makes the judging of a study's runs one look at the test images.

    The same when a study goes on that was stopped in the middle of it, another when it is made
    again under its name.

    Args:
        path: Its folder.
        first: Its first run.
    """
    return f"{path.resolve()} {first.state.get('created', '')}"


def as_read_back(asked: Any) -> Any:
    """Return what comes back when this is written to a state file: to compare it with one."""
    return json.loads(json.dumps(asked))


def read_state(state_file: Path, version: int) -> dict[str, Any] | None:
    """Return what was written down when the study was left; None if it is new.

    Raises:
        RunError: If the file is damaged, or another version of convscope wrote it.
    """
    if not state_file.exists():
        return None
    try:
        state = json.loads(state_file.read_text(encoding="utf-8"))
        written = state.get("format")
    except (OSError, ValueError, AttributeError, RecursionError):
        raise damaged(state_file) from None
    if written != version:
        raise RunError(
            f"{state_file} was written by another version of convscope; choose another --out"
        )
    return state  # type: ignore[no-any-return]


def require_same(
    path: Path, before: Mapping[str, Any], asked: Mapping[str, Any], kind: str
) -> None:
    """Refuse to go on with a study of other settings.

    Args:
        path: Its folder.
        before: What was asked of it.
        asked: What is asked now; keys that `before` has besides do not count.
        kind: What it is, in a word.

    Raises:
        RunError: If they differ; the message names the first setting that does.
    """
    for key, value in asked.items():
        if before.get(key) != value:
            raise RunError(
                f"{path} holds a {kind} with {key} {before.get(key)!r}, not {value!r}; "
                "repeat its settings to go on with it, or choose another --out"
            )


def damaged(state_file: Path) -> RunError:
    """Return the error for a state that makes no sense."""
    return RunError(f"{state_file} is damaged; choose another --out")
