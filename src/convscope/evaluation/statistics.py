"""Comparison of two training configurations, over seeds and over images at once.

A run differs from the next by its seed, and the images that it is evaluated on are a sample of
those that it might have been evaluated on. Both are random, so the interval covers both: the
results of other seeds on other images of the same kind. A configuration with a single seed is
assumed to spread over seeds as the other does. With a single seed each there is no estimate of
that spread: the interval then compares two trained networks on other images of the same kind,
not two training configurations.

References:
    Roe and Metz, "Variance-Component Modeling in the Analysis of Receiver Operating Characteristic
    Index Estimates", 1997, whose readers and cases are our seeds and images;
    Bouthillier et al., "Accounting for Variance in Machine Learning Benchmarks", MLSys 2021.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from convscope.errors import ShapeError
from convscope.evaluation.grouping import contributions, units_of
from convscope.types import BoolArray

Groups = npt.NDArray[np.str_] | None
"""Groups of images, as `Split.groups`."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Spread:
    """Accuracy over seeds.

    Attributes:
        mean: Mean accuracy, a fraction in [0, 1].
        sd: Standard deviation over seeds; None for one seed.
        low: Lower end of the 95 % interval of the mean over seeds; None for one seed.
        high: Upper end of the interval; None for one seed.
        n_seeds: Number of seeds.
    """

    mean: float
    sd: float | None
    low: float | None
    high: float | None
    n_seeds: int


@dataclass(frozen=True)
class Variation:
    """Variance components of the difference of two accuracies.

    Attributes:
        seeds: Variance between pairs of seeds, over all images; None with one seed each.
        images: Variance between images, over all seeds.
        rest: Residual variance, that of the seed-by-image interaction.
        n_images: Number of images that they were estimated from, or of groups of images.
        grouped: Whether they are variances between groups, not between images.
    """

    seeds: float | None
    images: float
    rest: float
    n_images: int
    grouped: bool = False


@dataclass(frozen=True)
class Difference:
    """Difference of the accuracies of B and A, with its uncertainty.

    Attributes:
        mean: Accuracy of B minus accuracy of A, in [-1, 1].
        low: Lower end of its interval.
        high: Upper end of the interval.
        p: P value of no difference, over seeds and images; 0 means less than 1e-12. With a single
            seed each, over images alone.
        p_seeds: P value over seeds alone (for paired ones: Student's paired t-test); None with a
            single seed each.
        p_images: P value over images alone, for these very models: McNemar's exact test for a
            single seed each, else from the normal distribution.
        of_ways: Whether it compares the two training configurations; with a single seed each it
            compares the two networks that were trained, and another seed may reverse it.
        paired: Whether the same seeds were compared.
        identical: Whether both gave the same correct and wrong answers throughout.
        variation: Variance components behind the uncertainty.
        confidence: Confidence of the interval: 0.95, or more when several comparisons share it.
    """

    mean: float
    low: float
    high: float
    p: float
    p_seeds: float | None
    p_images: float
    of_ways: bool
    paired: bool
    identical: bool
    variation: Variation
    confidence: float

    @property
    def shown(self) -> bool:
        """Whether the interval excludes 0."""
        return not self.low <= 0 <= self.high


def spread_over_seeds(accuracies: list[float]) -> Spread:
    """Return the mean accuracy over seeds with Student's 95 % interval.

    Args:
        accuracies: Accuracy of each seed, at least one; fractions in [0, 1].

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
    half_width = float(t.ppf(0.975, n - 1)) * sd / math.sqrt(n)
    return Spread(mean, sd, max(0.0, mean - half_width), min(1.0, mean + half_width), n)


def rows_by_seed(
    right_a: Mapping[int, BoolArray], right_b: Mapping[int, BoolArray]
) -> tuple[BoolArray, BoolArray, bool]:
    """Return the runs of two configurations to be compared, and whether they are paired by seed.

    If both have several seeds in common, those are taken, row by row; otherwise all of them.

    Args:
        right_a: By seed of A, whether each image is classified correctly, shape (n_images,).
        right_b: The same for B, with the same images in the same order.

    Returns:
        Shape (n_seeds of A, n_images), shape (n_seeds of B, n_images), and whether they are paired,
        as `difference` takes them.
    """
    rows_a, rows_b, paired = runs_by_seed(right_a, right_b)
    return np.stack(rows_a), np.stack(rows_b), paired


def runs_by_seed(
    runs_a: Mapping[int, Result], runs_b: Mapping[int, Result]
) -> tuple[list[Result], list[Result], bool]:
    """Return the runs of two configurations to be compared, and whether they are paired by seed.

    If both have several seeds in common, those are taken; otherwise all of them.
    """
    common = sorted(runs_a.keys() & runs_b.keys())
    # A single seed in common, of several, would discard all the others.
    paired = len(common) > 1 or runs_a.keys() == runs_b.keys()
    seeds_a, seeds_b = (common, common) if paired else (sorted(runs_a), sorted(runs_b))
    return [runs_a[seed] for seed in seeds_a], [runs_b[seed] for seed in seeds_b], paired


def difference(
    right_a: BoolArray,
    right_b: BoolArray,
    *,
    paired: bool,
    n_comparisons: int = 1,
    groups: Groups = None,
) -> Difference:
    """Compare two training configurations by the images that each run classifies correctly.

    A side with a single seed borrows the spread over seeds of the other side. With a single seed
    each, or where all seeds of a side give the same answers, two networks are compared, by an
    interval that excludes 0 where McNemar's exact test rejects.

    Of images in groups the groups are what is sampled: with few of them by Student's distribution.

    Args:
        right_a: Shape (n_seeds of A, n_images), a row for each seed.
        right_b: Shape (n_seeds of B, n_images), of the same images in the same order.
        paired: Whether row k of both has the same seed; both then have as many rows.
        n_comparisons: Number of comparisons in all: intervals are widened (Bonferroni) so that all
            of them hold jointly in 95 % of studies.
        groups: Shape (n_images,), the groups of the images, if they are in some.

    Raises:
        ShapeError: If the shapes do not match.
    """
    if right_a.ndim != 2 or right_b.ndim != 2 or right_a.shape[1] != right_b.shape[1]:
        raise ShapeError(
            f"right_a and right_b of shapes {right_a.shape} and {right_b.shape} do not match"
        )
    if not right_a.size or not right_b.size or (paired and len(right_a) != len(right_b)):
        raise ShapeError(f"{len(right_a)} and {len(right_b)} seeds cannot be paired")
    if (right_a == right_a[0]).all() and (right_b == right_b[0]).all():
        networks = right_a[0], right_b[0], paired, 1 - 0.05 / n_comparisons
        found = (
            _of_networks(*networks) if groups is None else _of_networks_by_groups(*networks, groups)
        )
        if len(right_a) == len(right_b) == 1:
            return found
        # Training without any chance: what holds for one seed holds for all.
        variation = replace(found.variation, seeds=0.0)
        return replace(found, of_ways=True, p_seeds=float(found.mean == 0), variation=variation)
    mean = float(right_b.mean() - right_a.mean())
    sides = [_by_unit(right, groups) for right in (right_a, right_b)]
    n_units = sides[0].shape[1]  # images, or groups of them
    of_images = _variance(sides[1].mean(axis=0) - sides[0].mean(axis=0))
    n_groups = None if groups is None else n_units
    rows_of = [sides[1] - sides[0]] if paired else sides
    # (variance over seeds, residual variance, number of seeds behind them) of each part
    variances = [
        (_variance(rows.mean(axis=1)), _residual_variance(rows), len(rows))
        if len(rows) > 1
        else None
        for rows in rows_of
    ]
    known = next(each for each in variances if each is not None)
    parts = [(*(each or known), len(rows)) for each, rows in zip(variances, rows_of, strict=True)]
    pure = max(0.0, of_images - sum(rest / n for _, rest, _, n in parts))
    margins = Margins(
        [(of_part / n, n_behind) for of_part, _, n_behind, n in parts],
        pure / n_units,
        of_images / n_units,
        n_groups,
    )
    confidence = 1 - 0.05 / n_comparisons
    half_width = margins.half_width(confidence)
    of_seeds = max(0.0, sum(of_part - rest / n_units for of_part, rest, _, _ in parts))
    return Difference(
        mean=mean,
        low=max(-1.0, mean - half_width),
        high=min(1.0, mean + half_width),
        p=margins.p(mean),
        p_seeds=Margins(margins.seeds, 0.0, 0.0).p(mean),
        p_images=Margins([], 0.0, margins.floor, n_groups).p(mean),
        of_ways=True,
        paired=paired,
        identical=paired and bool((right_a == right_b).all()),
        variation=Variation(
            of_seeds,
            pure,
            sum(rest for _, rest, _, _ in parts),
            n_units,
            n_groups is not None,
        ),
        confidence=confidence,
    )


def _by_unit(right: BoolArray, groups: Groups) -> npt.NDArray[Any]:
    """Return a number for each image, or each group, of which a difference can be taken."""
    if groups is None:
        return right.astype(np.int8)
    return np.stack([contributions(row, groups) for row in right])


def _variance(values: npt.NDArray[np.floating]) -> float:
    return float(np.var(values, ddof=1)) if len(values) > 1 else 0.0


def _residual_variance(rows: npt.NDArray[np.generic]) -> float:
    """Return the residual variance of rows of shape (n_seeds, n_images), after both means."""
    values = rows.astype(np.float64)
    left = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean()
    return float((left**2).sum() / ((len(values) - 1) * max(1, values.shape[1] - 1)))


@dataclass(frozen=True)
class Margins:
    """Uncertainty of a difference, part by part.

    Each part has Student's margin for its number of seeds, and the margins add up as squares: with
    few seeds one common number of degrees of freedom gives too many false alarms.

    Attributes:
        seeds: Squared standard error of each part and the number of seeds behind it.
        images: Squared standard error that the images add.
        floor: Squared standard error of the images with the seeds held fixed; a lower bound.
        n_groups: Number of groups of images behind both; None for images of no group, which are
            enough for the normal distribution.
    """

    seeds: list[tuple[float, int]]
    images: float
    floor: float
    n_groups: int | None = None

    def half_width(self, confidence: float) -> float:
        """Return half the width of the interval."""
        # The functions behind scipy.stats' distributions: its own take fifty times as long.
        from scipy.special import ndtri, stdtrit

        level = (1 + confidence) / 2
        if self.n_groups == 1:
            return math.inf  # nothing follows for other groups
        z = float(ndtri(level) if self.n_groups is None else stdtrit(self.n_groups - 1, level)) ** 2
        squared = z * self.images + sum(
            float(stdtrit(n - 1, level)) ** 2 * v for v, n in self.seeds
        )
        return math.sqrt(max(squared, z * self.floor))

    def p(self, mean: float) -> float:
        """Return one minus the confidence of the interval that just contains 0."""
        from scipy.optimize import brentq

        if mean == 0 or self.n_groups == 1:
            return 1.0
        least = 1e-12
        if self.half_width(1 - least) < abs(mean):
            return 0.0
        return float(brentq(lambda p: self.half_width(1 - p) - abs(mean), least, 1.0))


def _of_networks_by_groups(
    right_a: BoolArray,
    right_b: BoolArray,
    paired: bool,
    confidence: float,
    groups: npt.NDArray[np.str_],
) -> Difference:
    """Compare two networks by what each group of images contributes to their accuracies.

    By Student's test over the groups. Where so few of them differ that not even all in one
    direction would be more than chance (the exact sign test), no difference is shown.
    """
    apart = contributions(right_b, groups) - contributions(right_a, groups)
    n_groups = len(apart)
    mean = float(apart.mean())
    variance = _variance(apart)
    margins = Margins([], 0.0, variance / n_groups, n_groups)
    half_width = margins.half_width(confidence)
    # Of right answers: what groups contribute differs wherever the accuracies do.
    more_right = np.bincount(units_of(groups), right_b.astype(np.float64) - right_a)
    least = 2.0 ** (1 - np.count_nonzero(more_right))
    p = max(margins.p(mean), min(1.0, least))
    low, high = max(-1.0, mean - half_width), min(1.0, mean + half_width)
    if least > 1 - confidence:
        low, high = min(low, 0.0), max(high, 0.0)
    return Difference(
        mean=mean,
        low=low,
        high=high,
        p=p,
        p_seeds=None,
        p_images=p,
        of_ways=False,
        paired=paired,
        identical=paired and bool((right_a == right_b).all()),
        variation=Variation(None, variance, 0.0, n_groups, True),
        confidence=confidence,
    )


def _of_networks(
    right_a: BoolArray, right_b: BoolArray, paired: bool, confidence: float
) -> Difference:
    """Compare two networks by nothing but their answers, each of shape (n_images,).

    Only images on which one is correct and the other wrong distinguish them. The interval takes the
    share of such images, and B's share of those, each at its worst within the exact interval of
    Clopper and Pearson; it excludes 0 where McNemar's exact test rejects.

    References:
        McNemar, "Note on the sampling error of the difference between correlated proportions or
        percentages", Psychometrika 1947;
        Clopper and Pearson, "The Use of Confidence or Fiducial Limits Illustrated in the Case of
        the Binomial", Biometrika 1934.
    """
    from scipy.stats import binomtest

    n_images = len(right_a)
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    n_unlike = only_a + only_b
    unlike = binomtest(n_unlike, n_images).proportion_ci(confidence)
    low, high, p = -1.0, 1.0, 1.0
    if n_unlike:
        of_b = binomtest(only_b, n_unlike)
        ends = of_b.proportion_ci(confidence)
        low, high, p = 2 * ends.low - 1, 2 * ends.high - 1, float(of_b.pvalue)
    return Difference(
        mean=(only_b - only_a) / n_images,
        low=float(low * (unlike.high if low < 0 else unlike.low)),
        high=float(high * (unlike.high if high > 0 else unlike.low)),
        p=p,
        p_seeds=None,
        p_images=p,
        of_ways=False,
        paired=paired,
        identical=paired and n_unlike == 0,
        variation=Variation(None, _variance(right_b.astype(np.float64) - right_a), 0.0, n_images),
        confidence=confidence,
    )
