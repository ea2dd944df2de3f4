"""Training in a separate process, so that one run cannot influence another.

A job is a resolved configuration and a folder; the process that gets it decides nothing itself.
"""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convscope.errors import ConvscopeError, StorageError, TrainingError
from convscope.progress import Progress, console_progress
from convscope.recipe import RunConfig
from convscope.run import Run

_DISK_FULL = "no space left on disk"
"""Beginning of such an error; a run on a full disk may not even record why it failed."""


@dataclass(frozen=True)
class Job:
    """A run to train.

    Attributes:
        config: Resolved settings; the run's `config.yaml`.
        folder: Run folder; one that was begun with this configuration is continued.
        data_dir: Further folder to look for the files of a registered dataset.
    """

    config: RunConfig
    folder: Path
    data_dir: Path | str | None = None


@dataclass(frozen=True)
class Outcome:
    """Result of a job.

    Attributes:
        run: Run folder, finished if there is no failure.
        failure: Reason why it could not be trained, in one line.
        permanent: Whether a retry would fail the same way.
    """

    run: Run
    failure: str | None = None
    permanent: bool = False


def execute(job: Job, progress: Progress) -> Outcome:
    """Train a run to its end in a separate process, from where it stands; test stays sealed.

    Args:
        job: Run to train; a finished run is left as it is.
        progress: Called with each line that the process prints.

    Raises:
        StorageError: If its files cannot be written: other jobs would fail alike.
    """
    run = Run(job.folder)
    begun = run.state_file.exists()
    if begun and run.status == "training":
        # Its parent was killed; the process lives on for a while.
        progress.say(f"{run.path} is still being trained; waiting for it")
        while run.status == "training":
            time.sleep(1)
    if begun and run.status == "finished":
        return Outcome(run)
    last = _follow(job, progress)
    if last is None:
        return Outcome(run)
    failure = run.state.get("failure", {}) if run.state_file.exists() else {}
    reason = str(failure.get("reason") or last)
    if failure.get("kind") == StorageError.__name__ or _DISK_FULL in reason:
        raise StorageError(reason)
    # Training would meet its own errors again.
    return Outcome(run, reason, permanent=failure.get("kind") == TrainingError.__name__)


def _follow(job: Job, progress: Progress) -> str | None:
    """Run a job's process to its end and pass on its lines from standard error.

    Returns:
        None if it succeeded; otherwise its last line, which says what was wrong.
    """
    order = {
        "config": job.config.model_dump(),
        "folder": str(job.folder.absolute()),
        "data_dir": None if job.data_dir is None else str(job.data_dir),
    }
    last = ""
    with subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        try:
            with process.stdin:
                process.stdin.write(json.dumps(order))
            for line in process.stderr:
                if line.strip() and not _is_chatter(line):
                    last = line.strip()
                    progress.say(f"  {last}")
        except KeyboardInterrupt:
            # The process received it too, and saves its state.
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
    """Return whether a line comes from the engine below and tells the user nothing."""
    return line.startswith(("I0000", "WARNING: All log messages before absl", "E0000", "W0000"))


def execute_here(job: Job, progress: Progress) -> Run:
    """Train a run to its end in this process, from where it stands; test stays sealed.

    Saves the seconds that a process takes to start; memory that one run leaves behind is passed on
    to the next.

    Raises:
        ConfigError: If the run was begun with other settings, or the model cannot be built.
        TrainingError: If it cannot be trained.
        FailureError: If weights or data cannot be obtained, or a file cannot be written.
    """
    from convscope.api.train import resume, train
    from convscope.planning.settle import Request, prepare

    run = Run(job.folder)
    if not run.state_file.exists():
        plan = prepare(job.config, progress, job.data_dir)
        return train(plan, progress=progress, out=run.path, test=False)
    if run.state.get("status") == "finished":
        return run
    request = Request(job.config.model_dump())
    return resume(run, request, progress=progress, test=False, data_dir=job.data_dir)


def _job_of(order: dict[str, Any]) -> Job:
    config = RunConfig.model_validate(order["config"])
    return Job(config, Path(order["folder"]), order["data_dir"])


if __name__ == "__main__":
    try:
        execute_here(_job_of(json.load(sys.stdin)), console_progress())
    except KeyboardInterrupt:
        sys.exit(130)
    except ConvscopeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Exception as error:  # one line for the parent process, whatever the error
        print(f"error: unexpected {type(error).__name__}: {error}".split("\n")[0], file=sys.stderr)
        sys.exit(1)
