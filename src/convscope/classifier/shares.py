"""What a classifier answers by and large: shares of the classes and of the confidences.

Those on validation images are stored with a model; a server compares what it answers with them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from convscope.classifier.decisions import decided
from convscope.types import FloatArray

CONFIDENCES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)
"""Upper ends of the intervals of the largest probability of an answer."""

_DIGITS = 6


@dataclass(frozen=True)
class Shares:
    """Shares of a classifier's answers; empty where they are unknown.

    Attributes:
        n_images: Number of images.
        classes: Share of the images whose answer names each class, in the order of the classes;
            they sum to 1 unless an image may have any number of classes.
        confidences: Share of the images by their largest probability, in the intervals that
            `CONFIDENCES` end; they sum to 1.
    """

    n_images: int = 0
    classes: tuple[float, ...] = ()
    confidences: tuple[float, ...] = ()


def shares_of(probs: FloatArray, thresholds: Sequence[float] = ()) -> Shares:
    """Return the shares of answers.

    Args:
        probs: Shape (n_images, n_classes).
        thresholds: Threshold of each class, where an image may have any number of classes.

    Examples:
        >>> probs = np.array([[0.75, 0.25], [0.5, 0.5]], np.float32)
        >>> shares_of(probs).classes
        (1.0, 0.0)
        >>> shares_of(probs, [0.4, 0.4]).classes
        (1.0, 0.5)
    """
    if not len(probs):
        return Shares()
    counts = np.zeros(probs.shape[1], int)
    for indices in named(probs, thresholds):
        counts[indices] += 1
    ends = [interval_of(confidence) for confidence in probs.max(axis=1).tolist()]
    confident = np.bincount(ends, minlength=len(CONFIDENCES))

    def shares(numbers: Sequence[int]) -> tuple[float, ...]:
        return tuple(round(n / len(probs), _DIGITS) for n in numbers)

    return Shares(len(probs), shares(counts.tolist()), shares(confident.tolist()))


def named(probs: FloatArray, thresholds: Sequence[float] = ()) -> list[list[int]]:
    """Return the indices of the classes that each answer names: the most probable one, or several.

    Args:
        probs: Shape (n_images, n_classes).
        thresholds: Threshold of each class, where an image may have any number of classes.
    """
    if len(thresholds):
        return [np.flatnonzero(row).tolist() for row in decided(probs, thresholds)]
    found: list[list[int]] = probs.argmax(axis=1)[:, np.newaxis].tolist()
    return found


def interval_of(confidence: float) -> int:
    """Return the index of the interval of `CONFIDENCES` that holds a confidence."""
    last = len(CONFIDENCES) - 1  # rounding may put a probability above 1
    return next((i for i, end in enumerate(CONFIDENCES) if confidence <= end), last)


def drift(now: Sequence[float], before: Sequence[float], *, exclusive: bool = True) -> float:
    """Return the least share of answers that would have to be others for equal shares, 0 to 1.

    Of few answers it is large by chance.

    Args:
        now: Shares now.
        before: Shares with which they are compared.
        exclusive: Whether each answer counts for exactly one share. If so it is the total variation
            distance; otherwise the largest difference of a share, which fewer answers cannot cover.

    Examples:
        >>> drift([0.5, 0.5, 0.0], [0.5, 0.25, 0.25])
        0.25
        >>> drift([0.5, 0.75], [0.25, 0.25], exclusive=False)
        0.5
    """
    gaps = [abs(a - b) for a, b in zip(now, before, strict=True)]
    return sum(gaps) / 2 if exclusive else max(gaps)
