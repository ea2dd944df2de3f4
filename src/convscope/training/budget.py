"""What to train within a given time or up to a given accuracy, and keeping to that time."""

import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Curves = Mapping[str, Mapping[int, float]]
"""Measured test accuracy by model and by epochs of CIFAR-10's 49,000 images."""

CURVE_IMAGES = 49_000
"""Images in an epoch of the curves."""

_RECENT = 3
"""Least number of epochs that the speed is taken from."""

_TOLERANCE = 0.02
"""Tolerated overrun, as a share of the remaining time; epoch times vary by about this much."""


@dataclass(frozen=True)
class Plan:
    """Model and number of epochs to train.

    Attributes:
        model: Name of the model.
        epochs: Passes over the training images.
        most_epochs: Largest number of epochs that was measured.
        seconds: Time they take at the speed measured here.
        accuracy: Accuracy that as much training reached on CIFAR-10's test images; None for less
            training than was measured.
    """

    model: str
    epochs: int
    most_epochs: int
    seconds: float
    accuracy: float | None


def plan_for_time(
    curves: Curves,
    seconds_per_epoch: Mapping[str, float],
    n_images: int,
    seconds: float,
    *,
    overhead_epochs: float = 0.0,
) -> Plan:
    """Return the plan with the best accuracy among those that fit into a time.

    Args:
        curves: Measured networks to choose from.
        seconds_per_epoch: Time of an epoch by model, measured here on these images.
        n_images: Number of training images; with fewer than CIFAR-10 has, more epochs count as the
            same amount of training.
        seconds: Time limit for everything.
        overhead_epochs: Time after training, in epochs.
    """
    plans: list[tuple[float, Plan]] = []
    short: list[Plan] = []
    for model, curve in curves.items():
        each = seconds_per_epoch[model]
        longest = _epochs(max(curve), n_images)
        epochs = min(max(1, int(seconds / each - overhead_epochs)), longest)
        if epochs < least_epochs(curve, n_images):
            short.append(Plan(model, epochs, longest, epochs * each, None))
        else:
            accuracy = _accuracy(curve, epochs, n_images)
            plans.append((accuracy, Plan(model, epochs, longest, epochs * each, accuracy)))
    if plans:
        return max(plans, key=lambda pair: pair[0])[1]
    # Too short for any measured amount: take the network that sees most images in that time.
    return min(short, key=lambda plan: seconds_per_epoch[plan.model])


def plan_for_accuracy(
    curves: Curves, seconds_per_epoch: Mapping[str, float], n_images: int, accuracy: float
) -> Plan:
    """Return the quickest plan that was measured to reach an accuracy.

    Args:
        curves: Measured networks to choose from; at least one of them reached it.
        seconds_per_epoch: Time of an epoch by model, measured here.
        n_images: Number of training images.
        accuracy: Least accuracy, a fraction in (0, 1).
    """
    plans = [
        Plan(model, epochs, epochs, epochs * seconds_per_epoch[model], reached)
        for model, curve in curves.items()
        for epochs, reached in ((_epochs(many, n_images), curve[many]) for many in curve)
        if reached >= accuracy
    ]
    return min(plans, key=lambda plan: plan.seconds)


def contenders(curves: Curves, accuracy: float) -> Curves:
    """Return the networks that can be the quickest to an accuracy, whatever their speeds.

    One that needs as many epochs as one with quicker epochs is never the quickest.

    Args:
        curves: Measured networks, the one with the quickest epochs first.
        accuracy: Least accuracy, a fraction in (0, 1).
    """
    chosen, fewest = {}, float("inf")
    for model, curve in curves.items():
        needed = min((n for n, reached in curve.items() if reached >= accuracy), default=fewest)
        if needed < fewest:
            chosen[model], fewest = curve, needed
    return chosen


def least_epochs(curve: Mapping[int, float], n_images: int) -> int:
    """Return the epochs of `n_images` images that amount to the beginning of a curve."""
    return _epochs(min(curve), n_images)


def _epochs(on_curve: int, n_images: int) -> int:
    """Return the epochs of these images that amount to as many of the curve's."""
    return max(1, round(on_curve * CURVE_IMAGES / n_images))


def _accuracy(curve: Mapping[int, float], epochs: int, n_images: int) -> float:
    known = sorted(curve)
    # Each doubling of the epochs gains about the same.
    place = np.log(epochs * n_images / CURVE_IMAGES)
    return float(np.interp(place, np.log(known), [curve[each] for each in known]))


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
        self, deadline: Deadline, most_epochs: int, overhead_s: float = 0.0, again: float = 0.0
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
