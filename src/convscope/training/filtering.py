"""Data filtering: the later epochs train only on the images that are still hard."""

import math
from dataclasses import dataclass

import keras
import numpy as np

from convscope.classifier.decisions import image_losses
from convscope.errors import RunError
from convscope.progress import Progress
from convscope.recipe import FilterSettings
from convscope.training.batches import Examples
from convscope.types import IntArray

_BATCH = 500
"""A forward pass keeps no gradients, so its batches are as large as is fast."""


@dataclass(frozen=True)
class Hardest:
    """The images that are still trained on.

    Attributes:
        since: Index of the first epoch, from 0, that trains on them only.
        places: Indices among the training images, ascending.
    """

    since: int
    places: IntArray

    def as_array(self) -> IntArray:
        """Return both as one array, for a file."""
        return np.concatenate([[self.since], self.places])

    @classmethod
    def from_array(cls, array: IntArray, n_images: int) -> "Hardest":
        """Return the object that `as_array` turned into an array.

        Args:
            array: Array from a file of unknown origin.
            n_images: Number of training images.

        Raises:
            RunError: If it was not made by `as_array` for as many images.
        """
        if array.dtype.kind != "i" or array.ndim != 1 or len(array) < 2:
            raise RunError("the list of images that a run still trains on is damaged; train again")
        places = array[1:]
        if places.min() < 0 or places.max() >= n_images or (np.diff(places) <= 0).any():
            raise RunError(
                "the list of images that a run still trains on is of other images; train again"
            )
        return cls(int(array[0]), places)


def epoch_lengths(
    settings: FilterSettings, epochs: int, hardest: Hardest | None = None
) -> list[float]:
    """Return the share of the training images that each epoch of a run trains on.

    Args:
        settings: Settings of the filter.
        epochs: Number of epochs of the run.
        hardest: The chosen images if the choice was made already: they say since when.
    """
    since = math.ceil(settings.start * epochs) if hardest is None else hardest.since
    return [1.0 if epoch < since else settings.share for epoch in range(epochs)]


def choose_hardest(
    model: keras.Model, train: Examples, share: float, epoch: int, progress: Progress
) -> Hardest:
    """Return the share of the images with the highest loss under the model as it is now.

    Args:
        model: Model from inputs to probabilities.
        train: Training examples.
        share: Share of the images to keep, in (0, 1).
        epoch: Epoch whose versions of the images are evaluated, and the first that trains on these
            only.
        progress: Called with each batch.

    References:
        Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024, whose 96 % network
        trains on the images that a smaller one finds hard.
    """
    inputs, losses = train.inputs(epoch), []
    with progress.task("Choosing the hardest images", len(train), "images") as step:
        for start in range(0, len(train), _BATCH):
            labels = train.labels[start : start + _BATCH]
            batch = np.ascontiguousarray(inputs[start : start + _BATCH])
            probs = np.asarray(model.predict_on_batch(batch), np.float32)
            losses.append(image_losses(probs, labels, 1e-30))
            step(len(labels))
    loss = np.concatenate(losses)
    # Stable sort: ties among equally hard images are always resolved alike.
    order = np.argsort(-loss, kind="stable")
    kept = order[: max(1, round(share * len(train)))]
    progress.say(
        f"From here on only the {len(kept):,} hardest of {len(train):,} training images are used, "
        f"those with a loss of {loss[kept[-1]]:.2f} or more"
    )
    return Hardest(epoch, np.sort(kept))
