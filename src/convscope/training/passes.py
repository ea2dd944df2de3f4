"""One pass over batches: to learn from them, or to be judged by them.

In place of Keras' `fit` and `evaluate`, which set up a pipeline of their own for each pass and take
every batch through it: of the tutorial's CNN that is 3 % of an epoch, of a few hundred small images
a third.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import keras
import numpy as np

from convscope.training.batches import Batches


class Marks(NamedTuple):
    """Means over the images of a pass.

    Attributes:
        loss: Of a pass of learning, each batch's from before its step.
        accuracy: In [0, 1].
    """

    loss: float
    accuracy: float


Told = Callable[[int, float, Marks], None]
"""Called after each batch as `told(images in it, its loss, marks of the pass so far)`."""


def learn(model: keras.Model, batches: Batches, told: Told | None = None) -> Marks:
    """Let a compiled model, with accuracy as its one metric, learn once from each batch."""
    return _pass(model, model.train_on_batch, batches, told)


def judge(model: keras.Model, batches: Batches) -> Marks:
    """Judge a compiled model, with accuracy as its one metric, by all batches."""
    return _pass(model, model.test_on_batch, batches, None)


def _pass(
    model: keras.Model, step: Callable[..., dict[str, Any]], batches: Batches, told: Told | None
) -> Marks:
    n_images, sums = 0, np.zeros(2)
    for inputs, labels in _ahead(batches):
        # Until 3.15 Keras' metrics run on from batch to batch, even from training into validation.
        model.reset_metrics()
        logs = step(inputs, labels, return_dict=True)
        of_batch = float(logs["loss"]), float(logs["accuracy"])
        n_images += len(labels)
        sums += np.multiply(of_batch, len(labels))
        if told is not None:
            told(len(labels), of_batch[0], Marks(*(sums / n_images).tolist()))
    return Marks(*(sums / n_images).tolist())


def _ahead(batches: Batches) -> Iterator[tuple[Any, Any]]:
    """Yield the batches in turn, each made while the one before it is in use."""
    with ThreadPoolExecutor(1) as other:
        coming = other.submit(batches.__getitem__, 0)
        for following in range(1, len(batches) + 1):
            batch = coming.result()
            if following < len(batches):
                coming = other.submit(batches.__getitem__, following)
            yield batch
