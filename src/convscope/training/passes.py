"""One pass over batches, for training or for evaluation.

In place of Keras' `fit` and `evaluate`, which set up a pipeline of their own for each pass and take
every batch through it, which is 3 % of an epoch of the tutorial's CNN and a third of one over a few
hundred small images.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import keras
import numpy as np

from convscope.models.preprocessing import Size
from convscope.training.batches import Batches
from convscope.training.on_jax import OneDevice
from convscope.training.steps import ByKeras, OnTensorFlow, Step, Steps


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


def steps_on_one_device(model: keras.Model) -> Steps:
    """Return the steps of a model on the device where it is.

    Args:
        model: Compiled model that has accuracy as its only metric; see `objective.build_state`.
    """
    backend = keras.config.backend()
    if backend == "tensorflow":
        return OnTensorFlow(model)
    if backend == "jax":
        return OneDevice(model)
    return ByKeras(model)


def train_epoch(
    steps: Steps, batches: Batches, on_batch: OnBatch | None = None, size: Size | None = None
) -> EpochMetrics:
    """Train a model once on each batch.

    Args:
        steps: Steps of the model.
        batches: Batches of the epoch.
        on_batch: Called after each batch.
        size: Size that the network works at; None: its own.
    """
    with steps.training(size) as step:
        return _pass(steps, step, batches, on_batch)


def evaluate_epoch(steps: Steps, batches: Batches) -> EpochMetrics:
    """Evaluate a model on all batches."""
    with steps.evaluating() as step:
        return _pass(steps, step, batches, None)


def _pass(steps: Steps, step: Step, batches: Batches, on_batch: OnBatch | None) -> EpochMetrics:
    n_images, sums = 0, np.zeros(2)
    waiting: deque[tuple[int, tuple[Any, Any]]] = deque()

    def wait_until(n_left: int) -> None:
        nonlocal n_images, sums
        while len(waiting) > n_left:
            size, of_batch = waiting.popleft()
            loss, accuracy = (float(value) for value in of_batch)
            n_images += size
            sums += np.multiply((loss, accuracy), size)
            if on_batch is not None:
                on_batch(size, loss, EpochMetrics(*(sums / n_images).tolist()))

    for index, (inputs, labels) in enumerate(_ahead(steps.placed(batches))):
        size = batches.size(index)
        waiting.append((size, step(inputs, labels, size)))
        wait_until(steps.n_ahead)
    wait_until(0)
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
