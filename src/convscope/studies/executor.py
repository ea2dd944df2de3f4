"""Training in a process of its own, so that one run cannot influence another."""

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from convscope.errors import StorageError, TrainingError
from convscope.progress import Progress
from convscope.run import Run

_DISK_FULL = "no space left on disk"
"""How such an error begins; a run on a full disk may not even record why it failed."""


@dataclass(frozen=True)
class Failure:
    """Why a run could not be trained.

    Attributes:
        reason: In a line.
        final: Whether training it again would fail again.
    """

    reason: str
    final: bool


def train_apart(
    run: Run, arguments: Sequence[str], *, data_dir: Path | str | None, progress: Progress
) -> Failure | None:
    """Train a run to its end in a process of its own, from where it stands; not judged on test.

    Args:
        run: Where it goes; what is finished is left as it is.
        arguments: Of `convscope train`, for a run that has not begun.
        data_dir: A further place to look for the files of a registered dataset.
        progress: Told of each line that the process tells.

    Returns:
        None if it is trained.

    Raises:
        StorageError: If its files cannot be written: others would meet the same.
    """
    begun = run.state_file.exists()
    if begun and run.status == "training":
        # Whoever started it was killed; its process lives on for a while.
        progress.say(f"{run.path} is still being trained; waiting for it")
        while run.status == "training":
            time.sleep(1)
    if begun and run.status == "finished":
        return None
    command = [sys.executable, "-m", "convscope", "train", "--no-test"]
    command += ["--resume", str(run.path)] if begun else [*arguments, "--out", str(run.path)]
    if data_dir is not None:
        command += ["--data-dir", str(data_dir)]
    last = _follow(command, progress)
    if last is None:
        return None
    failure = run.state.get("failure", {}) if run.state_file.exists() else {}
    reason = str(failure.get("reason") or last)
    if failure.get("kind") == StorageError.__name__ or _DISK_FULL in reason:
        raise StorageError(reason)
    # What training itself ran into, it would run into again.
    return Failure(reason, final=failure.get("kind") == TrainingError.__name__)


def _follow(command: list[str], progress: Progress) -> str | None:
    """Run a command and hand on what it tells on standard error.

    Args:
        command: The program and its arguments.
        progress: Told of each line.

    Returns:
        None if it went well; else its last line, which says what was wrong.
    """
    last = ""
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if line.strip() and not _is_chatter(line):
                    last = line.strip()
                    progress.say(f"  {last}")
        except KeyboardInterrupt:
            # It was told too, and saves what it has.
            process.wait()
            raise
    if process.returncode == 0:
        return None
    if process.returncode < 0:
        return (
            f"its process was killed by signal {-process.returncode}"
            f"{' (out of memory?)' if process.returncode == -9 else ''}"
        )
    return last.removeprefix("error: ") or f"its process ended with {process.returncode}"


def _is_chatter(line: str) -> bool:
    """Tell whether a line comes from the engine below and says nothing to the user."""
    return line.startswith(("I0000", "WARNING: All log messages before absl", "E0000", "W0000"))
