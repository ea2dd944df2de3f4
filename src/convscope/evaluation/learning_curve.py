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

from convscope.evaluation.grouping import units_of
from convscope.types import BoolArray, IntArray, Labels

N_FITTED = 3
"""Number of sizes, the largest, that the line is fitted to."""

_LEAST_PER_CLASS = 2
_LEAST_IMAGES = 20
_MOST_SIZES = 7
_N_SAMPLES = 1_000
_STEEPEST = 1.0
"""Largest exponent of the power: errors fall in proportion to the images at most."""


@dataclass(frozen=True)
class Point:
    """A point of a learning curve.

    Attributes:
        n_images: Number of training images.
        accuracy: Accuracy on images that were not learnt, a fraction in [0, 1].
        low: Lower end of its 95 % interval.
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
    before. Images that belong together follow each other.

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

    By a straight line through the last points, on logarithmic axes. The interval is the bootstrap's
    over the images that were judged, or over their groups.

    Args:
        n_images: Number of training images.
        sizes: Numbers that were tried, rising, at least two.
        right: Shape (n_sizes, n_images), whether each image was classified rightly at each size.
        groups: Groups of the images, as `Split.groups`; None if there are none.
        seed: Seed of the samples.
    """
    units = np.arange(right.shape[1]) if groups is None else units_of(groups)
    n_units = int(units.max()) + 1
    fitted = slice(-N_FITTED, None)
    wrong = np.stack([np.bincount(units, ~of_size, n_units) for of_size in right[fitted]], axis=1)
    n_each = np.bincount(units, minlength=n_units)
    weights = np.random.default_rng(seed).multinomial(
        n_units, np.full(n_units, 1 / n_units), _N_SAMPLES
    )
    weights = np.concatenate([np.ones((1, n_units), np.int64), weights])
    shares = (weights @ wrong) / (weights @ n_each)[:, None]
    found = 1 - _extrapolated(np.array(sizes[fitted]), shares, n_images, right.shape[1])
    low, high = np.quantile(found[1:], (0.025, 0.975))
    return Point(n_images, float(found[0]), float(low), float(high))


def _extrapolated(
    sizes: IntArray, shares: npt.NDArray[np.float64], n_images: int, n_judged: int
) -> npt.NDArray[np.float64]:
    """Return the share of errors at a larger size for each row of shares of errors.

    Args:
        sizes: Shape (n_sizes,), numbers of training images.
        shares: Shape (n_rows, n_sizes).
        n_images: Larger number.
        n_judged: Number of images that were judged: no error among them is half of one.
    """
    x = np.log(sizes) - np.log(sizes).mean()
    y = np.log(np.maximum(shares, 0.5 / n_judged))
    slopes = np.clip(y @ x / (x @ x), -_STEEPEST, 0)
    return np.asarray(np.exp(y[:, -1] + slopes * np.log(n_images / sizes[-1])))
