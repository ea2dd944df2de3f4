"""Batches of images from many requests at once, for an engine that does few batches at a time.

Nobody waits on purpose: an idle engine takes what is there, and while it works, images gather. It
works in a thread of its own, except where that takes less time than to wake one. A batch holds at
most `max_batch` images, not requests; a larger request is split, and its answers are joined. A
request that is cancelled (its client hung up, or its time is over) leaves the queue.
"""

import asyncio
import itertools
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import NamedTuple

import numpy as np

from convscope.serving.limits import RefusedError, require_possible
from convscope.types import FloatArray, UInt8Array

_ENGINES = ThreadPoolExecutor(64, thread_name_prefix="engine")
"""Threads of all models; a model uses one at a time, and the engine releases Python's lock."""

_IN_LOOP_S = 0.0005
"""Longest batch that the thread of the event loop does itself, in seconds: about as long as it has
for the rest of a request. Another thread costs two switches; each may wait for Python's lock."""

_LOOK_AGAIN_S = 3.0
"""Seconds after which a failing engine is asked again: nobody sends images to what is not ready."""

RETRY_AFTER_S = 1
"""Seconds after which a client that met a full queue may try again."""


@dataclass(eq=False)
class _Job:
    """Images of a request.

    Attributes:
        images: Shape (n_images, height, width, channels), uint8.
        answers: Future of the probabilities, shape (n_images, n_classes).
        taken: Number of images that the engine has or had.
        rows: Probabilities of a batch's images, by the index of their first one.
        n_answered: Number of images in `rows`.
    """

    images: UInt8Array
    answers: "asyncio.Future[FloatArray]"
    taken: int = 0
    rows: dict[int, FloatArray] = field(default_factory=dict)
    n_answered: int = 0

    @property
    def left(self) -> int:
        """Number of images that the engine has not had yet."""
        return len(self.images) - self.taken

    def answer(self, start: int, rows: FloatArray) -> None:
        """Take the probabilities of images, and answer once they are complete.

        Args:
            start: Index of the first image.
            rows: Shape (n_images, n_classes).
        """
        self.rows[start] = rows
        self.n_answered += len(rows)
        if self.n_answered == len(self.images):
            found = [self.rows[each] for each in sorted(self.rows)]
            self.answers.set_result(found[0] if len(found) == 1 else np.concatenate(found))


class _Piece(NamedTuple):
    """Images of a request that are in a batch, and the index of the first one."""

    job: _Job
    start: int
    images: UInt8Array


class _Done(NamedTuple):
    """What became of a batch: answer or failure of each part, seconds, whether the engine fails."""

    found: "list[FloatArray | Exception]"
    seconds: float
    failing: bool


class Batcher:
    """A queue of images before an engine.

    All methods but the engine itself run in the thread of the event loop.

    Args:
        predict: Function from images of shape (n_images, height, width, channels), uint8, to
            probabilities of shape (n_images, n_classes); called in another thread.
        max_batch: Largest number of images in a batch.
        queue: Largest number of images that are admitted and not yet answered.
        at_once: Largest number of batches at once; beside one, only whole batches begin.
        on_batch: Called with the number of images of each batch and the seconds that it took.

    Attributes:
        in_flight: Number of images that are admitted and not yet answered.
        failing: Whether the last batch failed with every request in it alone, too, and so does a
            black image, which is asked for again every few seconds.
    """

    def __init__(
        self,
        predict: Callable[[UInt8Array], FloatArray],
        *,
        max_batch: int = 32,
        queue: int = 512,
        at_once: int = 1,
        on_batch: Callable[[int, float], None] | None = None,
    ) -> None:
        self._predict = predict
        self.max_batch = max_batch
        self.queue = queue
        self._at_once = at_once
        self._on_batch = on_batch
        self._waiting: deque[_Job] = deque()
        self._about_to_begin = False
        self._at_work = 0
        self._least: dict[int, float] = {}
        self.in_flight = 0
        self.failing = False
        self._will_look = False

    @contextmanager
    def admitted(self, n_images: int) -> Iterator[None]:
        """Hold places in the queue, from before the images are decoded until they are answered.

        Raises:
            RefusedError: If there is no room (503), or never would be (413).
        """
        require_possible(n_images, self.queue)
        if self.in_flight + n_images > self.queue:
            raise RefusedError(
                503, "the queue is full; try again in a second", retry_after=RETRY_AFTER_S
            )
        self.in_flight += n_images
        try:
            yield
        finally:
            self.in_flight -= n_images

    async def predict(self, images: UInt8Array) -> FloatArray:
        """Return the probabilities of images, in order.

        Args:
            images: Shape (n_images, height, width, channels), uint8, at least one.

        Raises:
            Exception: What the engine raised for these images alone.
        """
        job = _Job(images, asyncio.get_running_loop().create_future())
        self._waiting.append(job)
        self._next()
        try:
            return await job.answers
        finally:
            if not job.answers.done() or job.answers.cancelled():
                self._leave(job)

    def _leave(self, job: _Job) -> None:
        """Take a request out of the queue whose client is gone."""
        job.answers.cancel()
        if job in self._waiting:
            self._waiting.remove(job)

    def _next(self) -> None:
        """Let the engine begin its next batch, if it has room for one and there is one."""
        if self._about_to_begin or not self._waiting or self._at_work >= self._at_once:
            return
        if self._at_work and sum(job.left for job in self._waiting) < self.max_batch:
            return
        self._about_to_begin = True
        # With all requests that this turn of the loop has read.
        asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        """Give the engine a batch."""
        self._about_to_begin = False
        pieces = self._take()
        if not pieces:
            return  # they hung up
        parts = [piece.images for piece in pieces]
        self._at_work += 1
        if self._least.get(sum(map(len, parts)), 1.0) < _IN_LOOP_S:
            self._hand_out(pieces, self._run(parts))
            return
        work = asyncio.get_running_loop().run_in_executor(_ENGINES, self._run, parts)
        work.add_done_callback(lambda done: self._done(pieces, done))
        self._next()

    def _take(self) -> list[_Piece]:
        """Return the next batch: whole requests in the order of arrival, the last one in part."""
        pieces: list[_Piece] = []
        room = self.max_batch
        while room and self._waiting:
            job = self._waiting.popleft()
            images = job.images[job.taken : job.taken + room]
            pieces.append(_Piece(job, job.taken, images))
            job.taken += len(images)
            room -= len(images)
            if job.left:
                # Behind the others, so that nobody waits for the whole of a large request.
                self._waiting.append(job)
        return pieces

    def _run(self, parts: Sequence[UInt8Array]) -> "_Done":
        """Return what became of a batch; in a thread of the engine."""
        start = perf_counter()
        found = self._answers(parts)
        seconds = perf_counter() - start
        # One image may be at fault itself.
        failed = all(isinstance(each, Exception) for each in found)
        return _Done(found, seconds, failed and self._fails(parts[0].shape[1:]))

    def _fails(self, shape: tuple[int, ...]) -> bool:
        """Return whether the engine fails with a black image of a shape; in its thread."""
        (found,) = self._answers([np.zeros((1, *shape), np.uint8)])
        return isinstance(found, Exception)

    def _answers(self, parts: Sequence[UInt8Array]) -> "list[FloatArray | Exception]":
        """Return the probabilities of each part, or its failure; in a thread of the engine."""
        try:
            probs = self._predict(parts[0] if len(parts) == 1 else np.concatenate(parts))
            ends = list(itertools.accumulate(map(len, parts)))
            return [probs[end - len(part) : end] for end, part in zip(ends, parts, strict=True)]
        except Exception as error:
            # One request must not fail its neighbours.
            return [error] if len(parts) == 1 else [self._answers([part])[0] for part in parts]

    def _done(self, pieces: list[_Piece], work: "asyncio.Future[_Done]") -> None:
        """Hand out the answers of a batch that a thread did."""
        if not work.cancelled():  # the loop is closing
            self._hand_out(pieces, work.result())

    def _hand_out(self, pieces: list[_Piece], done: "_Done") -> None:
        """Hand out the answers of a batch, and start the next."""
        found, seconds, self.failing = done
        if self.failing:
            self._look_later(pieces[0].images.shape[1:])
        self._at_work -= 1
        n_images = sum(len(piece.images) for piece in pieces)
        # The least time of late: others may have had the cores or Python's lock.
        self._least[n_images] = min(seconds, 1.05 * self._least.get(n_images, seconds))
        for (job, start, _), answer in zip(pieces, found, strict=True):
            if job.answers.done():
                continue
            if isinstance(answer, Exception):
                job.answers.set_exception(answer)
                if job in self._waiting:
                    self._waiting.remove(job)
                continue
            job.answer(start, answer)
        self._next()
        if self._on_batch is not None:
            self._on_batch(n_images, seconds)

    def _look_later(self, shape: tuple[int, ...]) -> None:
        """Ask a failing engine for a black image of a shape, after some seconds."""
        if not self._will_look:
            self._will_look = True
            # A model that was replaced meanwhile is gone.
            look = weakref.WeakMethod(self._look)
            loop = asyncio.get_running_loop()
            loop.call_later(_LOOK_AGAIN_S, lambda: (method := look()) and method(shape))

    def _look(self, shape: tuple[int, ...]) -> None:
        def seen(work: "asyncio.Future[bool]") -> None:
            self._will_look = False
            # Images may have been answered meanwhile.
            if self.failing and not work.cancelled():
                self.failing = work.result()
                if self.failing:
                    self._look_later(shape)

        work = asyncio.get_running_loop().run_in_executor(_ENGINES, self._fails, shape)
        work.add_done_callback(seen)
