"""What a classifier answers by and large: shares of the classes and of the confidences.

Those on validation images are stored with a model; a server compares what it answers with them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from convscope.types import FloatArray

CONFIDENCES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)
"""Upper ends of the intervals of the probability of the answer."""

_DIGITS = 6


@dataclass(frozen=True)
class Shares:
    """Shares of a classifier's answers; empty where they are unknown.

    Attributes:
        n_images: Number of images.
        classes: Share of the images by the most probable class, in the order of the classes.
        confidences: Share of the images by the probability of that class, in the intervals that
            `CONFIDENCES` end.
    """

    n_images: int = 0
    classes: tuple[float, ...] = ()
    confidences: tuple[float, ...] = ()


def shares_of(probs: FloatArray) -> Shares:
    """Return the shares of answers.

    Args:
        probs: Shape (n_images, n_classes), rows sum to 1.

    Examples:
        >>> shares_of(np.array([[0.75, 0.25], [0.5, 0.5]], np.float32)).classes
        (1.0, 0.0)
    """
    if not len(probs):
        return Shares()
    counts = np.bincount(probs.argmax(axis=1), minlength=probs.shape[1])
    ends = [interval_of(confidence) for confidence in probs.max(axis=1).tolist()]
    confident = np.bincount(ends, minlength=len(CONFIDENCES))

    def shares(numbers: Sequence[int]) -> tuple[float, ...]:
        return tuple(round(n / len(probs), _DIGITS) for n in numbers)

    return Shares(len(probs), shares(counts.tolist()), shares(confident.tolist()))


def interval_of(confidence: float) -> int:
    """Return the index of the interval of `CONFIDENCES` that holds a confidence."""
    last = len(CONFIDENCES) - 1  # rounding may put a probability above 1
    return next((i for i, end in enumerate(CONFIDENCES) if confidence <= end), last)


def drift(now: Sequence[float], before: Sequence[float]) -> float:
    """Return by how much two lists of shares differ: 0 for none, 1 if they have nothing in common.

    It is the total variation distance: the share of answers that would have to be others. Of few
    answers it is large by chance.

    Examples:
        >>> drift([0.5, 0.5, 0.0], [0.5, 0.25, 0.25])
        0.25
    """
    return sum(abs(a - b) for a, b in zip(now, before, strict=True)) / 2
