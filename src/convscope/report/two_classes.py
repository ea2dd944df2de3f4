"""What the page of a run says where there are two classes: ROC curve and thresholds."""

import math
from collections.abc import Sequence

import numpy as np

from convscope.evaluation.roc import operating_point, roc_auc, roc_curve, threshold_to_detect
from convscope.report.figures import roc_figure
from convscope.report.page import Block, Points, svg_picture
from convscope.types import FloatArray, IntArray
from convscope.wording import FLATTERING

_DETECTED = (0.95, 0.99)
"""Wanted shares of the images of a class."""


def roc_blocks(
    probs: FloatArray,
    labels: IntArray,
    names: Sequence[str],
    unseen_probs: FloatArray,
    unseen_labels: IntArray,
    where: str,
    *,
    fitted: bool,
) -> list[Block]:
    """Return the ROC curve of the rarer class, and thresholds for those who must miss little.

    Args:
        probs: Shape (n_images, 2), at the temperature of the classifier.
        labels: Shape (n_images,).
        names: Names of the two classes.
        unseen_probs: The same of the images by which thresholds are chosen.
        unseen_labels: Their labels.
        where: What those images are.
        fitted: Whether they are the evaluated ones.

    Returns:
        Nothing if either part lacks one of the classes.
    """
    if any(len(np.unique(each)) < 2 for each in (labels, unseen_labels)):
        return []
    rare = int(np.bincount(labels, minlength=2).argmin())
    area = roc_auc(probs[:, rare], labels == rare)
    caption = (
        f"ROC AUC {area:.3f}: in {area:.1%} of all pairs of a {names[rare]} image and a "
        f"{names[1 - rare]} image, the former has the higher probability of {names[rare]}."
    )
    picture = svg_picture(
        roc_figure(*roc_curve(probs[:, rare], labels == rare), names[rare], names[1 - rare]),
        alt=f"ROC curve. {caption}",
        caption=caption,
        legend="It depends on no threshold. The dashed line is chance level.",
    )
    flattering = f" {FLATTERING}" if fitted else ""
    points = []
    for index, name in enumerate(names):
        scores = unseen_probs[unseen_labels == index, index]
        wanted_of: dict[float, float] = {}
        for wanted in _DETECTED:
            wanted_of.setdefault(_rounded_down(threshold_to_detect(scores, wanted)), wanted)
        for threshold, wanted in wanted_of.items():
            if threshold >= 0.5:  # the class that is more probable does it
                continue
            point = operating_point(probs[:, index], labels == index, threshold)
            points.append(
                (
                    f"With a threshold of {threshold:g} for {name}, {point.detected:.1%} of the "
                    f"{name} images are detected, and {point.false_alarms:.1%} of the "
                    f"{names[1 - index]} images are false alarms{flattering}.",
                    f"The threshold was chosen on {len(scores):,} {where}, to detect {wanted:.0%}.",
                )
            )
    return [picture, *([Points(points)] if points else [])]


def _rounded_down(threshold: float) -> float:
    """Return a probability to three significant digits, at which no image more is missed.

    Examples:
        >>> _rounded_down(0.098765), _rounded_down(0.00043219), _rounded_down(0.0)
        (0.0987, 0.000432, 0.0)
    """
    if threshold <= 0:
        return 0.0
    n_decimals = 2 - math.floor(math.log10(threshold))
    digits = math.floor(threshold * 10.0**n_decimals)
    return float(digits / 10.0**n_decimals)
