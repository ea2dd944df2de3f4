"""Workers that are processes of this machine.

Small images are mostly Python's own work, at which threads obstruct each other; processes do not.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from convscope.classifier.bulk.pool import LostError
from convscope.classifier.bulk.worker import Answered, Order, answers
from convscope.types import PackedImage

_N_RETRIES = 3


@dataclass
class _Sent:
    images: Sequence[Path | PackedImage]
    future: "Future[Answered]"


class Processes:
    """A `pool.Pool` of processes; one that is killed is replaced.

    Args:
        order: How to classify.
        content: Bytes of the exported file.
        n_workers: Number of processes.
    """

    def __init__(self, order: Order, content: bytes, n_workers: int) -> None:
        self._setting = (order, content)
        self._n_workers = n_workers
        self._pool = self._begin()

    def window(self) -> int:
        """See `Pool`."""
        return 3 * self._n_workers

    def send(self, images: Sequence[Path | PackedImage], /) -> _Sent:
        """See `Pool`."""
        return _Sent(images, self._submit(images))

    def receive(self, sent: _Sent, /) -> Answered:
        """See `Pool`."""
        for _ in range(_N_RETRIES):
            try:
                return sent.future.result()
            except BrokenProcessPool:
                # With one process all of them end, and with them all chunks on their way. Only the
                # next one is sent again, so that it alone is tried with the new processes.
                sent.future = self._submit(sent.images)
        try:
            return sent.future.result()
        except BrokenProcessPool:
            raise LostError(f"a worker was killed {_N_RETRIES + 1} times") from None

    def close(self, sent: Sequence[_Sent], /) -> None:
        """See `Pool`."""
        self._pool.shutdown(wait=not sent, cancel_futures=True)

    def _submit(self, images: Sequence[Path | PackedImage]) -> "Future[Answered]":
        try:
            return self._pool.submit(_answers, images)
        except BrokenProcessPool:
            self._pool = self._begin()
            return self._pool.submit(_answers, images)

    def _begin(self) -> ProcessPoolExecutor:
        # A copy of this process would have its locks, but not the threads that release them.
        return ProcessPoolExecutor(
            self._n_workers,
            multiprocessing.get_context("spawn"),
            initializer=_begin,
            initargs=self._setting,
        )


_setting: tuple[Order, bytes]
"""Of a worker: how to classify, and the bytes of the exported file."""


def _begin(order: Order, content: bytes) -> None:
    """Prepare a worker."""
    global _setting
    _setting = (order, content)
    # The program that started it decides what Ctrl-C means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when the one that started it was killed, and cannot end it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        with contextlib.suppress(OSError):
            parent.join()
        os._exit(1)


def _answers(images: Sequence[Path | PackedImage]) -> Answered:
    order, content = _setting
    return answers(order, lambda: content, images)
