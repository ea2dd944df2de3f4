"""A map over threads that keeps the order and holds few results at a time."""

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from convscope.machine import usable_cores

T = TypeVar("T")
R = TypeVar("R")


def n_workers(work_per_item: float, *, worthwhile: float) -> int:
    """Return the number of threads to use: one, unless the items are large enough.

    Pillow and hashlib release Python's lock while they work on pixels and bytes, so threads do as
    well as processes on large images, and need no start-up time nor guard in the user's script.
    Small images are mostly Python's own work, at which threads only obstruct each other.

    Args:
        work_per_item: Size of a typical item, in any unit.
        worthwhile: Size from which threads help.
    """
    if work_per_item < worthwhile:
        return 1
    return min(usable_cores(), 16)


def n_readers(root: Path, names: Sequence[str], *, worthwhile: float) -> int:
    """Return the number of threads with which to read files, by the mean size of a sample.

    Args:
        root: Folder.
        names: Paths relative to it.
        worthwhile: Size in bytes from which threads help.
    """
    n_bytes = []
    for name in names[:: max(1, len(names) // 100)]:
        with contextlib.suppress(OSError):  # reading it will say why
            n_bytes.append((root / name).stat().st_size)
    return n_workers(sum(n_bytes) / max(1, len(n_bytes)), worthwhile=worthwhile)


def map_ordered(
    function: Callable[[T], R], items: Iterable[T], workers: int
) -> Generator[R, None, None]:
    """Yield `function(item)` for each item, in order.

    At most two items per worker are in progress or waiting to be taken, so memory stays constant.
    Close the generator to stop early.

    Args:
        function: Function that is called in threads, or in this one if there is one worker.
        items: Items, taken as needed.
        workers: Number of threads.
    """
    if workers <= 1:
        yield from map(function, items)
        return
    window: deque[Future[R]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                window.append(pool.submit(function, item))
                if len(window) >= 2 * workers:
                    yield window.popleft().result()
            while window:
                yield window.popleft().result()
        finally:
            for future in window:
                future.cancel()
