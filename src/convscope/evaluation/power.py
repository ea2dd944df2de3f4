"""Number of seeds that would show a difference between two training configurations."""

import math

import numpy as np

from convscope.evaluation.statistics import Variation

POWER = 0.8
"""Wanted probability of showing a difference that exists, when seeds are planned."""
MOST_SEEDS = 1000


def power(
    size: float,
    variation: Variation,
    n_seeds: int,
    *,
    confidence: float = 0.95,
    few_groups: bool = False,
) -> float:
    """Return the probability that a difference is shown (statistical power).

    Args:
        size: True difference, a fraction above 0.
        variation: Variances from `difference`; its `seeds` must be known.
        n_seeds: Number of seeds of each of the two, at least 2.
        confidence: Confidence of the intervals.
        few_groups: Whether the intervals are Student's over the groups of images, as those of
            accuracies.

    Returns:
        A fraction in [0, 1].
    """
    from scipy.stats import chi2, norm, t

    assert variation.seeds is not None
    n_images = variation.n_images
    if few_groups and n_images < 2:
        return 0.0
    by_seed = (variation.seeds + variation.rest / n_images) / n_seeds
    by_image = variation.images / n_images
    error = math.sqrt(by_seed + by_image)
    if error == 0:
        return 1.0
    # The spread over few seeds is itself estimated: take the mean over its possible values.
    chances = (np.arange(200) + 0.5) / 200
    found = by_seed * chi2.ppf(chances, n_seeds - 1) / (n_seeds - 1)
    level = (1 + confidence) / 2
    of_images = t.ppf(level, n_images - 1) if few_groups else norm.ppf(level)
    reach = np.sqrt(t.ppf(level, n_seeds - 1) ** 2 * found + of_images**2 * by_image)
    return float((norm.sf((reach - size) / error) + norm.cdf((-reach - size) / error)).mean())


def seeds_to_show(
    size: float, variation: Variation, *, confidence: float = 0.95, few_groups: bool = False
) -> int | None:
    """Return the number of seeds each that would show a difference in four studies of five.

    Args:
        size: True difference, a fraction above 0.
        variation: Variances from `difference`.
        confidence: Confidence of the intervals.
        few_groups: See `power`.

    Returns:
        At least 2; None if there are too few images for any number of seeds, or the spread over
        seeds is unknown.
    """

    def of(n_seeds: int) -> float:
        return power(size, variation, n_seeds, confidence=confidence, few_groups=few_groups)

    if variation.seeds is None or of(MOST_SEEDS) < POWER:
        return None
    low, high = 2, MOST_SEEDS
    while low < high:
        middle = (low + high) // 2
        if of(middle) >= POWER:
            high = middle
        else:
            low = middle + 1
    return low
