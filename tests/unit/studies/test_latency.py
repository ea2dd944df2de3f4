"""The time that a trained run takes for an image."""

from collections.abc import Callable
from itertools import count

import pytest

from convscope.studies import latency


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The time, in seconds; it passes only where a test adds to it."""
    now = [0.0]
    monkeypatch.setattr(latency.time, "perf_counter", lambda: now[0])
    return now


def test_the_latency_is_the_median_however_slow_a_few_calls_are(clock):
    order = []

    def call(name: str, usual: float, *slow: int) -> Callable[[], None]:
        times = count()

        def made() -> None:
            order.append(name)
            clock[0] += 9.0 if next(times) in slow else usual

        return made

    found = latency.medians_ms({"a": call("a", 0.002, 0, 7, 29), "b": call("b", 0.005)})
    assert found == {"a": pytest.approx(2.0), "b": pytest.approx(5.0)}
    # By turns, so that what else the machine does meets both.
    assert order == ["a", "b"] * (len(order) // 2)
    assert order.count("a") >= 20
