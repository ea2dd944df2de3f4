"""Alignment of two pictures: shift, scale and stretch for the best agreement.

A move has four numbers: the logarithm of the scale of the rows and their shift (a share of the
side), and the same for the columns. As rows and columns move independently, moving a picture is
two matrix products, and thousands are moved at once.

References:
    Baker and Matthews, "Lucas-Kanade 20 Years On: A Unifying Framework", IJCV 2004.
"""

import numpy as np

from convscope.types import FloatArray

MAX_LOG_SCALE = 0.4
"""Largest scale between copies."""

MAX_SHIFT = 0.3
"""Largest shift between copies, as a share of a side."""

_MAX_LOG_STEP = 0.15
_MAX_SHIFT_STEP = 0.05


def move(pictures: FloatArray, moves: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return moved pictures, and the mask of their visible pixels.

    Args:
        pictures: Shape (n_pictures, side, side) or (n_pictures, n_channels, side, side).
        moves: Shape (n_pictures, 4).

    Returns:
        Pictures of the same shape, continued by their edges; and a mask, 1 within the edges and 0
        beyond, shape (n_pictures, side, side).
    """
    side = pictures.shape[-1]
    rows, within_rows = _samples(moves[:, 0], moves[:, 1], side)
    columns, within_columns = _samples(moves[:, 2], moves[:, 3], side)
    if pictures.ndim == 4:
        rows, columns = rows[:, None], columns[:, None]
    moved: FloatArray = np.matmul(rows @ pictures, np.swapaxes(columns, -1, -2))
    return moved, within_rows[:, :, None] * within_columns[:, None, :]


def align(
    fixed: FloatArray, moving: FloatArray, moves: FloatArray, n_steps: int, damping: float = 1e-3
) -> FloatArray:
    """Return moves that bring pictures closer to others, whatever the contrast of either.

    Args:
        fixed: Shape (n_pairs, side, side).
        moving: The same shape.
        moves: Initial moves, shape (n_pairs, 4).
        n_steps: Number of Gauss-Newton steps.
        damping: Damping of each step, above 0.

    Returns:
        Shape (n_pairs, 4).
    """
    n_pairs, side, _ = fixed.shape
    across = (np.arange(side, dtype=np.float32) - (side - 1) / 2) / side
    slopes = np.empty((n_pairs, 5, side, side), np.float32)
    for _ in range(n_steps):
        moved, within = move(moving, moves)
        n_within = within.sum(axis=(1, 2), keepdims=True) + 1e-6
        slopes[:, 1, [0, -1]] = 0
        slopes[:, 1, 1:-1] = (moved[:, 2:] - moved[:, :-2]) * (side / 2)
        slopes[:, 3, :, [0, -1]] = 0
        slopes[:, 3, :, 1:-1] = (moved[:, :, 2:] - moved[:, :, :-2]) * (side / 2)
        np.multiply(slopes[:, 1], across[:, None], out=slopes[:, 0])
        np.multiply(slopes[:, 3], across, out=slopes[:, 2])
        slopes[:, 1] *= np.exp(-moves[:, 0])[:, None, None]
        slopes[:, 3] *= np.exp(-moves[:, 2])[:, None, None]
        slopes[:, 4] = moved
        # Only pixels visible in both count, and not their brightness.
        slopes *= within[:, None]
        slopes -= slopes.sum(axis=(2, 3), keepdims=True) / n_within[:, None]
        slopes *= within[:, None]
        target = fixed * within
        target -= target.sum(axis=(1, 2), keepdims=True) / n_within
        target *= within
        shown = slopes[:, 4]
        gain = _dots(target, shown) / (_dots(shown, shown) + 1e-3)
        slopes[:, :4] *= gain[:, None, None, None]
        missing = (target - gain[:, None, None] * shown).reshape(n_pairs, -1, 1)
        flat = slopes.reshape(n_pairs, 5, -1)
        normal = flat @ flat.transpose(0, 2, 1)  # (n_pairs, 5, 5)
        diagonal = np.arange(5)
        normal[:, diagonal, diagonal] *= 1 + damping
        normal[:, diagonal, diagonal] += 1e-2
        step = np.linalg.solve(normal, flat @ missing)[:, :4, 0].astype(np.float32)
        limits = np.array([_MAX_LOG_STEP, _MAX_SHIFT_STEP] * 2, np.float32)
        bounds = np.array([MAX_LOG_SCALE, MAX_SHIFT] * 2, np.float32)
        moves = (moves + step.clip(-limits, limits)).clip(-bounds, bounds)
    return moves


def halve(pictures: FloatArray) -> FloatArray:
    """Return pictures of half the side: the means of two by two pixels."""
    n_pictures, side, _ = pictures.shape
    halves: FloatArray = pictures.reshape(n_pictures, side // 2, 2, side // 2, 2).mean(axis=(2, 4))
    return halves


def correlate(
    first: FloatArray, second: FloatArray, within: FloatArray, noise: float = 0.0
) -> FloatArray:
    """Return the correlation of pictures over the pixels visible in both.

    Args:
        first: Shape (n_pairs, side, side).
        second: The same shape.
        within: 1 for pixels that count, 0 for others; the same shape.
        noise: Level of noise in grey levels: fainter pictures do not correlate.

    Returns:
        Shape (n_pairs,), in [-1, 1].
    """
    n_within = within.sum(axis=(1, 2)) + 1e-6
    first, second = first * within, second * within
    first -= (first.sum(axis=(1, 2)) / n_within)[:, None, None] * within
    second -= (second.sum(axis=(1, 2)) / n_within)[:, None, None] * within
    floor = n_within * noise**2 + 1e-3
    power = (_dots(first, first) + floor) * (_dots(second, second) + floor)
    correlation: FloatArray = _dots(first, second) / np.sqrt(power)
    return correlation


def _samples(
    log_scales: FloatArray, shifts: FloatArray, side: int
) -> tuple[FloatArray, FloatArray]:
    """Return the matrices that resample one side, and the mask of samples within it."""
    middle = (side - 1) / 2
    steps = np.arange(side, dtype=np.float32) - middle
    places = np.exp(log_scales)[:, None] * steps + (shifts * side)[:, None] + middle
    within = ((places >= -0.5) & (places <= side - 0.5)).astype(np.float32)
    places = places.clip(0, side - 1)[:, :, None]
    weights = np.maximum(0, 1 - np.abs(places - np.arange(side, dtype=np.float32)))
    return weights, within


def _dots(first: FloatArray, second: FloatArray) -> FloatArray:
    dots: FloatArray = np.einsum("nij,nij->n", first, second)
    return dots
