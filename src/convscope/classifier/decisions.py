"""Answers for images that may have any number of classes: each class is decided for itself.

The network gives each class a probability of its own, by a sigmoid. NumPy only.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from convscope.types import BoolArray, FloatArray, Labels, is_multi_label

LEAST_PROB = 1e-6
"""Probability that no answer of a network counts for less than, in losses by which to choose."""

_MOST = float(np.float32(1) - np.finfo(np.float32).epsneg)
"""Largest float32 below 1."""


def logits_of(probs: FloatArray) -> npt.NDArray[np.float64]:
    """Return the logits of probabilities by a sigmoid; finite where those were rounded to 0 or 1.

    Args:
        probs: Any shape, in [0, 1].
    """
    wide = np.clip(probs.astype(np.float64), np.finfo(np.float32).tiny, _MOST)
    return np.asarray(np.log(wide) - np.log1p(-wide))


def sigmoid(logits: npt.NDArray[np.floating]) -> FloatArray:
    """Return the probabilities of logits, float32."""
    # Of the smaller of both exponentials, so that none overflows.
    small = np.exp(-np.abs(logits))
    return np.asarray(np.where(logits >= 0, 1, small) / (1 + small), np.float32)


def image_losses(
    probs: FloatArray, labels: Labels, least: float = float(np.finfo(np.float32).tiny)
) -> npt.NDArray[np.float64]:
    """Return the cross-entropy of each image, in nats, shape (n_images,).

    Where an image may have any number of classes, the mean over the classes of the binary
    cross-entropies.

    A probability that float32 rounded to 0 counts as the smallest positive one, 87 nats. This is
    what Keras computes from logits; from probabilities alone it stops at 1e-7, 16 nats, which hides
    how wrong an over-confident model is.

    Args:
        probs: Shape (n_images, n_classes).
        labels: True classes, see `types.Labels`.
        least: Probability that counts for a smaller one.

    Examples:
        >>> probs = np.array([[0.5, 0.5], [1.0, 0.0]], dtype=np.float32)
        >>> image_losses(probs, np.array([0, 1])).round(4).tolist()
        [0.6931, 87.3365]
    """
    if is_multi_label(labels):
        true = labels.astype(bool)
        right = np.where(true, probs, 1 - probs.astype(np.float64))
        return np.asarray(-np.log(np.clip(right, least, 1)).mean(axis=1))
    right = probs[np.arange(len(labels)), labels].astype(np.float64)
    return np.asarray(-np.log(np.clip(right, least, 1)))


def decided(probs: FloatArray, thresholds: Sequence[float]) -> BoolArray:
    """Return which classes an answer names, shape (n_images, n_classes).

    Args:
        probs: Shape (n_images, n_classes).
        thresholds: Least probability of each class.
    """
    return np.asarray(probs >= np.asarray(thresholds, np.float64))
