"""Executor of jobs on a Ray cluster: many at once, on any of its nodes.

Ray does the scheduling, the retries and the transport. Each job is a task that starts a fresh
process, as on one machine, so the numbers are the same. Needs the extra `ray`.
"""

import contextlib
import os
import queue
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from convscope.cluster import (
    N_RETRIES,
    Head,
    amounts_of,
    connect,
    n_at_once,
    options_of,
    own_version,
    require_version,
)
from convscope.errors import ConfigError, DataError, StorageError
from convscope.machine import usable_cores
from convscope.progress import Progress
from convscope.remote import address_of, fetch, folder_path
from convscope.run import Run
from convscope.studies.executor import Executor, Job, Outcome, Unwanted, execute
from convscope.wording import first_line

_POLL_S = 0.3
_FETCH_S = 5.0
"""Seconds between two looks at an address, after which jobs at work may be stopped."""

_STOP_S = 60.0
"""Seconds in which runs at work save their state after Ctrl-C."""

_PASSED_ON = ("KERAS_BACKEND", "CONVSCOPE_CACHE", "CONVSCOPE_DATA", "CONVSCOPE_WEIGHTS")
"""Variables of the environment that hold for the jobs too, where a node has none of its own."""


def on_ray(
    address: str = "auto",
    *,
    threads: int | None = None,
    gpus: float = 0,
    memory_gb: float | None = None,
) -> Executor:
    """Connect to a Ray cluster and return the executor that trains on it.

    Each node needs the same version of convscope, and sees the run folders, a folder of images and
    files of weights under the same paths: a shared file system. A study at an address, such as
    s3://bucket/study, needs no shared folder. Built-in datasets are kept in each node's own
    cache.

    Args:
        address: Address of the cluster, "HOST:PORT"; "auto" takes the one that runs here or stands
            in $RAY_ADDRESS.
        threads: Processor cores of each job; None takes as many as this machine has. More jobs
            run at once with fewer. Results are the same for the same number, on one machine too.
        gpus: GPUs of each job; a fraction shares one.
        memory_gb: Memory of each job in gigabytes; None does not reserve any.

    Raises:
        MissingExtraError: If Ray is not installed.
        ConfigError: If there is no cluster at that address, or no node is large enough for a job.
    """
    threads = threads or usable_cores()
    connect(address, amounts_of(threads, gpus, memory_gb))
    return _RayExecutor(threads, gpus, memory_gb)


@dataclass(frozen=True)
class _RayExecutor:
    """See `on_ray`."""

    threads: int
    gpus: float
    memory_gb: float | None

    @property
    def at_once(self) -> int:
        """See `Executor`."""
        return max(1, n_at_once(amounts_of(self.threads, self.gpus, self.memory_gb)))

    def outcomes(
        self, jobs: Iterable[Job], progress: Progress, unwanted: Unwanted | None = None
    ) -> Iterator[tuple[Job, Outcome]]:
        """See `Executor`."""
        import ray

        # On this machine, so that it lives as long as the program that reads from it.
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        lines: Any = ray.remote(num_cpus=0)(_Lines).options(scheduling_strategy=here).remote()
        needed = amounts_of(self.threads, self.gpus, self.memory_gb)
        # A job that is tried again resumes where it was.
        task: Any = ray.remote(_work).options(
            **options_of(needed), max_retries=N_RETRIES, scheduling_strategy="SPREAD"
        )
        told = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        alike = (self.threads, str(Path.cwd()), told, own_version(), lines)
        waiting: dict[Any, Job] = {}
        stopped: set[Any] = set()
        following = enumerate(jobs, 1)
        some_left = True
        fetch_at = 0.0
        head = Head(progress)
        try:
            while True:
                head.tell_if_lost()
                if some_left:
                    # One more than fits: no node is idle, and a cluster that grows knows of it.
                    wanted = max(len(waiting), max(1, n_at_once(needed)) + 1)
                    for number, job in islice(following, wanted - len(waiting)):
                        at = address_of(job.folder)
                        waiting[task.remote(_with_full_paths(job), at, number, *alike)] = job
                    some_left = len(waiting) == wanted
                if not waiting:
                    break
                ready, at_work = ray.wait(list(waiting), timeout=_POLL_S)
                for line in ray.get(lines.taken.remote()):
                    progress.say(line)
                if unwanted is not None and time.monotonic() >= fetch_at:
                    _fetch_results(waiting[reference] for reference in at_work)
                    fetch_at = time.monotonic() + _FETCH_S
                for reference in at_work:
                    if unwanted is not None and unwanted(waiting[reference]):
                        stopped.add(reference)
                        ray.cancel(reference)
                for reference in ready:
                    job = waiting.pop(reference)
                    yield job, _outcome_of(job, reference, stopped=reference in stopped)
            for line in ray.get(lines.taken.remote()):
                progress.say(line)
        finally:
            # Ctrl-C, or a study that goes no further: an error of one job.
            for reference in waiting:
                ray.cancel(reference)
            if waiting:
                progress.say("Stopping the active runs; they save their state")
                ray.wait(list(waiting), num_returns=len(waiting), timeout=_STOP_S)
            ray.kill(lines)


def _with_full_paths(job: Job) -> Job:
    """Return a job that means the same in another working directory."""
    data_dir = None if job.data_dir is None else str(Path(job.data_dir).absolute())
    return replace(job, folder=job.folder.absolute(), data_dir=data_dir)


def _fetch_results(jobs: Iterable[Job]) -> None:
    """Fetch the epochs of jobs at work whose folders are at an address."""
    # Whether to stop a job can wait; what it needs of the address, it reports itself.
    with contextlib.suppress(StorageError):
        fetch(*(Run(job.folder).results_file for job in jobs))


def _outcome_of(job: Job, reference: Any, *, stopped: bool) -> Outcome:
    """Return the result of a task that has ended, however it ended."""
    import ray

    fetch(job.folder)
    try:
        failure, permanent = ray.get(reference)
    except ray.exceptions.TaskCancelledError:
        return Outcome(Run(job.folder), stopped=True)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, StorageError | ConfigError | DataError):
            raise cause from None
        return Outcome(Run(job.folder), first_line(cause))
    except ray.exceptions.OutOfMemoryError:
        return Outcome(Run(job.folder), "its node ran out of memory; choose more --memory")
    except ray.exceptions.RayError as error:
        lost = f"its worker or node was lost {N_RETRIES + 1} times ({first_line(error)})"
        return Outcome(Run(job.folder), lost)
    return Outcome(Run(job.folder), failure, permanent, stopped and failure is not None)


class _Lines:
    """Lines for the user from all jobs, until the program that started them takes them."""

    def __init__(self) -> None:
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def add(self, line: str) -> None:
        self._lines.put(line)

    def taken(self) -> list[str]:
        return [self._lines.get() for _ in range(self._lines.qsize())]


class _Sent(Progress):
    """Progress of a job, sent to the program that started it."""

    def __init__(self, lines: Any, number: int) -> None:
        self._lines = lines
        self._number = number

    def say(self, text: str) -> None:
        self._lines.add.remote(f"  [{self._number}] {text.strip()}")


def _work(
    job: Job,
    address: str | None,
    number: int,
    threads: int,
    folder: str,
    told: dict[str, str],
    version: str,
    lines: Any,
) -> tuple[str | None, bool]:
    """Train a job on the node that runs this.

    Returns:
        Reason why it could not be trained, or None; and whether a retry would fail the same way.

    Raises:
        ConfigError: If this node cannot do it: another version, or no access to the run's folder.
        StorageError: If its files cannot be written.
    """
    import ray

    require_version(version)
    host = os.uname().nodename
    study = job.folder.parent.parent
    if address is None and not study.is_dir():
        raise ConfigError(
            f"node {host} does not see {study}; choose an --out on a file system that all nodes "
            "share, or at an address"
        )
    for name, value in told.items():
        os.environ.setdefault(name, value)
    # Relative paths of data and weights are of the folder in which the study was started.
    with contextlib.suppress(OSError):
        os.chdir(folder)
    node = ray.get_runtime_context().get_node_id()[:8]
    if address is not None:
        job = replace(job, folder=folder_path(address, "--out"))
    title = job.title or f"Job {number}"
    lines.add.remote(f"{title} [{number}, on {host}, node {node}]")
    outcome = execute(job, _Sent(lines, number), threads)
    return outcome.failure, outcome.permanent
