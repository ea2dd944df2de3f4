"""Whether one way of training is better than another: over seeds and over images at once.

A run differs from the next by its seed, and the images that it is judged on are some of those that
it might have been judged on. Both are drawn by chance, so both are part of the interval: what would
come out with other seeds and other images of the same kind. With a single seed each, only the
images are; that interval is about two trained models and not about two ways of training.

References:
    Roe and Metz, "Variance-Component Modeling in the Analysis of Receiver Operating Characteristic
    Index Estimates", 1997, for readers and cases, which are our seeds and images;
    Bouthillier et al., "Accounting for Variance in Machine Learning Benchmarks", MLSys 2021.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from convscope.errors import ShapeError
from convscope.types import BoolArray

POWER = 0.8
"""How often a difference is to be shown if it is there, where seeds are planned."""
MOST_SEEDS = 1000


@dataclass(frozen=True)
class Spread:
    """An accuracy over seeds.

    Attributes:
        mean: A fraction in [0, 1].
        sd: Standard deviation over seeds; None of one seed.
        low: Lower end of the 95 % interval of the mean over seeds; None of one seed.
        high: Its upper end.
        n_seeds: How many.
    """

    mean: float
    sd: float | None
    low: float | None
    high: float | None
    n_seeds: int


@dataclass(frozen=True)
class Variation:
    """Variances of the difference of two accuracies, by where they come from.

    Attributes:
        seeds: Of a pair of seeds, over all images; None where there is one seed each.
        images: Of an image, over all seeds.
        rest: Of an image in a seed, beyond those two.
        n_images: Of which there were so many.
    """

    seeds: float | None
    images: float
    rest: float
    n_images: int


@dataclass(frozen=True)
class Difference:
    """How much more often B is right than A.

    Attributes:
        mean: Accuracy of B less accuracy of A, in [-1, 1].
        low: Lower end of its interval.
        high: Upper end.
        p: Chance of a difference as large where there is none, over seeds and images; 0 means
            less than 1e-12.
        p_seeds: The same over seeds alone (of paired ones: Student's paired t-test); None where
            either has a single one.
        p_images: Over images alone, for these very models: McNemar's exact test for a single seed
            each, else by the normal distribution.
        paired: Whether the same seeds were compared.
        identical: Whether both gave the same right and wrong answers throughout.
        variation: Where the uncertainty comes from.
        confidence: Of the interval: 0.95, or more where several comparisons share that.
    """

    mean: float
    low: float
    high: float
    p: float
    p_seeds: float | None
    p_images: float
    paired: bool
    identical: bool
    variation: Variation
    confidence: float

    @property
    def shown(self) -> bool:
        """Whether the interval leaves out 0."""
        return not self.low <= 0 <= self.high


def spread_over_seeds(accuracies: list[float]) -> Spread:
    """Return the mean of an accuracy over seeds, and Student's 95 % interval of it.

    Args:
        accuracies: One for each seed, at least one; fractions in [0, 1].

    Examples:
        >>> spread = spread_over_seeds([0.70, 0.71, 0.72])
        >>> round(spread.mean, 3), round(spread.low, 3), round(spread.high, 3)
        (0.71, 0.685, 0.735)
    """
    from scipy.stats import t

    n = len(accuracies)
    mean = float(np.mean(accuracies))
    if n < 2:
        return Spread(mean, None, None, None, n)
    sd = float(np.std(accuracies, ddof=1))
    reach = float(t.ppf(0.975, n - 1)) * sd / math.sqrt(n)
    return Spread(mean, sd, max(0.0, mean - reach), min(1.0, mean + reach), n)


def difference(
    right_a: BoolArray, right_b: BoolArray, *, paired: bool, n_comparisons: int = 1
) -> Difference:
    """Compare two ways of training by which images each run of theirs has right.

    Args:
        right_a: Shape (n_seeds of A, n_images); a row for each seed.
        right_b: Shape (n_seeds of B, n_images), of the same images in the same order.
        paired: Whether row k of both has the same seed; then they are equally many.
        n_comparisons: How many are made in all: intervals are widened (Bonferroni), so that in 95
            of 100 such studies none of them misses.

    Raises:
        ShapeError: If the shapes do not fit.
    """
    if right_a.ndim != 2 or right_b.ndim != 2 or right_a.shape[1] != right_b.shape[1]:
        raise ShapeError(f"right answers of shapes {right_a.shape} and {right_b.shape}")
    if not right_a.size or not right_b.size or (paired and len(right_a) != len(right_b)):
        raise ShapeError(f"{len(right_a)} seeds cannot be compared with {len(right_b)}")
    n_images = right_a.shape[1]
    single = min(len(right_a), len(right_b)) == 1
    a, b = right_a.mean(axis=1), right_b.mean(axis=1)
    mean = float(b.mean() - a.mean())
    of_images = _variance(right_b.mean(axis=0) - right_a.mean(axis=0))
    sides = [right_a.astype(np.int8), right_b.astype(np.int8)]
    rows_of = [sides[1] - sides[0]] if paired else sides
    # (variance over seeds, variance of the rest, seeds) of each part
    found = [
        (_variance(rows.mean(axis=1)), _rest(rows), len(rows)) for rows in rows_of if len(rows) > 1
    ]
    pure = max(0.0, of_images - sum(r / n for _, r, n in found))
    margins = _Margins([(v / n, n) for v, _, n in found], pure / n_images, of_images / n_images)
    confidence = 1 - 0.05 / n_comparisons
    reach = margins.reach(confidence)
    p_seeds = None if single else _Margins(margins.seeds, 0.0, 0.0).p(mean)
    if len(right_a) == len(right_b) == 1:
        p_images = _mcnemar(right_a[0], right_b[0])
    else:
        p_images = _Margins([], 0.0, margins.floor).p(mean)
    # One seed on one side only leaves its spread unknown.
    of_seeds = None if single else max(0.0, sum(v - r / n_images for v, r, _ in found))
    rest = sum(each for _, each, _ in found)
    return Difference(
        mean=mean,
        low=max(-1.0, mean - reach),
        high=min(1.0, mean + reach),
        p=margins.p(mean),
        p_seeds=p_seeds,
        p_images=p_images,
        paired=paired,
        identical=paired and bool((right_a == right_b).all()),
        variation=Variation(of_seeds, pure, rest, n_images),
        confidence=confidence,
    )


def power(size: float, variation: Variation, n_seeds: int, *, confidence: float = 0.95) -> float:
    """Return how often a difference would be shown.

    Args:
        size: The true difference, a fraction above 0.
        variation: As `difference` found it; its `seeds` must be known.
        n_seeds: Of each of the two, at least 2.
        confidence: Of the intervals.

    Returns:
        A fraction in [0, 1].
    """
    from scipy.stats import chi2, norm, t

    assert variation.seeds is not None
    n_images = variation.n_images
    by_seed = (variation.seeds + variation.rest / n_images) / n_seeds
    by_image = variation.images / n_images
    error = math.sqrt(by_seed + by_image)
    if error == 0:
        return 1.0
    # The spread over so few seeds is itself found by chance: the mean over what it may turn out.
    chances = (np.arange(200) + 0.5) / 200
    found = by_seed * chi2.ppf(chances, n_seeds - 1) / (n_seeds - 1)
    level = (1 + confidence) / 2
    reach = np.sqrt(t.ppf(level, n_seeds - 1) ** 2 * found + norm.ppf(level) ** 2 * by_image)
    return float((norm.sf((reach - size) / error) + norm.cdf((-reach - size) / error)).mean())


def seeds_to_show(size: float, variation: Variation, *, confidence: float = 0.95) -> int | None:
    """Return how many seeds of each would show a difference in four studies of five.

    Args:
        size: The true difference, a fraction above 0.
        variation: As `difference` found it.
        confidence: Of the intervals.

    Returns:
        At least 2; None if the images are too few for any number of seeds, or the spread over
        seeds is not known.
    """
    if variation.seeds is None or power(size, variation, MOST_SEEDS, confidence=confidence) < POWER:
        return None
    low, high = 2, MOST_SEEDS
    while low < high:
        middle = (low + high) // 2
        if power(size, variation, middle, confidence=confidence) >= POWER:
            high = middle
        else:
            low = middle + 1
    return low


def _variance(values: npt.NDArray[np.floating]) -> float:
    return float(np.var(values, ddof=1)) if len(values) > 1 else 0.0


def _rest(rows: npt.NDArray[np.generic]) -> float:
    """Return the variance that neither the row nor the column explains; (n_seeds, n_images)."""
    values = rows.astype(np.float64)
    left = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean()
    return float((left**2).sum() / ((len(values) - 1) * max(1, values.shape[1] - 1)))


@dataclass(frozen=True)
class _Margins:
    """The uncertainty of a difference, part by part.

    Each part has Student's margin for as many seeds as it was found from, and the margins add up
    as squares: with few seeds one common number of degrees of freedom gives too many alarms.

    Attributes:
        seeds: For each part, the squared standard error and the seeds that it was found from.
        images: The squared standard error that the images add to it.
        floor: That of the images if the seeds are taken as they are; it is never less.
    """

    seeds: list[tuple[float, int]]
    images: float
    floor: float

    def reach(self, confidence: float) -> float:
        """Return half the width of the interval."""
        from scipy.stats import norm, t

        level = (1 + confidence) / 2
        z = float(norm.ppf(level)) ** 2
        squared = z * self.images + sum(float(t.ppf(level, n - 1)) ** 2 * v for v, n in self.seeds)
        return math.sqrt(max(squared, z * self.floor))

    def p(self, mean: float) -> float:
        """Return one less the confidence of the interval that just holds 0."""
        from scipy.optimize import brentq

        if mean == 0:
            return 1.0
        least = 1e-12
        if self.reach(1 - least) < abs(mean):
            return 0.0
        return float(brentq(lambda p: self.reach(1 - p) - abs(mean), least, 1.0))


def _mcnemar(right_a: BoolArray, right_b: BoolArray) -> float:
    """Return the exact two-sided p-value of two models on the same images.

    References:
        McNemar, "Note on the sampling error of the difference between correlated proportions or
        percentages", Psychometrika 1947.
    """
    from scipy.stats import binomtest

    only_a = int((right_a & ~right_b).sum())
    only_b = int((right_b & ~right_a).sum())
    return float(binomtest(only_b, only_a + only_b).pvalue) if only_a + only_b else 1.0
