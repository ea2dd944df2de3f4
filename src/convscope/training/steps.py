"""The steps of a compiled model: training or evaluation on one batch."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, Protocol

import keras

from convscope.models.preprocessing import Size, working_at
from convscope.training.batches import Batches

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

    def training(self, size: Size | None = None) -> AbstractContextManager[Step]:
        """Return a step that trains; the model has the new weights when the body has ended.

        Args:
            size: Size that the network works at; None: its own.
        """

    def evaluating(self) -> AbstractContextManager[Step]:
        """Return a step that only evaluates."""


class StepByStep:
    """Steps that end before they return, on batches from the memory of the host."""

    n_ahead = 0

    def placed(self, batches: Batches) -> Batches:
        """Return the batches as they are."""
        return batches


class BySize(dict[Size | None, Any]):
    """What is compiled for each size that a network works at, when it is needed.

    Args:
        compile_step: Function that returns a new step.
    """

    def __init__(self, compile_step: Callable[[], Any]) -> None:
        super().__init__()
        self._compile_step = compile_step

    def __missing__(self, size: Size | None) -> Any:
        """Return a new step, and keep it."""
        self[size] = step = self._compile_step()
        return step


class OnTensorFlow(StepByStep):
    """Steps of Keras, each with all that belongs to it in one compiled call.

    Keras' `train_on_batch` makes several and takes 0.8 to 1.3 ms more, 4 % of the time of the
    tutorial's CNN in float32 and 7 % in bfloat16 (two AMD cores with AVX512-BF16).

    Args:
        model: See `Steps`.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self._train = BySize(lambda: _in_one_call(model, model.train_step))
        self._evaluate = _in_one_call(model, model.test_step)

    @contextmanager
    def training(self, size: Size | None = None) -> Iterator[Step]:
        """Return a step that trains."""
        with working_at(self.model, size):
            yield self._train[size]

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

    @contextmanager
    def training(self, size: Size | None = None) -> Iterator[Step]:
        """Return a step that trains."""
        with working_at(self.model, size):
            yield partial(self._take, self.model.train_on_batch)

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
