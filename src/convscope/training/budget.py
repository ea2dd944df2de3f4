"""What to train in a given time or for a given accuracy, and keeping to that time."""

import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Curves = Mapping[str, Mapping[int, float]]
"""By model, by epochs of CIFAR-10's 49,000 images: the test accuracy that was measured."""

CURVE_IMAGES = 49_000
"""Images in an epoch of the curves."""

_RECENT = 3
"""Epochs, at least, that the speed is judged by."""

_TOLERANCE = 0.02
"""By what part of the time that is left it may be late: the speed of an epoch is no surer."""


@dataclass(frozen=True)
class Plan:
    """What is to be trained.

    Attributes:
        model: Its name.
        epochs: Passes over the training images.
        most_epochs: Of more than these nothing is known.
        seconds: What they take at the speed measured here.
        accuracy: What as much training gave on CIFAR-10's test images; None if it is less
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
    besides: float = 0.0,
) -> Plan:
    """Return the plan of the best accuracy among those that fit into a time.

    Args:
        curves: What to choose from.
        seconds_per_epoch: By model, measured here on these images.
        n_images: Training images; where there are fewer than on CIFAR-10, more epochs are as much
            training.
        seconds: How long it may take in all.
        besides: What comes after training, counted in epochs.
    """
    plans: list[tuple[float, Plan]] = []
    short: list[Plan] = []
    for model, curve in curves.items():
        each = seconds_per_epoch[model]
        longest = _epochs(max(curve), n_images)
        epochs = min(max(1, int(seconds / each - besides)), longest)
        if epochs < least_epochs(curve, n_images):
            short.append(Plan(model, epochs, longest, epochs * each, None))
        else:
            accuracy = _accuracy(curve, epochs, n_images)
            plans.append((accuracy, Plan(model, epochs, longest, epochs * each, accuracy)))
    if plans:
        return max(plans, key=lambda pair: pair[0])[1]
    # Too short for anything that was measured: what learns most images in that time.
    return min(short, key=lambda plan: seconds_per_epoch[plan.model])


def plan_for_accuracy(
    curves: Curves, seconds_per_epoch: Mapping[str, float], n_images: int, accuracy: float
) -> Plan:
    """Return the quickest plan of which an accuracy was measured.

    Args:
        curves: What to choose from; one of them at least reached it.
        seconds_per_epoch: By model, measured here.
        n_images: Training images.
        accuracy: At least so much, a fraction in (0, 1).
    """
    plans = [
        Plan(model, epochs, epochs, epochs * seconds_per_epoch[model], reached)
        for model, curve in curves.items()
        for epochs, reached in ((_epochs(many, n_images), curve[many]) for many in curve)
        if reached >= accuracy
    ]
    return min(plans, key=lambda plan: plan.seconds)


def contenders(curves: Curves, accuracy: float) -> Curves:
    """Return the networks of which one is the quickest to an accuracy, whatever their speeds.

    One that needs as many epochs as one that comes before it is never the quicker one.

    Args:
        curves: The network with the quickest epochs first.
        accuracy: At least so much, a fraction in (0, 1).
    """
    found, fewest = {}, float("inf")
    for model, curve in curves.items():
        needed = min((n for n, reached in curve.items() if reached >= accuracy), default=fewest)
        if needed < fewest:
            found[model], fewest = curve, needed
    return found


def least_epochs(curve: Mapping[int, float], n_images: int) -> int:
    """Return the epochs of `n_images` images that are as much training as a curve begins with."""
    return _epochs(min(curve), n_images)


def _epochs(on_curve: int, n_images: int) -> int:
    """Return the epochs of these images that are as much training."""
    return max(1, round(on_curve * CURVE_IMAGES / n_images))


def _accuracy(curve: Mapping[int, float], epochs: int, n_images: int) -> float:
    known = sorted(curve)
    # Each doubling of the epochs brings about as much.
    place = np.log(epochs * n_images / CURVE_IMAGES)
    return float(np.interp(place, np.log(known), [curve[each] for each in known]))


class Deadline:
    """When something has to be over.

    Args:
        seconds: From now.
        clock: Counts seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._ends = clock() + seconds

    def left(self) -> float:
        """Return how many seconds are left; negative if it has passed."""
        return self._ends - self.clock()


class Pace:
    """How many epochs can be trained before a deadline, judged after each of them.

    Args:
        deadline: When it has to be over.
        most_epochs: That are worth the time, if there should be more of it than planned.
        besides: Seconds that what comes after training takes.
    """

    def __init__(self, deadline: Deadline, most_epochs: int, besides: float = 0.0) -> None:
        self._deadline = deadline
        self._most_epochs = most_epochs
        self._besides = besides
        self._ended: list[float] = []
        self._next = 0

    def fitting(
        self,
        done: int,
        current: int,
        lengths_of: Callable[[int], Sequence[float]] = lambda epochs: [1.0] * epochs,
    ) -> int:
        """Return how many epochs it should be in all; `current` if a change is not worth it.

        To be called after every epoch. One more is left where there is time for none: the learning
        rate has to come down, and without that much of what was learnt is lost.

        Args:
            done: Epochs that are behind.
            current: In all, as it stands.
            lengths_of: From epochs in all to how long each of them is, in any unit.
        """
        self._ended.append(self._deadline.clock())
        # The first epoch compiles. Then the speed is that of the last few: a machine's changes.
        n_recent = min(max(_RECENT, len(self._ended) // 2), len(self._ended) - 1)
        if not n_recent or not self._next <= done < current:
            return current
        recent = sum(lengths_of(current)[done - n_recent : done])
        each = (self._ended[-1] - self._ended[-1 - n_recent]) / recent
        left = self._deadline.left() - self._besides
        fitting = done + bisect_right(
            range(done + 1, self._most_epochs + 1),
            left * (1 + _TOLERANCE),
            key=lambda epochs: each * sum(lengths_of(epochs)[done:]),
        )
        fitting = max(fitting, done + 1)
        if fitting == current:
            return current
        # The closer the end, the less time there is to make good what was judged wrong.
        self._next = done + (fitting - done) // 3
        return fitting
