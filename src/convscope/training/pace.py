"""Keeping to a time: as many epochs as fit before a deadline."""

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence

_RECENT = 3
"""Least number of epochs that the speed is taken from."""

_TOLERANCE = 0.02
"""Tolerated overrun, as a share of the remaining time; epoch times vary by about this much."""


class Deadline:
    """Point in time at which the work has to be finished.

    Args:
        seconds: Time from now.
        clock: Function that counts seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._ends = clock() + seconds

    def left(self) -> float:
        """Return how many seconds are left; negative if it has passed."""
        return self._ends - self.clock()


class Pace:
    """Number of epochs that fit before a deadline, updated after each of them.

    Args:
        deadline: Point in time at which the work has to be finished.
        most_epochs: Largest useful number of epochs, should there be more time than planned.
        overhead_s: Time after training, in seconds.
        again: Time of training once more after it, relative to the first time.
    """

    def __init__(
        self,
        deadline: Deadline,
        most_epochs: int,
        overhead_s: float = 0.0,
        again: float = 0.0,
    ) -> None:
        self._again = again
        self._deadline = deadline
        self._most_epochs = most_epochs
        self._overhead_s = overhead_s
        self._ended: list[float] = []
        self._next = 0

    def fitting(
        self,
        done: int,
        current: int,
        lengths_of: Callable[[int], Sequence[float]] = lambda epochs: [1.0] * epochs,
    ) -> int:
        """Return the total number of epochs that fits; `current` if a change is not worth it.

        To be called after every epoch. Even when the time is used up, one more epoch is left: the
        learning rate has to come down, or much of what was learnt is lost.

        Args:
            done: Number of finished epochs.
            current: Total number of epochs as planned now.
            lengths_of: Function from the total number of epochs to the length of each, in any unit.
        """
        self._ended.append(self._deadline.clock())
        # The first epoch compiles. After it only the last few count, since a machine's speed
        # drifts.
        n_recent = min(max(_RECENT, len(self._ended) // 2), len(self._ended) - 1)
        if not n_recent or not self._next <= done < current:
            return current
        recent = sum(lengths_of(current)[done - n_recent : done])
        each = (self._ended[-1] - self._ended[-1 - n_recent]) / recent
        left = self._deadline.left() - self._overhead_s

        def units_left(epochs: int) -> float:
            lengths = lengths_of(epochs)
            return sum(lengths[done:]) + self._again * sum(lengths)

        fitting = done + bisect_right(
            range(done + 1, self._most_epochs + 1),
            left * (1 + _TOLERANCE),
            key=lambda epochs: each * units_left(epochs),
        )
        fitting = max(fitting, done + 1)
        if fitting == current:
            return current
        # The closer the end, the less time there is to correct a wrong estimate.
        self._next = done + (fitting - done) // 3
        return fitting
