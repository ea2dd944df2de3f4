"""Executors of the jobs of a study: on this machine here, on a Ray cluster in `on_ray`.

A job is a resolved configuration and a folder; whoever executes it decides nothing, so that its
result is the same wherever it is trained. Usually each job has a process of its own, so that one
run cannot influence another.
"""

import _thread
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from convscope.backend import THREADS, forget_networks, is_chatter, only_our_own_use
from convscope.errors import (
    ConfigError,
    ConvscopeError,
    DataError,
    DivergedError,
    StorageError,
    TrainingError,
)
from convscope.machine import RUN_MODULE
from convscope.planning.plan import run_config
from convscope.progress import Progress, console_progress
from convscope.recipe import RunConfig, differences_in_kind
from convscope.remote import fetch, folder_path, shown
from convscope.run import Run
from convscope.workplace import HEARTBEAT

_DISK_FULL = "no space left on disk"
"""Beginning of such an error; a run on a full disk may not even record why it failed."""

_OTHER_IMAGES = "are not those with which the study began"
"""Part of such an error, after which there is no run."""


@dataclass(frozen=True)
class Job:
    """A run to train.

    Attributes:
        config: Resolved settings; the run's `config.yaml`.
        folder: Run folder; one that was begun with this configuration is continued, with another
            one refused.
        data_dir: Further folder to look for the files of a built-in dataset.
        title: Line for the user when it begins, such as "Run 1 of 3: fast, seed 83".
        fingerprint: That of the study's images, as `Dataset.provenance` has it; on others the run
            is refused. None for data without one.
    """

    config: RunConfig
    folder: Path
    data_dir: Path | str | None = None
    title: str = ""
    fingerprint: str | None = None


@dataclass(frozen=True)
class Outcome:
    """Result of a job.

    Attributes:
        run: Run folder, finished if there is no failure.
        failure: Reason why it could not be trained, in one line.
        permanent: Whether a retry would fail the same way.
        stopped: Whether the study stopped it; its finished epochs are kept.
    """

    run: Run
    failure: str | None = None
    permanent: bool = False
    stopped: bool = False


Unwanted = Callable[[Job], bool]
"""Function that says, once in a while, whether a job at work is to be stopped."""


class Executor(Protocol):
    """Way of doing the jobs of a study."""

    @property
    def at_once(self) -> int:
        """Number of jobs that run at once now."""

    def outcomes(
        self, jobs: Iterable[Job], progress: Progress, unwanted: Unwanted | None = None
    ) -> Iterator[tuple[Job, Outcome]]:
        """Train each run to its end, from where it stands; test stays sealed.

        Args:
            jobs: Runs to train, none of which depends on another that is not finished yet; each is
                taken when there is room for it. A finished one is left as it is.
            progress: Called with the title of each job, and with the lines of its training.
            unwanted: Function that is asked during training, about once per epoch, whether to stop
                a job; in this process it is never asked.

        Yields:
            Each job with its result when it ends, in the order in which they end.

        Raises:
            StorageError: If files cannot be written: other jobs would fail alike.
            DataError: If the images are not those of the study: likewise.
            KeyboardInterrupt: On Ctrl-C, once the runs at work have saved their state.
        """


@dataclass(frozen=True)
class LocalExecutor:
    """One job after the other, on this machine.

    Attributes:
        threads: Processor cores that a job keeps busy; None takes all that are usable.
        own_process: Whether each job gets a process of its own. Without it, the seconds that a
            process takes to start are saved, and memory that one run leaves behind is passed on to
            the next.
    """

    threads: int | None = None
    own_process: bool = True

    @property
    def at_once(self) -> int:
        """See `Executor`."""
        return 1

    def outcomes(
        self, jobs: Iterable[Job], progress: Progress, unwanted: Unwanted | None = None
    ) -> Iterator[tuple[Job, Outcome]]:
        """See `Executor`."""
        for job in jobs:
            if job.title:
                progress.say(job.title)
            if self.own_process:
                yield job, execute(job, progress, self.threads, unwanted)
                continue
            try:
                outcome = Outcome(execute_here(job, progress))
            except (ConfigError, TrainingError) as error:
                outcome = Outcome(Run(job.folder), str(error), permanent=True)
            forget_networks()
            yield job, outcome


def execute(
    job: Job,
    progress: Progress,
    threads: int | None = None,
    unwanted: Unwanted | None = None,
) -> Outcome:
    """Train a run to its end in a separate process, from where it stands; test stays sealed.

    Args:
        job: Run to train; a finished run is left as it is.
        progress: Called with each line that the process prints.
        threads: Processor cores that it keeps busy; None takes all that are usable.
        unwanted: Function that is asked with each line of the process whether to stop it.

    Raises:
        StorageError: If its files cannot be written: other jobs would fail alike.
        DataError: If the images are not those of the study: likewise.
    """
    run = Run(job.folder)
    begun = run.state_file.exists()
    if begun and run.is_locked:
        # Its parent was killed; the process lives on for a while.
        progress.say(f"{run.path} is still being trained; waiting for it")
        _wait_for(run)
    try:
        if begun and _is_done(run, job):
            return Outcome(run)
    except ConfigError as error:
        return Outcome(run, str(error), permanent=True)
    try:
        last = _follow(job, progress, threads, unwanted)
    except _StoppedError:
        return Outcome(run, stopped=True)
    if last is None:
        return Outcome(run)
    failure = run.state.get("failure", {}) if run.state_file.exists() else {}
    reason = str(failure.get("reason") or last)
    if failure.get("kind") == StorageError.__name__ or _DISK_FULL in reason:
        raise StorageError(reason)
    if _OTHER_IMAGES in reason:
        raise DataError(reason.removeprefix("error: "))
    # The same settings diverge again; a lost process may be there the next time.
    return Outcome(run, reason, permanent=failure.get("kind") == DivergedError.__name__)


def _wait_for(run: Run) -> None:
    """Return when nobody trains a run any more."""
    while run.is_locked:
        time.sleep(1)
        # By the heartbeat it is known to be gone, even if it cannot be fetched for a while.
        with contextlib.suppress(StorageError):
            fetch(run.path / HEARTBEAT)
    # What another host did at an address until it ended.
    fetch(run.path)


def _is_done(run: Run, job: Job) -> bool:
    """Return whether a run that was begun is finished.

    Raises:
        ConfigError: If it was begun with other settings than the job's, whose results are others,
            or its settings cannot be read.
    """
    for key, (before, after) in differences_in_kind(run_config(run), job.config).items():
        raise ConfigError(
            f"{shown(run.path)} was trained with {key} {before!r}, not {after!r}; choose another "
            "--out"
        )
    return run.status == "finished"


class _StoppedError(Exception):
    """The study no longer wants a job."""


def _follow(
    job: Job, progress: Progress, threads: int | None, unwanted: Unwanted | None
) -> str | None:
    """Run a job's process to its end and pass on its lines from standard error.

    The process is told to stop by the closing of its standard input, which also happens when this
    process is killed; Ctrl-C on a terminal does not reach it directly.

    Returns:
        None if it succeeded; otherwise its last line, which says what was wrong.
    """
    last = ""
    with subprocess.Popen(
        [*RUN_MODULE, __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=_environment(threads),
        start_new_session=True,
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        try:
            with contextlib.suppress(BrokenPipeError):  # it ended; its last line says why
                process.stdin.write(f"{json.dumps(_order_of(job))}\n")
                process.stdin.flush()
            for line in process.stderr:
                if line.strip() and not is_chatter(line):
                    last = line.strip()
                    progress.say(f"  {last}")
                    if unwanted is not None and unwanted(job):
                        raise _StoppedError
        except BaseException:
            _stop(process)
            raise
    if process.returncode == 0:
        return None
    if process.returncode < 0:
        return (
            f"its process was killed by signal {-process.returncode}"
            f"{' (out of memory?)' if process.returncode == -9 else ''}"
        )
    return last.removeprefix("error: ") or f"its process ended with {process.returncode}"


def _environment(threads: int | None) -> dict[str, str]:
    """Return the environment of a job's process that keeps some cores busy."""
    if threads is None:
        return dict(os.environ)
    # From this one follow the variables of each backend; an executor may have set them otherwise.
    own = {name for names in THREADS.values() for name in names}
    kept = {name: value for name, value in os.environ.items() if name not in own}
    return kept | {"LOKY_MAX_CPU_COUNT": str(threads)}


def _stop(process: "subprocess.Popen[str]") -> None:
    """Let a process save its state and end; a second Ctrl-C ends it at once."""
    assert process.stdin is not None
    assert process.stderr is not None
    try:
        with contextlib.suppress(OSError):
            process.stdin.close()
        # A full pipe would keep it from ending.
        for _ in process.stderr:
            pass
        process.wait()
    except BaseException:
        process.kill()
        raise


def execute_here(job: Job, progress: Progress) -> Run:
    """Train a run to its end in this process, from where it stands; test stays sealed.

    Saves the seconds that a process takes to start; memory that one run leaves behind is passed on
    to the next.

    Raises:
        ConfigError: If the run was begun with other settings, or the model cannot be built.
        DataError: If the images are not those of the study.
        TrainingError: If it cannot be trained.
        FailureError: If weights or data cannot be obtained, or a file cannot be written.
    """
    from convscope.api.train import resume, train
    from convscope.planning.settle import Request, prepare

    run = Run(job.folder)
    if not run.state_file.exists():
        plan = prepare(job.config, progress, job.data_dir)
        if job.fingerprint not in (None, plan.dataset.provenance.get("fingerprint")):
            raise DataError(
                f"the images in {job.config.data_path} {_OTHER_IMAGES}; restore them, then repeat "
                "the command"
            )
        return train(plan, progress=progress, out=run.path, test=False)
    if _is_done(run, job):
        return run
    request = Request(job.config.model_dump())
    return resume(run, request, progress=progress, test=False, data_dir=job.data_dir)


def _order_of(job: Job) -> dict[str, Any]:
    """Return a job as its process gets it."""
    return {
        "config": job.config.model_dump(),
        "folder": str(job.folder.absolute()),
        "data_dir": None if job.data_dir is None else str(job.data_dir),
        "fingerprint": job.fingerprint,
    }


def _job_of(order: dict[str, Any]) -> Job:
    config = RunConfig.model_validate(order["config"])
    folder = folder_path(order["folder"], "the folder")
    return Job(config, folder, order["data_dir"], fingerprint=order["fingerprint"])


def _stop_at_end_of(stream: Any) -> None:
    """Interrupt the main thread, as Ctrl-C does, when the other end of a stream is closed."""
    while stream.read(1024):
        pass
    _thread.interrupt_main()


if __name__ == "__main__":
    try:
        order = json.loads(sys.stdin.readline())
        threading.Thread(target=_stop_at_end_of, args=(sys.stdin,), daemon=True).start()
        with only_our_own_use():
            execute_here(_job_of(order), console_progress())
    except KeyboardInterrupt:
        sys.exit(130)
    except ConvscopeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Exception as error:  # one line for the parent process, whatever the error
        print(f"error: unexpected {type(error).__name__}: {error}".split("\n")[0], file=sys.stderr)
        sys.exit(1)
