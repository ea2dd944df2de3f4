"""One pass over batches, for training or for evaluation.

In place of Keras' `fit` and `evaluate`, which set up a pipeline of their own for each pass and take
every batch through it, which is 3 % of an epoch of the tutorial's CNN and a third of one over a few
hundred small images.
"""

from collections import deque
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


Step = Callable[[Any, Any, int], tuple[Any, Any]]
"""Takes inputs, labels and the number of images of a batch; returns its loss and accuracy: numbers,
or what `float` waits for."""


class Steps(Protocol):
    """The steps of a compiled model that has accuracy as its only metric.

    Once the model is compiled again, it needs new ones.

    Attributes:
        model: The model.
        n_ahead: Number of steps that may be waiting when the next one is handed over.
    """

    model: keras.Model
    n_ahead: int

    def placed(self, batches: Batches) -> Batches:
        """Return the same batches, from where these steps read them quickest."""

    def training(self) -> AbstractContextManager[Step]:
        """Return a step that trains; the model has the new weights when the body has ended."""

    def evaluating(self) -> AbstractContextManager[Step]:
        """Return a step that only evaluates."""


def steps_on_one_device(model: keras.Model) -> Steps:
    """Return the steps of a model on the device where it is.

    Args:
        model: Compiled model that has accuracy as its only metric; see `objective.build_state`.
    """
    backend = keras.config.backend()
    if backend == "tensorflow":
        return OnTensorFlow(model)
    if backend == "jax":
        from convscope.training.on_jax import OneDevice

        return OneDevice(model)
    return ByKeras(model)


class StepByStep:
    """Steps that end before they return, on batches from the memory of the host."""

    n_ahead = 0

    def placed(self, batches: Batches) -> Batches:
        """Return the batches as they are."""
        return batches


class OnTensorFlow(StepByStep):
    """Steps of Keras, each with all that belongs to it in one compiled call.

    Keras' `train_on_batch` makes several and takes 0.8 to 1.3 ms more, 4 % of the time of the
    tutorial's CNN in float32 and 7 % in bfloat16 (two AMD cores with AVX512-BF16).

    Args:
        model: See `Steps`.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self._train = _in_one_call(model, model.train_step)
        self._evaluate = _in_one_call(model, model.test_step)

    def training(self) -> AbstractContextManager[Step]:
        """Return a step that trains."""
        return nullcontext(self._train)

    def evaluating(self) -> AbstractContextManager[Step]:
        """Return a step that only evaluates."""
        return nullcontext(self._evaluate)


def _in_one_call(model: keras.Model, step: Callable[[Any], dict[str, Any]]) -> Step:
    import tensorflow as tf

    @tf.function(reduce_retracing=True, autograph=False, jit_compile=model.jit_compile)  # type: ignore[untyped-decorator, unused-ignore]
    def of_batch(inputs: Any, labels: Any) -> Any:
        for metric in model.metrics:
            metric.reset_state()
        logs = step((inputs, labels))
        return tf.stack([logs["loss"], logs["accuracy"]])

    def take(inputs: Any, labels: Any, n_images: int) -> tuple[float, float]:
        del n_images
        loss, accuracy = of_batch(inputs, labels).numpy().tolist()
        return loss, accuracy

    return take


class ByKeras(StepByStep):
    """Steps by Keras' `train_on_batch` and `test_on_batch`, on any backend.

    Args:
        model: See `Steps`.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model

    def training(self) -> AbstractContextManager[Step]:
        """Return a step that trains."""
        return nullcontext(partial(self._take, self.model.train_on_batch))

    def evaluating(self) -> AbstractContextManager[Step]:
        """Return a step that only evaluates."""
        return nullcontext(partial(self._take, self.model.test_on_batch))

    def _take(
        self, on_batch: Callable[..., dict[str, Any]], inputs: Any, labels: Any, n_images: int
    ) -> tuple[float, float]:
        del n_images
        # Until 3.15 Keras' metrics run on from batch to batch, even from training into validation.
        self.model.reset_metrics()
        logs = on_batch(inputs, labels, return_dict=True)
        return float(logs["loss"]), float(logs["accuracy"])


def train_epoch(steps: Steps, batches: Batches, on_batch: OnBatch | None = None) -> EpochMetrics:
    """Train a model once on each batch.

    Args:
        steps: Steps of the model.
        batches: Batches of the epoch.
        on_batch: Called after each batch.
    """
    with steps.training() as step:
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
