"""Test-time augmentation: predictions averaged over views of an image."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from convscope.classifier.spec import Views
from convscope.images.orientation import turn
from convscope.types import FloatArray, UInt8Array

DOUBT = 0.2
"""Shifted views are used for an image if its two likeliest classes are closer than this; where each
class is decided for itself, if a class is as close to its opposite."""


class Network(Protocol):
    """Any object that returns probabilities of images, such as a Keras model."""

    def predict_on_batch(self, images: Any, /) -> Any:
        """Return the probabilities, shape (batch, n_classes)."""


class MeanOverViews:
    """A network whose prediction is the mean over views of an image.

    Shifted views have half of the weight, as in Jordan, "94% on CIFAR-10 in 3.29 Seconds on a
    Single GPU", 2024, but they are used only for images that the others leave in doubt.

    Args:
        network: Network from pixels to probabilities.
        settings: Views to average over.
        multi_label: Whether each class is decided for itself.
    """

    def __init__(self, network: Network, settings: Views, *, multi_label: bool = False) -> None:
        self._network = network
        self._settings = settings
        self._multi_label = multi_label

    def predict_on_batch(self, images: UInt8Array, /) -> FloatArray:
        """Return probabilities of shape (batch, n_classes).

        Args:
            images: Shape (batch, height, width, channels).
        """
        probs = self._all_ways(images)
        reach = reach_of(self._settings, images.shape[1:3])
        if not any(reach):
            return probs
        if self._multi_label:
            doubtful = np.flatnonzero(np.abs(2 * probs - 1).min(axis=1) < DOUBT)
        else:
            second, first = np.sort(probs, axis=1)[:, -2:].T
            doubtful = np.flatnonzero(first - second < DOUBT)
        if len(doubtful):
            # Some backends compile again for each batch size: few sizes are used, with padding.
            padded = np.resize(doubtful, 1 << (len(doubtful) - 1).bit_length())
            frames = (shifted(images[padded], *(sign * n for n in reach)) for sign in (-1, 1))
            there, back = (self._all_ways(frame)[: len(doubtful)] for frame in frames)
            probs[doubtful] = probs[doubtful] / 2 + (there + back) / 4
        return probs

    def _all_ways(self, images: UInt8Array) -> FloatArray:
        views = (turn(images, way, (1, 2)) for way in self._settings.orientations)
        answers = [
            np.asarray(self._network.predict_on_batch(np.ascontiguousarray(view)), np.float32)
            for view in views
        ]
        mean: FloatArray = np.mean(answers, axis=0)
        return mean


def reach_of(views: Views, size: Sequence[int]) -> list[int]:
    """Return by how many rows and columns shifted versions of images of a size are moved."""
    return [round(views.shift * side) for side in size]


def shifted(images: UInt8Array, rows: int, columns: int) -> UInt8Array:
    """Return images of shape (batch, height, width, channels) moved; mirrored at the edges."""
    for axis, by in ((1, rows), (2, columns)):
        images = np.take(images, moved_indices(images.shape[axis], by), axis=axis)
    return images


def moved_indices(side: int, by: int) -> npt.NDArray[np.intp]:
    """Return the source of each pixel of a line that is moved; mirrored at its ends.

    Args:
        side: Number of pixels of the line.
        by: Number of pixels to move by, in either direction.
    """
    source = np.arange(side) + by
    source = np.where(source < 0, -1 - source, source)
    return np.where(source >= side, 2 * side - 1 - source, source)
