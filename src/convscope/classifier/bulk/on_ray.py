"""Workers on a Ray cluster. Needs the extra `ray`.

They are Ray's own worker processes, which stay from task to task, and with them the classifier.
Tasks, and not actors, because an actor whose node is lost waits for room that there may never be
again, and its chunks with it; a task goes to any node that is left, or that joins.
"""

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from convscope.classifier.bulk.pool import LostError
from convscope.classifier.bulk.worker import Answered, Order, answers
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
from convscope.errors import ConvscopeError, FailureError
from convscope.progress import Progress
from convscope.types import PackedImage
from convscope.wording import first_line

_COUNT_S = 5.0
"""Seconds between two counts of the nodes, which may join and leave."""


class RayTasks:
    """A `pool.Pool` on the nodes of a cluster.

    Args:
        order: How to classify.
        content: Bytes of the exported file; each node gets them once, through the object store.
        address: Address of the cluster, "HOST:PORT" or "auto".
        n_workers: Largest number of workers; None takes as many as there is room for.
        memory_gb: Memory of each worker in gigabytes; None does not reserve any.
        progress: Called when there is no node left to work on, or the head does not answer.

    Raises:
        MissingExtraError: If Ray is not installed.
        ConfigError: If there is no cluster at that address, or no node is large enough.
    """

    def __init__(
        self,
        order: Order,
        content: bytes,
        address: str,
        *,
        n_workers: int | None = None,
        memory_gb: float | None = None,
        progress: Progress,
    ) -> None:
        self._progress = progress
        self._needed = amounts_of(order.threads, memory_gb=memory_gb)
        connect(address, self._needed)
        import ray

        self._head = Head(progress)
        self._n_workers = n_workers
        self._window, self._counted = 0, -_COUNT_S
        # As an array it is not copied out of the object store by every worker.
        self._model = ray.put(np.frombuffer(content, np.uint8))
        # In a list, so that a worker that has it does not fetch it again.
        self._alike = ([self._model], order, str(Path.cwd()), own_version())
        self._task: Any = ray.remote(_answers).options(
            **options_of(self._needed), max_retries=N_RETRIES, scheduling_strategy="SPREAD"
        )

    def window(self) -> int:
        """See `Pool`."""
        if time.monotonic() - self._counted >= _COUNT_S:
            self._head.tell_if_lost()
            room = max(1, n_at_once(self._needed))
            self._window = 3 * room if self._n_workers is None else min(self._n_workers, 3 * room)
            self._counted = time.monotonic()
        return self._window

    def send(self, images: Sequence[Path | PackedImage], /) -> Any:
        """See `Pool`."""
        return self._task.remote(*self._alike, images)

    def receive(self, sent: Any, /) -> Answered:
        """See `Pool`."""
        import ray

        alone = False
        while not ray.wait([sent], timeout=_COUNT_S)[0]:
            self._head.tell_if_lost()
            # Where all nodes were lost, Ray waits for new ones, and says nothing.
            if not alone and not n_at_once(self._needed):
                alone = True
                self._progress.say(
                    "The cluster has no node left with room for a worker; waiting for one to join"
                )
        try:
            answered: Answered = ray.get(sent)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, ConvscopeError):
                raise error.cause from None
            raise FailureError(f"a node of the cluster failed: {first_line(error.cause)}") from None
        except ray.exceptions.RayError as error:
            lost = f"its worker or node was lost {N_RETRIES + 1} times ({first_line(error)})"
            raise LostError(lost) from None
        return answered

    def close(self, sent: Sequence[Any], /) -> None:
        """See `Pool`."""
        import ray

        for each in sent:
            ray.cancel(each)
        del self._model, self._alike


def _answers(
    model: list[Any],
    order: Order,
    folder: str,
    version: str,
    images: Sequence[Path | PackedImage],
) -> Answered:
    """Classify on the node that runs this.

    Raises:
        ConfigError: If it has another version of convscope.
        FailureError: If it lacks the engine, or the model cannot do what is asked.
    """
    import ray

    require_version(version)
    # Relative paths are of the folder in which the program was started.
    with contextlib.suppress(OSError):
        os.chdir(folder)
    try:
        return answers(order, lambda: ray.get(model[0]).tobytes(), images)
    except ConvscopeError as error:
        raise FailureError(f"node {os.uname().nodename}: {error}") from None
