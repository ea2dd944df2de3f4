"""Executor of jobs on a Ray cluster: many at once, on any of its nodes.

Ray does the scheduling, the retries and the transport. Each job is a task that starts a fresh
process, as on one machine, so the numbers are the same. Needs the extra `ray`.

References:
    Moritz et al. 2018, "Ray: A Distributed Framework for Emerging AI Applications",
    arXiv:1712.05889.
"""

import contextlib
import importlib.metadata
import importlib.util
import os
import queue
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from convscope.errors import ConfigError, MissingExtraError, StorageError
from convscope.machine import usable_cores
from convscope.progress import Progress
from convscope.run import Run
from convscope.studies.executor import Executor, Job, Outcome, Unwanted, execute

_RETRIES = 3
"""How often a job is tried again after its worker or node was lost; it resumes where it was."""

_POLL_S = 0.3
_JOIN_S = 15.0
"""Seconds to wait for a node that is large enough."""

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
    files of weights under the same paths: a shared file system. Registered datasets are kept in
    each node's own cache.

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
    if importlib.util.find_spec("ray") is None:
        raise MissingExtraError("ray", "ray")
    # Its question whether usage may be reported has no place in our output.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if not ray.is_initialized():
        try:
            _require_answer(address)
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            raise ConfigError(
                f"no Ray cluster answers at '{address}' ({_line_of(error)}); "
                "start one with: ray start --head"
            ) from None
    needed: dict[str, float] = {"CPU": threads or usable_cores(), "GPU": gpus}
    if memory_gb is not None:
        needed["memory"] = memory_gb * 1e9
    needed = {name: amount for name, amount in needed.items() if amount}
    end = time.monotonic() + _JOIN_S
    while True:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        fits = any(all(node.get(name, 0) >= n for name, n in needed.items()) for node in nodes)
        # The workers of a cluster that was just started may not have joined it.
        if fits or time.monotonic() >= end:
            break
        time.sleep(0.5)
    if not fits:
        largest = {name: max(node.get(name, 0) for node in nodes) for name in needed}
        raise ConfigError(
            f"no node of the Ray cluster has {_amounts(needed)} for a job; the largest amounts on "
            f"one node are {_amounts(largest)}: choose fewer --threads or --gpus"
        )
    return _RayExecutor(threads or usable_cores(), gpus, memory_gb)


def _require_answer(address: str) -> None:
    """Reject an address where nobody listens; Ray would try for minutes.

    Raises:
        OSError: If nobody does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def _version() -> str:
    return importlib.metadata.version("convscope")


def _amounts(amounts: dict[str, float]) -> str:
    names = {"CPU": "cores", "GPU": "GPUs", "memory": "GB of memory"}
    return " and ".join(
        f"{amount / 1e9 if name == 'memory' else amount:g} {names[name]}"
        for name, amount in amounts.items()
    )


def _line_of(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


@dataclass(frozen=True)
class _RayExecutor:
    """See `on_ray`."""

    threads: int
    gpus: float
    memory_gb: float | None

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
        task: Any = ray.remote(_work).options(
            num_cpus=self.threads,
            num_gpus=self.gpus or None,
            memory=None if self.memory_gb is None else int(self.memory_gb * 1e9),
            max_retries=_RETRIES,
            scheduling_strategy="SPREAD",
        )
        told = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        alike = (self.threads, str(Path.cwd()), told, _version(), lines)
        waiting: dict[Any, Job] = {}
        stopped: set[Any] = set()
        following = enumerate(jobs, 1)
        try:
            while True:
                # One more than fits, so that no node is idle and a cluster that grows knows of it.
                for number, job in islice(following, max(0, self._n_at_once() + 1 - len(waiting))):
                    waiting[task.remote(_with_full_paths(job), number, *alike)] = job
                if not waiting:
                    break
                ready, at_work = ray.wait(list(waiting), timeout=_POLL_S)
                for line in ray.get(lines.taken.remote()):
                    progress.say(line)
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
                progress.say("Stopping the runs at work; they save their state")
                ray.wait(list(waiting), num_returns=len(waiting), timeout=_STOP_S)
            ray.kill(lines)

    def _n_at_once(self) -> int:
        """Return how many jobs fit on all nodes together, by their cores and GPUs."""
        import ray

        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        shares = [int(node.get("CPU", 0) // self.threads) for node in nodes]
        if self.gpus:
            of_gpus = [int(node.get("GPU", 0) / self.gpus) for node in nodes]
            shares = [min(pair) for pair in zip(shares, of_gpus, strict=True)]
        return max(1, sum(shares))


def _with_full_paths(job: Job) -> Job:
    """Return a job that means the same in another working directory."""
    data_dir = None if job.data_dir is None else str(Path(job.data_dir).absolute())
    return Job(job.config, job.folder.absolute(), data_dir, job.title)


def _outcome_of(job: Job, reference: Any, *, stopped: bool) -> Outcome:
    """Return the result of a task that has ended, however it ended."""
    import ray

    try:
        failure, permanent = ray.get(reference)
    except ray.exceptions.TaskCancelledError:
        return Outcome(Run(job.folder), stopped=True)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, StorageError | ConfigError):
            raise cause from None
        return Outcome(Run(job.folder), _line_of(cause))
    except ray.exceptions.OutOfMemoryError:
        return Outcome(Run(job.folder), "its node ran out of memory; choose more --memory")
    except ray.exceptions.RayError as error:
        lost = f"its worker or node was lost {_RETRIES + 1} times ({_line_of(error)})"
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

    host = os.uname().nodename
    if (own := _version()) != version:
        raise ConfigError(
            f"node {host} has convscope {own}, and the study needs {version}; install it there"
        )
    study = job.folder.parent.parent
    if not study.is_dir():
        raise ConfigError(
            f"node {host} does not see {study}; choose an --out on a file system that all nodes "
            "share"
        )
    for name, value in told.items():
        os.environ.setdefault(name, value)
    # Relative paths of data and weights are of the folder in which the study was started.
    with contextlib.suppress(OSError):
        os.chdir(folder)
    node = ray.get_runtime_context().get_node_id()[:8]
    title = job.title or f"Job {number}"
    lines.add.remote(f"{title} [{number}, on {host}, node {node}]")
    outcome = execute(job, _Sent(lines, number), threads)
    return outcome.failure, outcome.permanent
