"""One pass over batches, for training or for evaluation.

In place of Keras' `fit` and `evaluate`, which set up a pipeline of their own for each pass and take
every batch through it, which is 3 % of an epoch of the tutorial's CNN and a third of one over a few
hundred small images.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple, Protocol

import keras
import numpy as np

from convscope.training.batches import Batches


class EpochMetrics(NamedTuple):
    """Means over the images of a pass.

    Attributes:
        loss: Mean cross-entropy in nats; in training that of each batch before its step.
        accuracy: Fraction of correct answers, in [0, 1].
    """

    loss: float
    accuracy: float


OnBatch = Callable[[int, float, EpochMetrics], None]
"""Called after each batch as `on_batch(n_images, loss, metrics of the pass so far)`."""


Step = Callable[[Any, Any, int], tuple[float, float]]
"""Takes inputs, labels and the number of images of a batch; returns its loss and accuracy."""


class Steps(Protocol):
    """The steps of a compiled model that has accuracy as its only metric."""

    def training(self) -> AbstractContextManager[Step]:
        """Return a step that trains; the model has the new weights when the body has ended."""

    def evaluating(self) -> AbstractContextManager[Step]:
        """Return a step that only evaluates."""


class OneDevice:
    """Keras' own steps, on the device where the model is."""

    def __init__(self, model: keras.Model) -> None:
        self._model = model

    def training(self) -> AbstractContextManager[Step]:
        """Return a step that trains."""
        return nullcontext(partial(self._take, self._model.train_on_batch))

    def evaluating(self) -> AbstractContextManager[Step]:
        """Return a step that only evaluates."""
        return nullcontext(partial(self._take, self._model.test_on_batch))

    def _take(
        self, on_batch: Callable[..., dict[str, Any]], inputs: Any, labels: Any, n_images: int
    ) -> tuple[float, float]:
        del n_images
        # Until 3.15 Keras' metrics run on from batch to batch, even from training into validation.
        self._model.reset_metrics()
        logs = on_batch(inputs, labels, return_dict=True)
        return float(logs["loss"]), float(logs["accuracy"])


def train_epoch(
    model: keras.Model,
    batches: Batches,
    on_batch: OnBatch | None = None,
    steps: Steps | None = None,
) -> EpochMetrics:
    """Train a compiled model, with accuracy as its only metric, once on each batch.

    Args:
        model: Model to train.
        batches: Batches of the epoch.
        on_batch: Called after each batch.
        steps: Steps of the model on several devices; None takes them on one.
    """
    with (steps or OneDevice(model)).training() as step:
        return _pass(step, batches, on_batch)


def evaluate_epoch(
    model: keras.Model, batches: Batches, steps: Steps | None = None
) -> EpochMetrics:
    """Evaluate a compiled model, with accuracy as its only metric, on all batches."""
    with (steps or OneDevice(model)).evaluating() as step:
        return _pass(step, batches, None)


def _pass(step: Step, batches: Batches, on_batch: OnBatch | None) -> EpochMetrics:
    n_images, sums = 0, np.zeros(2)
    for index, (inputs, labels) in enumerate(_ahead(batches)):
        size = batches.size(index)
        of_batch = step(inputs, labels, size)
        n_images += size
        sums += np.multiply(of_batch, size)
        if on_batch is not None:
            on_batch(size, of_batch[0], EpochMetrics(*(sums / n_images).tolist()))
    return EpochMetrics(*(sums / n_images).tolist())


def _ahead(batches: Batches) -> Iterator[tuple[Any, Any]]:
    """Yield the batches in turn, each prepared while the previous one is in use."""
    with ThreadPoolExecutor(1) as other:
        coming = other.submit(batches.__getitem__, 0)
        for following in range(1, len(batches) + 1):
            batch = coming.result()
            if following < len(batches):
                coming = other.submit(batches.__getitem__, following)
            yield batch
