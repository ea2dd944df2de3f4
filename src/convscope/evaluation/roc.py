"""Detection of one class among two: how well probabilities separate them, and at what threshold."""

import math
from dataclasses import dataclass

import numpy as np

from convscope.types import BoolArray, FloatArray


@dataclass(frozen=True)
class OperatingPoint:
    """What is detected from a probability on.

    Attributes:
        threshold: Least probability of the class at which an image counts as one of it.
        detected: Share of the images of the class that reach it (sensitivity, recall).
        false_alarms: Share of the other images that reach it (1 - specificity).
    """

    threshold: float
    detected: float
    false_alarms: float


def roc_auc(scores: FloatArray, positive: BoolArray) -> float:
    """Return the area under the ROC curve.

    Args:
        scores: Shape (n_images,), the higher the likelier an image is of the class.
        positive: Shape (n_images,), whether it is; some are and some are not.

    Returns:
        A fraction in [0, 1]: the share of pairs, an image of the class and another one, in which
        the former has the higher score; 0.5 for scores that say nothing.

    Examples:
        >>> roc_auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
        0.75
    """
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(positive, scores))


def roc_curve(scores: FloatArray, positive: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Return the corners of the ROC curve: shares of false alarms, and of detected images.

    Args:
        scores: As for `roc_auc`.
        positive: As for `roc_auc`.
    """
    from sklearn.metrics import roc_curve as corners

    false_alarms, detected, _ = corners(positive, scores)
    return false_alarms, detected


def threshold_to_detect(scores: FloatArray, share: float) -> float:
    """Return the highest threshold that detects at least this share of the images of a class.

    Args:
        scores: Shape (n_images,), of the images of the class; at least one.
        share: Fraction in (0, 1].

    Examples:
        >>> threshold_to_detect(np.array([0.9, 0.2, 0.7, 0.6]), 0.75)
        0.6
    """
    # Rounded, since 0.07 of 100 is a little more than 7 in floating point.
    n_detected = math.ceil(round(share * len(scores), 9))
    return float(np.sort(scores)[::-1][n_detected - 1])


def operating_point(scores: FloatArray, positive: BoolArray, threshold: float) -> OperatingPoint:
    """Return what is detected from a threshold on.

    Args:
        scores: As for `roc_auc`.
        positive: As for `roc_auc`.
        threshold: Least score that counts.
    """
    reached = scores >= threshold
    return OperatingPoint(
        threshold, float(reached[positive].mean()), float(reached[~positive].mean())
    )
