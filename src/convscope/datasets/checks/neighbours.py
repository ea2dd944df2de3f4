"""Nearest neighbours of images in any of eight orientations: candidates for near copies.

Images are compared as 8 x 8 colour pictures, projected on their principal components, so that all
pairs of 60,000 images are a few seconds of matrix products. Blocks of rows and of columns keep
memory constant. If there are too many pairs for the work allowed, each image is compared only with
those that have the most similar share of the first component.
"""

from functools import partial

import numpy as np
import numpy.typing as npt

from convscope.datasets.checks.fingerprints import COLOUR_SIDE, Fingerprints
from convscope.datasets.folders.parallel import map_ordered
from convscope.images.orientation import AS_IT_IS, turn
from convscope.machine import usable_cores
from convscope.progress import Advance
from convscope.types import FloatArray

Places = npt.NDArray[np.intp]

MIN_COSINE = 0.5
"""Least similarity of two thumbnails that are compared closely."""

_N_PATTERNS = 64
_FAINT = 3.0
_FEW = 4096
_ROWS, _COLUMNS, _BUNCH = 128, 32768, 64
_AT_ONCE = 4096
_NONE = -2.0


class Patterns:
    """Principal components of a sample of thumbnails.

    A few thousand images are compared quickly without projection.

    Args:
        prints: Fingerprints of the images to compare.
    """

    def __init__(self, prints: Fingerprints) -> None:
        n_values = 3 * COLOUR_SIDE**2
        if len(prints) < _FEW:
            self._vectors = np.eye(n_values, dtype=np.float32)
            return
        chance = np.random.default_rng(0)
        sample = prints.take(chance.choice(len(prints), _FEW, replace=False))
        pictures, _ = _small_pictures(sample)
        flat = pictures.reshape(-1, n_values)
        _, vectors = np.linalg.eigh(flat.T @ flat)
        self._vectors = np.ascontiguousarray(vectors[:, ::-1][:, :_N_PATTERNS], np.float32)

    def features(self, prints: Fingerprints, way: int = AS_IT_IS) -> FloatArray:
        """Return the features by which images in some orientation are compared.

        Returns:
            Shape (n_images, n_features); rows have at most length 1, and dot products are cosines.
        """
        found = np.empty((len(prints), self._vectors.shape[1]), np.float32)
        for start in range(0, len(prints), _AT_ONCE):
            block = slice(start, start + _AT_ONCE)
            pictures, _ = _small_pictures(Fingerprints(prints.light[block], prints.colours[block]))
            turned = turn(pictures, way).reshape(len(pictures), -1)
            found[block] = turned @ self._vectors
        return found


def contrasts(prints: Fingerprints) -> FloatArray:
    """Return the variation of each image over its area, in grey levels.

    Returns:
        Shape (n_images,); an image of one flat colour has 0.
    """
    found = np.empty(len(prints), np.float32)
    for start in range(0, len(prints), _AT_ONCE):
        block = slice(start, start + _AT_ONCE)
        found[block] = _small_pictures(Fingerprints(prints.light[block], prints.colours[block]))[1]
    return found


def nearest(
    queries: FloatArray, others: FloatArray, n_nearest: int, n_looked_at: int, step: Advance
) -> tuple[Places, Places]:
    """Return pairs of each query with those of the others that are most similar.

    Args:
        queries: Shape (n_queries, n_features).
        others: Shape (n_others, n_features).
        n_nearest: Number to find for each query; fewer if others are too different.
        n_looked_at: Least number of others that each query is compared with, approximately.
        step: Called with the number of queries done.

    Returns:
        The indices of the queries and of the others, both of shape (n_pairs,).
    """
    rows = np.argsort(queries[:, 0], kind="stable")
    columns = np.argsort(others[:, 0], kind="stable")
    others = others[columns]
    blocks = [rows[start : start + _ROWS] for start in range(0, len(rows), _ROWS)]
    search = partial(_search, queries, others, n_nearest, n_looked_at)
    found = [(np.empty(0, np.intp), np.empty(0, np.intp))]
    for block, (places, cosines) in zip(
        blocks, map_ordered(search, blocks, usable_cores()), strict=True
    ):
        near = cosines >= MIN_COSINE
        found.append((np.repeat(block, near.sum(axis=1)), columns[places[near]]))
        step(len(block))
    return np.concatenate([pair[0] for pair in found]), np.concatenate([pair[1] for pair in found])


def _search(
    queries: FloatArray,
    others: FloatArray,
    n_nearest: int,
    n_looked_at: int,
    block: Places,
) -> tuple[Places, FloatArray]:
    """Return the indices of the nearest, and their cosines, both (n_rows, n_nearest)."""
    rows = queries[block]
    places = np.zeros((len(rows), n_nearest), np.intp)
    cosines = np.full((len(rows), n_nearest), _NONE, np.float32)
    # From that many before the first row to that many after the last one.
    ends = np.searchsorted(others[:, 0], rows[[0, -1], 0])
    half = len(others) if n_looked_at >= len(others) else n_looked_at // 2
    first, last = max(0, int(ends[0]) - half), min(len(others), int(ends[1]) + half + 1)
    for start in range(first, last, _COLUMNS):
        found = _largest(rows @ others[start : min(start + _COLUMNS, last)].T, n_nearest)
        cosines = np.concatenate([cosines, found[1]], axis=1)
        places = np.concatenate([places, found[0] + start], axis=1)
        best = np.argpartition(-cosines, n_nearest - 1, axis=1)[:, :n_nearest]
        cosines = np.take_along_axis(cosines, best, axis=1)
        places = np.take_along_axis(places, best, axis=1)
    return places, cosines


def _largest(table: FloatArray, n_largest: int) -> tuple[Places, FloatArray]:
    """Return the columns of the largest numbers of each row, unordered, and the numbers.

    The largest are in the bunches of columns with the largest maxima, so that few numbers are read
    more than once.
    """
    n_rows, n_columns = table.shape
    n_bunches = -(-n_columns // _BUNCH)
    if missing := n_bunches * _BUNCH - n_columns:
        table = np.concatenate([table, np.full((n_rows, missing), _NONE, np.float32)], axis=1)
    # Column i is in bunch i % n_bunches.
    table = table.reshape(n_rows, _BUNCH, n_bunches)
    n_kept = min(n_largest, n_bunches)
    kept = np.argpartition(-table.max(axis=1), n_kept - 1, axis=1)[:, :n_kept]
    numbers = np.take_along_axis(table, kept[:, None, :], axis=2).reshape(n_rows, -1)
    columns = (np.arange(_BUNCH)[:, None] * n_bunches + kept[:, None, :]).reshape(n_rows, -1)
    best = np.argpartition(-numbers, min(n_largest, numbers.shape[1]) - 1, axis=1)[:, :n_largest]
    return np.take_along_axis(columns, best, axis=1), np.take_along_axis(numbers, best, axis=1)


def _small_pictures(prints: Fingerprints) -> tuple[FloatArray, FloatArray]:
    """Return 8 x 8 pictures of length 1 without their mean brightness, and their contrasts.

    Returns:
        Shape (n_images, 3, 8, 8), and shape (n_images,).
    """
    n_images, side, _ = prints.light.shape
    step = side // COLOUR_SIDE
    pictures = np.empty((n_images, 3, COLOUR_SIDE, COLOUR_SIDE), np.float32)
    bricks = prints.light.reshape(n_images, COLOUR_SIDE, step, COLOUR_SIDE, step)
    pictures[:, 0] = bricks.mean(axis=(2, 4), dtype=np.float32)
    pictures[:, 0] -= pictures[:, 0].mean(axis=(1, 2), keepdims=True)
    pictures[:, 1:] = prints.colours
    varying = pictures - pictures.mean(axis=(2, 3), keepdims=True)
    contrast = np.sqrt(np.einsum("nchw,nchw->n", varying, varying) / COLOUR_SIDE**2)
    length = np.sqrt(np.einsum("nchw,nchw->n", pictures, pictures))
    pictures /= np.maximum(length, _FAINT * COLOUR_SIDE)[:, None, None, None]
    return pictures, contrast
