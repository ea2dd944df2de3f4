"""Similarity of two images in their detail, after alignment.

Copies agree in their finest detail; images that merely look alike do not. Detail is a picture minus
its blurred version. Features that many images of a set share (the lines of a form, the grid of a
solar cell, the stroke of a digit) say little about two of them, and count for little.
"""

from functools import partial

import numpy as np
import numpy.typing as npt

from convscope.datasets.checks.alignment import align, correlate, halve, move
from convscope.datasets.checks.fingerprints import COARSE_SIDE, Fingerprints
from convscope.datasets.folders.parallel import map_ordered
from convscope.images.orientation import turn
from convscope.machine import usable_cores
from convscope.progress import Advance
from convscope.types import FloatArray

Places = npt.NDArray[np.intp]

MAX_COLOUR = 25.0
"""Largest difference in colour between copies, in the unit of `Fingerprints.colours`."""

# Where both pictures are coloured (geometric mean of their colours, in that unit), a copy has the
# same hue within 60 degrees but for this share of its area; fainter ones turn with white balance.
_COLOURED = 15.0
_LEAST_COSINE = 0.5
_MAX_OTHER_HUE = 0.03

# Pairs that disagree at a coarse 16 x 16 are not compared more closely.
_COARSE_AGREEMENT = 0.8
_COARSE_DETAIL = 0.5
_NOISE = 0.5
# Detail that varies less than this, in grey levels, is mostly noise; coarser detail decides then.
_FAINT = 4.0
_BLUR = np.array([1, 4, 6, 4, 1], np.float32) / 16
_SAMPLE = 512
# Local similarity of detail from which it is of the same image.
_EQUAL = 0.97
# The share of all detail that one pattern may make up before it counts as common.
_COMMON = 0.01
_AT_ONCE = 512


class Likeness:
    """Measures the similarity of images.

    Args:
        prints: Fingerprints of the images.
    """

    def __init__(self, prints: Fingerprints) -> None:
        self._prints = prints
        chance = np.random.default_rng(0)
        n_sample = min(_SAMPLE, len(prints))
        sample = prints.light[chance.choice(len(prints), n_sample, replace=False)]
        pictures = [sample.astype(np.float32)]
        if pictures[0].shape[1] > COARSE_SIDE:
            pictures.append(halve(pictures[0]))
        self._common = [_Common(detail_of(each)) for each in pictures]

    def __call__(self, pairs: Places, ways: Places, step: Advance) -> FloatArray:
        """Return the similarity of the two images of each pair.

        Args:
            pairs: Shape (n_pairs, 2).
            ways: Shape (n_pairs,), orientation of the second that matches the first.
            step: Called with the number of pairs done.

        Returns:
            Shape (n_pairs,), at most 1; pairs of different colours have 0.
        """
        blocks = [slice(start, start + _AT_ONCE) for start in range(0, len(pairs), _AT_ONCE)]
        score = partial(self._scores, pairs, ways)
        scores = np.empty(len(pairs), np.float32)
        for block, found in zip(blocks, map_ordered(score, blocks, usable_cores()), strict=True):
            scores[block] = found
            step(len(found))
        return scores

    def _scores(self, all_pairs: Places, all_ways: Places, block: slice) -> FloatArray:
        pairs, ways = all_pairs[block], all_ways[block]
        fixed = self._prints.light[pairs[:, 0]].astype(np.float32)
        moving = _turned(self._prints.light[pairs[:, 1]].astype(np.float32), ways)
        coarser = [(fixed, moving)]
        while coarser[-1][0].shape[1] > 8:
            coarser.append((halve(coarser[-1][0]), halve(coarser[-1][1])))
        eighth, sixteenth = coarser[-1], coarser[-2]

        moves = align(*eighth, np.zeros((len(pairs), 4), np.float32), 4, damping=1e-2)
        moves = align(*sixteenth, moves, 3)
        moved, within = move(sixteenth[1], moves)
        agreement = correlate(sixteenth[0], moved, within)
        scores = correlate(detail_of(sixteenth[0]), detail_of(moved), within, _NOISE)
        scores = np.minimum(scores, _COARSE_DETAIL)
        hopeful = (agreement >= _COARSE_AGREEMENT) & (scores >= _COARSE_DETAIL)
        closer = np.flatnonzero(hopeful)
        if len(closer):
            moves = moves[closer]
            for finer in reversed(coarser[:-2]):
                finer_fixed, finer_moving = finer[0][closer], finer[1][closer]
                moves = align(finer_fixed, finer_moving, moves, 4)
            scores[closer] = self._detail(finer_fixed, finer_moving, moves)
            scores[closer] *= self._same_colours(pairs[closer], ways[closer], moves)
        return scores

    def _detail(self, fixed: FloatArray, moving: FloatArray, moves: FloatArray) -> FloatArray:
        """Return the mean correlation of detail at the two finest sizes that have any."""
        moved, within = move(moving, moves)
        agreement = np.zeros(len(fixed), np.float32)
        wanted = np.full(len(fixed), len(self._common), np.float32)
        for common in (*self._common, None):
            first, second = detail_of(fixed), detail_of(moved)
            if common is None:
                weight = wanted
            else:
                n_within = within.sum(axis=(1, 2)) + 1e-6
                faintest = np.minimum(
                    ((first * within) ** 2).sum(axis=(1, 2)),
                    ((second * within) ** 2).sum(axis=(1, 2)),
                )
                weight = np.minimum(1, np.sqrt(faintest / n_within) / _FAINT)
                first, second = common.without(first), common.without(second)
            agreement += weight * correlate(first, second, within, _NOISE)
            wanted = wanted - weight
            fixed, moved, within = halve(fixed), halve(moved), halve(within)
        mean: FloatArray = np.divide(agreement, len(self._common))
        return mean

    def _same_colours(
        self, pairs: Places, ways: Places, moves: FloatArray
    ) -> npt.NDArray[np.bool_]:
        first = self._prints.colours[pairs[:, 0]].astype(np.float32)
        second = _turned(self._prints.colours[pairs[:, 1]].astype(np.float32), ways)
        moved, within = move(second, moves)
        area = within.sum(axis=(1, 2)) + 1e-6
        apart = (np.abs(first - moved) * within[:, None]).sum(axis=(2, 3))
        other_hue = (_of_other_hue(first, moved) * within).sum(axis=(1, 2))
        same: npt.NDArray[np.bool_] = (apart.max(axis=1) <= MAX_COLOUR * area) & (
            other_hue <= _MAX_OTHER_HUE * area
        )
        return same


def _of_other_hue(first: FloatArray, second: FloatArray) -> npt.NDArray[np.bool_]:
    """Return where two pictures are clearly coloured, and differently.

    Args:
        first: Shape (n_pictures, 2, side, side), as in `Fingerprints.colours`.
        second: The same of the pictures beside them.

    Returns:
        Shape (n_pictures, side, side).
    """

    def plane(colours: FloatArray) -> FloatArray:
        # Red and blue at right angles to grey, a third of a circle apart as seen from it.
        red, blue = colours[:, 0], colours[:, 1]
        return np.stack([red - blue / 2, np.sqrt(np.float32(0.75)) * blue])

    one, two = plane(first), plane(second)
    product = (one * two).sum(axis=0)
    coloured = np.sqrt((one**2).sum(axis=0) * (two**2).sum(axis=0))
    other: npt.NDArray[np.bool_] = (product < _LEAST_COSINE * coloured) & (coloured >= _COLOURED**2)
    return other


def detail_of(pictures: FloatArray) -> FloatArray:
    """Return pictures minus their blurred versions, shape (n_pictures, side, side)."""
    side = pictures.shape[1]
    blurred = np.pad(pictures, ((0, 0), (2, 2), (2, 2)), "edge")
    rows = sum(weight * blurred[:, i : i + side] for i, weight in enumerate(_BLUR))
    blurred = sum(weight * rows[:, :, i : i + side] for i, weight in enumerate(_BLUR))
    detail: FloatArray = pictures - blurred
    return detail


class _Common:
    """Patterns that make up much of the detail of many images.

    Args:
        details: Details of a sample, shape (n_images, side, side).
    """

    def __init__(self, details: FloatArray) -> None:
        n_images = len(details)
        flat = details.reshape(n_images, -1)
        flat = flat / np.sqrt((flat**2).mean(axis=1, keepdims=True) + 1)
        if n_images == 0:
            self._patterns = np.empty((0, flat.shape[1]), np.float32)
            self._excess = np.empty(0, np.float32)
            return
        flat = flat[_different(flat @ flat.T / flat.shape[1])]
        # Each of a few images makes up much, so the threshold falls with their number.
        n_images = len(flat)
        powers, mixtures = np.linalg.eigh(flat @ flat.T)
        cap = (_COMMON + 4 / n_images) * powers.sum()
        much = powers > cap
        powers, mixtures = powers[much], mixtures[:, much]
        self._patterns = (mixtures / np.sqrt(powers)).T.astype(np.float32) @ flat
        self._excess = (1 - np.sqrt(cap / powers)).astype(np.float32)

    def without(self, details: FloatArray) -> FloatArray:
        """Return detail without the excess of common patterns."""
        flat = details.reshape(len(details), -1)
        excess = (flat @ self._patterns.T * self._excess) @ self._patterns
        return (flat - excess).reshape(details.shape)


def _different(cosines: FloatArray) -> Places:
    """Return the indices of images of which no two are nearly equal: copies share no pattern.

    Args:
        cosines: Shape (n_images, n_images), similarities of their details.
    """
    kept: list[int] = []
    for place, row in enumerate(cosines):
        if not kept or row[kept].max() < _EQUAL:
            kept.append(place)
    return np.array(kept, np.intp)


def _turned(pictures: FloatArray, ways: Places) -> FloatArray:
    for way in np.unique(ways):
        chosen = ways == way
        pictures[chosen] = turn(pictures[chosen], int(way))
    return pictures
