"""Processes, on one host or several, that train one network through JAX's distributed runtime."""

import atexit
import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from convscope.errors import ConfigError, ConvscopeError, TrainingError
from convscope.interrupts import leave_sigterm_alone
from convscope.scale.devices import Devices
from convscope.wording import first_line

_BLOCK = 1 << 24
"""Bytes that are sent at once."""

_OF_CONNECTIONS = ("Gloo", "NCCL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "Socket closed")
"""Words in the errors of JAX's collective operations when another process is gone."""


_follows = False


@dataclass(frozen=True)
class Launch:
    """How this process was started as one of several.

    Attributes:
        n_processes: Number of processes.
        index: Index of this one.
        coordinator: Address of process 0, HOST:PORT; None if JAX finds it, as under Slurm.
    """

    n_processes: int
    index: int
    coordinator: str | None = None


def launch_of(variables: Mapping[str, str]) -> Launch | None:
    """Return how a process was started as one of several; None if it is alone.

    Explicit variables come first: `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES`, and
    `JAX_PROCESS_ID` or the index that Kubernetes gives to each pod of an Indexed Job. Otherwise
    those of Slurm's `srun` and of Open MPI, from which JAX derives the address.

    Args:
        variables: Environment of the process.

    Raises:
        ConfigError: If the explicit variables are incomplete or contradict each other.
    """
    explicit = [
        name for name in ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES") if name in variables
    ]
    if explicit:
        index = variables.get("JAX_PROCESS_ID", variables.get("JOB_COMPLETION_INDEX"))
        address = variables.get("JAX_COORDINATOR_ADDRESS", "")
        count = variables.get("JAX_NUM_PROCESSES", "")
        if not (
            address.rpartition(":")[2].isdigit() and count.isdigit() and (index or "").isdigit()
        ):
            raise ConfigError(
                f"${explicit[0]} is set, so this process is one of several: that needs "
                "JAX_COORDINATOR_ADDRESS=HOST:PORT of process 0, JAX_NUM_PROCESSES, and "
                "JAX_PROCESS_ID from 0 (or JOB_COMPLETION_INDEX)"
            )
        launch = Launch(int(count), int(index or 0), address)
        if launch.index >= launch.n_processes:
            raise ConfigError(
                f"this is process {launch.index} of {launch.n_processes}, but they count from 0; "
                "correct JAX_PROCESS_ID or JAX_NUM_PROCESSES"
            )
        return launch if launch.n_processes > 1 else None
    # SLURM_STEP_NODELIST: a batch script has the other variables, too, but is not a task of a step.
    for count, index, *others in (
        ("SLURM_NTASKS", "SLURM_PROCID", "SLURM_JOB_ID", "SLURM_LOCALID", "SLURM_STEP_NODELIST"),
        ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"),
    ):
        if all(name in variables for name in (count, index, *others)):
            launch = Launch(int(variables[count]), int(variables[index]))
            return launch if launch.n_processes > 1 else None
    return None


@contextlib.contextmanager
def joined() -> Iterator[Devices]:
    """Join the other processes of this training, if there are any, for the body.

    Keras runs on JAX already. If the body fails, the process ends without waiting for the others,
    which notice that it is gone.

    Yields:
        All devices of all processes; of this process alone if it is the only one.

    Raises:
        ConfigError: If the environment is contradictory, or JAX computed before in this process.
        TrainingError: If the other processes cannot be reached.
    """
    global _follows
    import jax

    launch = launch_of(os.environ)
    if launch is None:
        yield Devices(jax.local_device_count())
        return
    # While one waits for the others, Python does not see it.
    leave_sigterm_alone()
    with _output_held_back():
        try:
            _initialize(launch)
            devices = _devices()
            _follows = not devices.is_first
            yield devices
        except BaseException as error:
            if jax.distributed.is_initialized():
                _end_without_waiting(error)
            raise
        leave()


def follows() -> bool:
    """Return whether this process joined a training as another than the first, which reports."""
    return _follows


def leave() -> None:
    """Part from the other processes, once all have come here; work of this one alone may follow."""
    if "jax" not in sys.modules:
        return
    import jax

    if jax.distributed.is_initialized():
        jax.distributed.shutdown()


def from_first(devices: Devices, content: bytes) -> bytes:
    """Return the content that process 0 has; all processes call this at the same point.

    Args:
        devices: Devices of the training.
        content: Any bytes; those of other processes than 0 are not used.
    """
    if devices.n_processes == 1:
        return content
    from jax.experimental.multihost_utils import broadcast_one_to_all

    sizes = np.array(divmod(len(content), _BLOCK), np.int32)
    blocks, rest = (int(number) for number in broadcast_one_to_all(sizes))
    whole = np.zeros(blocks * _BLOCK + rest, np.uint8)
    if devices.is_first:
        whole[:] = np.frombuffer(content, np.uint8)
    for start in range(0, len(whole), _BLOCK):
        part = slice(start, start + _BLOCK)
        whole[part] = broadcast_one_to_all(whole[part])
    return whole.tobytes()


@contextlib.contextmanager
def losses_explained(devices: Devices, remedy: str) -> Iterator[None]:
    """Turn the error of a collective operation without one of the processes into one line.

    Args:
        devices: Devices of the training.
        remedy: What to do, for the end of the line.

    Raises:
        TrainingError: If another process is gone.
    """
    try:
        yield
    except ConvscopeError:
        raise
    except Exception as error:
        several = devices.n_processes > 1
        if not several or not any(word in str(error) for word in _OF_CONNECTIONS):
            raise
        raise TrainingError(
            f"process {devices.index} of {devices.n_processes} lost another one, which ended or "
            f"cannot be reached any more (its own output says why); {remedy}"
        ) from error


def _devices() -> Devices:
    import jax
    from jax.experimental.multihost_utils import process_allgather

    counts = process_allgather(np.array(jax.local_device_count(), np.int32)).tolist()
    if len(set(counts)) > 1:
        raise ConfigError(
            f"the processes have {', '.join(map(str, counts))} devices, and each needs as many as "
            "the others; JAX_LOCAL_DEVICE_IDS=0,1 limits a process to some of its own"
        )
    return Devices(sum(counts), jax.process_count(), jax.process_index())


def _initialize(launch: Launch) -> None:
    import jax

    for option, value in (
        ("jax_cpu_collectives_implementation", "gloo"),
        # It would take SIGTERM, by which schedulers end a job, for a mere notice.
        ("jax_enable_preemption_service", False),
    ):
        with contextlib.suppress(AttributeError):  # of another version
            jax.config.update(option, value)
    explicit = {
        "coordinator_address": launch.coordinator,
        "num_processes": launch.n_processes,
        "process_id": launch.index,
        "cluster_detection_method": "deactivate",
    }
    try:
        jax.distributed.initialize(**(explicit if launch.coordinator else {}))
    except RuntimeError as error:
        reason = first_line(error)
        if "before" in reason:
            raise ConfigError(
                "JAX computed in this process before, so it cannot join others any more; train "
                "with devices='all' first, in a new process"
            ) from None
        raise TrainingError(
            f"process {launch.index} of {launch.n_processes} cannot reach the others ({reason}); "
            "check that all were started and that the address of process 0 is right"
        ) from error


@contextlib.contextmanager
def _output_held_back() -> Iterator[None]:
    """Drop what libraries print on standard output, where only results belong."""
    if sys.stdout is None:
        yield
        return
    sys.stdout.flush()
    visible, nothing = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(visible, 1)
        os.close(nothing)
        os.close(visible)


def _end_without_waiting(error: BaseException) -> None:
    """Let this process end by itself, with the exit code of an error.

    JAX would wait for the other processes first, for minutes: those that cannot go on without this
    one, too.
    """
    code = 130 if isinstance(error, KeyboardInterrupt) else getattr(error, "exit_code", 1)

    def end() -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(code)

    atexit.register(end)
