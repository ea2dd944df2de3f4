"""A source that gives its items when it likes: whatever has come is taken together."""

import contextlib
import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")

_LOOK_S = 0.5
"""Seconds after which a wait begins anew: Windows handles Ctrl-C only between waits."""


@dataclass(frozen=True)
class _End:
    """The end of a source, and what it raised, if it did."""

    error: BaseException | None = None


def arrivals(source: Iterable[Item], most: int) -> Generator[list[Item]]:
    """Yield lists of what has come from a source, as soon as they are asked for.

    The source is read in a thread of its own, at most `most` items ahead. If the iterator is left
    early, the thread ends with the item that it waits for; it does not keep Python from ending.

    Args:
        source: Items, which may be long in coming.
        most: Largest number of items in a list, at least 1.

    Yields:
        At least one item, in order.

    Raises:
        BaseException: What the source raises, after the items before it.
    """
    waiting: queue.Queue[Item | _End] = queue.Queue(most)
    left = threading.Event()

    def feed() -> None:
        end = _End()
        try:
            for item in source:
                if left.is_set():
                    return
                waiting.put(item)
        except BaseException as error:  # to be raised where the items are taken
            end = _End(error)
        if not left.is_set():
            waiting.put(end)

    threading.Thread(target=feed, name="convscope-arrivals", daemon=True).start()
    try:
        end = None
        while end is None:
            items = []
            for each in _those_in(waiting, most):
                if isinstance(each, _End):
                    end = each
                else:
                    items.append(each)
            if items:
                yield items
        if end.error is not None:
            raise end.error
    finally:
        left.set()
        with contextlib.suppress(queue.Empty):  # room for the item that the thread may hold
            while True:
                waiting.get_nowait()


def _those_in(waiting: "queue.Queue[Item]", most: int) -> Iterator[Item]:
    """Yield what waits, at most `most` items, after a wait for the first."""
    while True:
        with contextlib.suppress(queue.Empty):
            yield waiting.get(timeout=_LOOK_S)
            break
    with contextlib.suppress(queue.Empty):
        for _ in range(most - 1):
            yield waiting.get_nowait()
