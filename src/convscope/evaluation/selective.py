"""Answering only when sure: the share of answered images, and the accuracy of those answers."""

from dataclasses import dataclass

import numpy as np

from convscope.evaluation.metrics import check_probs
from convscope.types import FloatArray, IntArray


@dataclass(frozen=True)
class Selection:
    """Result of answering only from a confidence threshold on.

    Attributes:
        threshold: Least confidence that is answered, a fraction.
        coverage: Share of images that are answered.
        accuracy: Share of those answers that are correct; nan if there are none.
    """

    threshold: float
    coverage: float
    accuracy: float


def coverage_curve(probs: FloatArray, labels: IntArray) -> list[Selection]:
    """Return the selections of all thresholds that make a difference, the lowest first.

    Args:
        probs: Shape (n_images, n_classes), rows sum to 1.
        labels: Shape (n_images,), class indices in [0, n_classes).

    Raises:
        ShapeError: If `probs` are not probabilities, or the lengths differ.

    References:
        Geifman and El-Yaniv, "Selective Classification for Deep Neural Networks", NeurIPS 2017.

    Examples:
        >>> probs = np.array([[0.9, 0.1], [0.6, 0.4]], dtype=np.float32)
        >>> [(s.coverage, s.accuracy) for s in coverage_curve(probs, np.array([0, 1]))]
        [(1.0, 0.5), (0.5, 1.0)]
    """
    check_probs(probs, labels)
    confidence = probs.max(axis=1)
    right = probs.argmax(axis=1) == labels
    order = np.argsort(-confidence, kind="stable")
    confidence, n_right = confidence[order], right[order].cumsum()
    n = np.arange(1, len(labels) + 1)
    # Images of equal confidence are answered together: the last of each counts.
    last = np.r_[confidence[1:] != confidence[:-1], True]
    return [
        Selection(float(c), k / len(labels), r / k)
        for c, k, r in zip(confidence[last], n[last].tolist(), n_right[last].tolist(), strict=True)
    ][::-1]


def threshold_for(curve: list[Selection], accuracy: float) -> Selection | None:
    """Return the selection with the largest coverage at an accuracy; None if none reaches it.

    Args:
        curve: Selections from `coverage_curve`, on validation images.
        accuracy: Least accuracy, a fraction in [0, 1].
    """
    return next((each for each in curve if each.accuracy >= accuracy), None)
