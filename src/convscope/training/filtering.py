"""Data filtering: in the later epochs only the images that are still hard are learnt from."""

import math
from dataclasses import dataclass

import keras
import numpy as np

from convscope.errors import RunError
from convscope.progress import Progress
from convscope.recipe import FilterSettings
from convscope.training.batches import Examples
from convscope.types import IntArray

_BATCH = 500
"""No weight learns from a forward pass, so its batches are as large as is fast."""


@dataclass(frozen=True)
class Hardest:
    """The images that are still learnt from.

    Attributes:
        since: The first epoch, counted from 0, that learns from them only.
        places: Among the training images, ascending.
    """

    since: int
    places: IntArray

    def as_array(self) -> IntArray:
        """Return both as one array, for a file."""
        return np.concatenate([[self.since], self.places])

    @classmethod
    def from_array(cls, array: IntArray, n_images: int) -> "Hardest":
        """Return what `as_array` made an array of.

        Args:
            array: It may come from a file of unknown origin.
            n_images: Training images.

        Raises:
            RunError: If it was made of something else.
        """
        if array.dtype.kind != "i" or array.ndim != 1 or len(array) < 2:
            raise RunError("what a run should still learn from is damaged; train again")
        places = array[1:]
        if places.min() < 0 or places.max() >= n_images or (np.diff(places) <= 0).any():
            raise RunError("what a run should still learn from is of other images; train again")
        return cls(int(array[0]), places)


def epoch_lengths(
    settings: FilterSettings, epochs: int, hardest: Hardest | None = None
) -> list[float]:
    """Return the share of the training images that each epoch of a run learns from.

    Args:
        settings: Of the filter.
        epochs: Of the run.
        hardest: If they are chosen already: then it is settled since when.
    """
    since = math.ceil(settings.start * epochs) if hardest is None else hardest.since
    return [1.0 if epoch < since else settings.share for epoch in range(epochs)]


def choose_hardest(
    model: keras.Model, train: Examples, share: float, epoch: int, progress: Progress
) -> Hardest:
    """Return the share of the images that a model gets the highest loss on, as it is now.

    Args:
        model: From inputs to probabilities.
        train: What it learns from.
        share: In (0, 1).
        epoch: Whose versions of the images are judged, and the first that learns from these only.
        progress: Told of each batch.

    References:
        Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024, whose network for 96 %
        learns from the images that a smaller one finds hard.
    """
    inputs, losses = train.inputs(epoch), []
    with progress.task("Choosing the hardest images", len(train), "images") as step:
        for start in range(0, len(train), _BATCH):
            labels = train.labels[start : start + _BATCH]
            batch = np.ascontiguousarray(inputs[start : start + _BATCH])
            probs = np.asarray(model.predict_on_batch(batch), np.float32)
            losses.append(-np.log(np.maximum(probs[np.arange(len(probs)), labels], 1e-30)))
            step(len(labels))
    loss = np.concatenate(losses)
    # Stable: of equally hard images it is always the same ones.
    order = np.argsort(-loss, kind="stable")
    kept = order[: max(1, round(share * len(train)))]
    progress.say(
        f"From here on it learns from the {len(kept):,} hardest of {len(train):,} training images, "
        f"of loss {loss[kept[-1]]:.2f} and more"
    )
    return Hardest(epoch, np.sort(kept))
