"""Learning curve: accuracy by number of training images, and what more of them would gain.

The share of errors falls about as a power of the number of training images, a straight line on
logarithmic axes.

References:
    Cortes et al., "Learning Curves: Asymptotic Values and Rate of Convergence", NeurIPS 1993;
    Hestness et al., "Deep Learning Scaling is Predictable, Empirically", 2017;
    Viering and Loog, "The Shape of Learning Curves: a Review", IEEE TPAMI 2023.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from convscope.evaluation.grouping import n_effective, units_of
from convscope.evaluation.metrics import wilson
from convscope.types import BoolArray, IntArray, Labels

N_SIZES = 3
"""Number of sizes, the largest, from the first of which to the last the slope is taken."""

_LEAST_PER_CLASS = 2
_LEAST_IMAGES = 20
_MOST_SIZES = 7
_N_SAMPLES = 1_000
_MISFIT = 0.1
"""What the line misses for each doubling of the images: standard deviation of the logarithm of the
share of errors, on three sets of photos and CIFAR-10."""

_STEEPEST = 1.0
"""Largest exponent of the power: errors fall in proportion to the images at most."""


@dataclass(frozen=True)
class Point:
    """A point of a learning curve.

    Attributes:
        n_images: Number of training images.
        accuracy: Accuracy on images that were not learnt, a fraction in [0, 1].
        low: Lower end of its 95 % interval, over the images that were judged, or their groups; of a
            measured point not over other draws of the images that were learnt.
        high: Upper end.
    """

    n_images: int
    accuracy: float
    low: float
    high: float


def sizes_up_to(n_images: int, n_classes: int) -> list[int]:
    """Return numbers of training images, each twice the one before, up to all.

    The least has two images for each class on average, and 20 in all.

    Examples:
        >>> sizes_up_to(1000, 6)
        [31, 62, 125, 250, 500, 1000]
        >>> sizes_up_to(30, 20)
        [30]
    """
    least = max(_LEAST_IMAGES, _LEAST_PER_CLASS * n_classes)
    sizes = [n_images]
    while len(sizes) < _MOST_SIZES and sizes[0] // 2 >= least:
        sizes.insert(0, sizes[0] // 2)
    return sizes


def nested_order(labels: Labels, keys: npt.NDArray[Any], rng: np.random.Generator) -> IntArray:
    """Return an order of images in which each beginning has all classes in about their shares.

    Smaller numbers of training images are beginnings of one order, so that each holds the ones
    before. Images that belong together follow each other, though a beginning may end among them;
    their class is that of the first.

    Args:
        labels: Shape (n_images,), indices of the classes.
        keys: Shape (n_images,), equal for images that belong together.
        rng: Source of the random order.

    Returns:
        Shape (n_images,), each index once.
    """
    _, first, unit_of = np.unique(keys, return_index=True, return_inverse=True)
    label_of = labels[first]
    # Within its class each unit has a place from 0 to 1; by these, classes take turns.
    place = np.empty(len(first))
    for label in np.unique(label_of):
        of_class = rng.permutation(np.flatnonzero(label_of == label))
        place[of_class] = (np.arange(len(of_class)) + rng.random()) / len(of_class)
    return np.asarray(np.argsort(place[unit_of], kind="stable"), np.int64)


def expected_at(
    n_images: int,
    sizes: Sequence[int],
    right: BoolArray,
    groups: npt.NDArray[np.str_] | None = None,
    seed: int = 83,
) -> Point:
    """Return the accuracy to expect of more training images of the same kind.

    The line goes from the last point on, as steep as from a quarter of its images to it. The
    interval is the bootstrap's over the images that were judged, or over their groups, with what
    such a line misses on other sets, and at least that of a share of so many images.

    Args:
        n_images: Number of training images.
        sizes: Numbers that were tried, each twice the one before, at least two.
        right: Shape (n_sizes, n_images), whether each image was classified rightly at each size.
        groups: Groups of the images, as `Split.groups`; None if there are none.
        seed: Seed of the samples.
    """
    first = max(0, len(sizes) - N_SIZES)
    ends = ~right[[first, -1]]
    # No error among the images that were judged counts as half of one.
    least, factor = 0.5 / ends.shape[1], sizes[-1] / sizes[first]

    def errors(
        shares: npt.NDArray[np.float64], misses: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        before, last = np.maximum(shares, least).T
        slopes = np.clip(np.log(last / before) / np.log(factor), -_STEEPEST, 0)
        extrapolated = last * (n_images / sizes[-1]) ** slopes * np.exp(misses)
        return np.asarray(np.minimum(extrapolated, shares[:, 1]))

    accuracy = 1 - float(errors(ends.mean(axis=1)[None], np.zeros(1))[0])
    rng = np.random.default_rng(seed)
    misses = rng.normal(0, _MISFIT * np.log2(n_images / sizes[-1]), _N_SAMPLES)
    sampled = 1 - errors(_resampled(ends, groups, rng), misses)
    low, high = np.quantile(sampled, (0.025, 0.975))
    share_low, share_high = wilson(accuracy, n_effective(right[-1], groups))
    return Point(n_images, accuracy, min(float(low), share_low), max(float(high), share_high))


def _resampled(
    wrong: BoolArray, groups: npt.NDArray[np.str_] | None, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Return the shares of errors in samples of the images, or of their groups.

    Args:
        wrong: Shape (n_sizes, n_images).
        groups: Groups of the images; None if there are none.
        rng: Source of the samples.

    Returns:
        Shape (n_samples, n_sizes).
    """
    if groups is None:  # images that are wrong at the same sizes are alike
        units, of_unit = np.unique(wrong.T, axis=0, return_counts=True)
        counts = rng.multinomial(len(wrong.T), of_unit / len(wrong.T), _N_SAMPLES)
        return np.asarray(counts @ units / len(wrong.T))
    unit_of = units_of(groups)
    n_units = int(unit_of.max()) + 1
    sums = np.stack([np.bincount(unit_of, of_size) for of_size in (*wrong, np.ones(len(groups)))])
    shares = np.empty((_N_SAMPLES, len(wrong)))
    for row in shares:
        counts = rng.multinomial(n_units, np.full(n_units, 1 / n_units))
        *errors, n_judged = sums @ counts
        row[:] = np.array(errors) / n_judged
    return shares
