"""One pass over batches, for training or for evaluation.

In place of Keras' `fit` and `evaluate`, which set up a pipeline of their own for each pass and take
every batch through it, which is 3 % of an epoch of the tutorial's CNN and a third of one over a few
hundred small images.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

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


def train_epoch(
    model: keras.Model, batches: Batches, on_batch: OnBatch | None = None
) -> EpochMetrics:
    """Train a compiled model, with accuracy as its only metric, once on each batch."""
    return _pass(model, model.train_on_batch, batches, on_batch)


def evaluate_epoch(model: keras.Model, batches: Batches) -> EpochMetrics:
    """Evaluate a compiled model, with accuracy as its only metric, on all batches."""
    return _pass(model, model.test_on_batch, batches, None)


def _pass(
    model: keras.Model,
    step: Callable[..., dict[str, Any]],
    batches: Batches,
    on_batch: OnBatch | None,
) -> EpochMetrics:
    n_images, sums = 0, np.zeros(2)
    for inputs, labels in _ahead(batches):
        # Until 3.15 Keras' metrics run on from batch to batch, even from training into validation.
        model.reset_metrics()
        logs = step(inputs, labels, return_dict=True)
        of_batch = float(logs["loss"]), float(logs["accuracy"])
        n_images += len(labels)
        sums += np.multiply(of_batch, len(labels))
        if on_batch is not None:
            on_batch(len(labels), of_batch[0], EpochMetrics(*(sums / n_images).tolist()))
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
