"""Accuracy on images in groups, such as several of one patient: they tell less than as many others.

Images of a group are often all right or all wrong, so the number of images flatters an interval.
What a group contributes to the accuracy is one observation; those of different groups are
independent.

References:
    Cameron and Miller, "A Practitioner's Guide to Cluster-Robust Inference", Journal of Human
    Resources 2015, whose CR3 (the jackknife over groups) the variance is;
    Korn and Graubard, "Confidence Intervals for Proportions With Small Expected Number of Positive
    Counts Estimated From Survey Data", Survey Methodology 1998.
"""

import math

import numpy as np
import numpy.typing as npt

from convscope.types import BoolArray, FloatArray, IntArray, Predictions, SealedSplit, Split

FloatsOfUnits = npt.NDArray[np.float64]


def units_of(groups: npt.NDArray[np.str_]) -> IntArray:
    """Return the number of each image's group; an image of no group is one of its own.

    Args:
        groups: Shape (n_images,), as `Split.groups`.

    Returns:
        Shape (n_images,), in [0, n_units).

    Examples:
        >>> units_of(np.array(["ann", "", "ann", ""])).tolist()
        [2, 0, 2, 1]
    """
    alone = np.flatnonzero(groups == "")
    units = np.empty(len(groups), np.int64)
    units[alone] = np.arange(len(alone))
    named = groups != ""
    units[named] = len(alone) + np.unique(groups[named], return_inverse=True)[1]
    return units


def contributions(right: BoolArray | FloatArray, groups: npt.NDArray[np.str_]) -> FloatsOfUnits:
    """Return what each group contributes to the accuracy.

    Their mean is the accuracy, and their variance over their number the variance of that by the
    jackknife: the accuracy without a group moves the more the more images the group has.

    Args:
        right: Shape (n_images,), whether each image is classified correctly, or any number for each
            image, whose mean is wanted.
        groups: Shape (n_images,), as `Split.groups`.

    Returns:
        Shape (n_units,), in no particular range: a large group counts for more.

    Examples:
        >>> contributions(np.array([True, True, False]), np.array(["ann", "ann", "ben"])).round(2)
        array([ 1.67, -0.33])
    """
    units, n_images = units_of(groups), len(right)
    accuracy = right.mean()
    beyond, sizes = np.bincount(units, right - accuracy), np.bincount(units)
    if len(sizes) < 2:
        return np.full(len(sizes), accuracy)
    moved = beyond / (n_images - sizes)
    return np.asarray(accuracy + len(sizes) * (moved - moved.mean()))


def unlike(
    first: BoolArray,
    second: BoolArray,
    groups: tuple[npt.NDArray[np.str_], npt.NDArray[np.str_]],
) -> float:
    """Return the p value of two shares being equal, of images in different groups.

    Welch's test of what the groups contribute. It needs two groups on each side.

    Args:
        first: Shape (n_images,), whether each image counts.
        second: Shape (n_images of the second,), the same for the second.
        groups: Groups of both, as `Split.groups`.

    References:
        Welch, "The Generalization of 'Student's' Problem when Several Different Population
        Variances are Involved", Biometrika 1947.
    """
    from scipy.stats import ttest_ind_from_stats

    sides = [contributions(right, of) for right, of in zip((first, second), groups, strict=True)]
    if min(map(len, sides)) < 2:
        return 1.0
    facts = [fact for side in sides for fact in (side.mean(), side.std(ddof=1), len(side))]
    p = float(ttest_ind_from_stats(*facts, equal_var=False).pvalue)
    # Not a number if both are equal, without any spread.
    return 1.0 if math.isnan(p) else p


def accuracies_unlike(first: Predictions, second: Predictions) -> float:
    """Return the p value of equal accuracies on two sets of different images.

    Fisher's exact test; where images are in groups, `unlike`.

    Args:
        first: Predictions for images of exactly one class.
        second: The same for others.

    References:
        Fisher, "Statistical Methods for Research Workers", 1934.
    """
    from scipy.stats import fisher_exact

    if first.groups is None and second.groups is None:
        table = [[said.right.sum(), (~said.right).sum()] for said in (first, second)]
        return float(fisher_exact(table).pvalue)
    alone = [np.full(len(said.ids), "") for said in (first, second)]
    given = [first.groups, second.groups]
    groups = [none if of is None else of for of, none in zip(given, alone, strict=True)]
    return unlike(first.right, second.right, (groups[0], groups[1]))


def images_of(part: Split | SealedSplit | Predictions) -> dict[str, str]:
    """Return the group of each image, "" of none, by the image's name.

    Models can be compared on the same images in the same groups.
    """
    groups = [""] * len(part.ids) if part.groups is None else part.groups.tolist()
    return dict(zip(part.ids.tolist(), groups, strict=True))


def number_of_groups(said: Predictions) -> dict[str, int]:
    """Return the number of groups of images as an entry of the metrics; empty if there are none."""
    return {} if said.groups is None else {"n_groups": int(units_of(said.groups).max()) + 1}


def n_effective(right: BoolArray, groups: npt.NDArray[np.str_] | None) -> float:
    """Return how many images of their own would tell as much of the accuracy, at most their number.

    Without an error, or without a right answer, nothing shows how much the images of a group agree:
    each group then counts once. With few groups their variance is not well known either, which
    lowers the number by Student's distribution.

    Args:
        right: Shape (n_images,), whether each image is classified correctly.
        groups: Shape (n_images,), as `Split.groups`; None if all images are of their own.

    Returns:
        0 for a single group, otherwise above 0.
    """
    from scipy.special import ndtri, stdtrit

    if groups is None:
        return float(len(right))
    values = contributions(right, groups)
    n_units = len(values)
    if n_units < 2:
        return 0.0
    accuracy = float(right.mean())
    variance = float(values.var(ddof=1)) / n_units
    of_one = accuracy * (1 - accuracy)
    number = float(n_units) if of_one == 0 else of_one / variance if variance else math.inf
    level = 0.975
    lowered = (float(ndtri(level)) / float(stdtrit(n_units - 1, level))) ** 2
    return min(number, len(right)) * lowered
