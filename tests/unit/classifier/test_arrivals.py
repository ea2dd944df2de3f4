"""Items of a source that gives them when it likes."""

import queue
import threading
import time

import pytest

from convscope.classifier import arrivals as module
from convscope.classifier.arrivals import arrivals


def threads():
    return [each for each in threading.enumerate() if each.name == "convscope-arrivals"]


def ended(seconds=20.0):
    until = time.monotonic() + seconds
    while threads() and time.monotonic() < until:
        time.sleep(0.01)
    return not threads()


def test_what_has_come_is_taken_together_and_in_order():
    sent: queue.Queue[int | None] = queue.Queue()
    found = arrivals(iter(sent.get, None), 3)
    for number in range(2):  # one after the other, each at once
        sent.put(number)
        assert next(found) == [number]
    for number in (*range(2, 12), None):
        sent.put(number)
    parts = list(found)
    assert [number for part in parts for number in part] == list(range(2, 12))
    assert max(map(len, parts)) <= 3
    assert ended()


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_what_the_source_raises_comes_after_the_items_before_it(kind):
    def source():
        yield from "ab"
        raise kind("gone")

    taken = []

    def take():
        for part in arrivals(source(), 1):
            taken.extend(part)

    with pytest.raises(kind, match="gone"):
        take()
    assert taken == ["a", "b"]
    assert ended()


def test_the_thread_of_an_iterator_that_is_left_ends_and_reads_little_ahead():
    read = []

    def source():
        for number in range(10**9):
            read.append(number)
            yield number

    for most in (1, 4):
        read.clear()
        found = arrivals(source(), most)
        next(found)
        found.close()
        assert ended()
        assert len(read) <= 3 * most + 3


def test_ctrl_c_ends_a_wait(monkeypatch):
    monkeypatch.setattr(module, "_LOOK_S", 0.01)
    free = threading.Event()

    def source():
        free.wait(60)
        yield 1

    found = arrivals(source(), 2)

    class Interrupted(queue.Queue):
        def get(self, *given, **how):
            raise KeyboardInterrupt

    monkeypatch.setattr(module.queue, "Queue", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(found)
    free.set()
    assert ended()
