"""The head of a classifier on a backbone, and the statistics of the features that it sees."""

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from convscope.recipe import HeadSettings
from convscope.storage import scratch_array
from convscope.types import FloatArray

if TYPE_CHECKING:
    import keras

_STANDARDISE = "standardise"

_ROWS = 4096
"""Images that are read at once: features may be memory-mapped and larger than memory."""

_SMALLEST_SHARE = 1e-4
"""Share of the mean variance: features that hardly vary are not blown up into noise."""


def build_head(
    shape: tuple[int, ...],
    settings: HeadSettings,
    n_classes: int,
    statistics: tuple[FloatArray, FloatArray],
    activation: str = "softmax",
) -> "keras.Model":
    """Return a standalone head, from pooled features to probabilities.

    Args:
        shape: Shape of the features of one image.
        settings: Settings of the head.
        n_classes: Number of classes, at least 2.
        statistics: Mean and variance of the features, from `feature_statistics`.
        activation: "softmax" or "sigmoid", as in `TransferModel`.
    """
    layers = head_layers(settings, n_classes, activation)
    head = head_model(shape, layers)
    standardise(layers, *statistics)
    return head


def head_layers(settings: HeadSettings, n_classes: int, activation: str) -> list[Any]:
    """Return the layers of a head, from pooled features to probabilities, in order."""
    from keras import layers

    head: list[Any] = []
    if settings.standardise:
        # Inside the model, so that it is saved with it. As a BatchNorm that is never trained, since
        # its statistics are weights like others.
        head.append(
            layers.BatchNormalization(
                center=False, scale=False, epsilon=1e-12, trainable=False, name=_STANDARDISE
            )
        )
    units = [*settings.hidden, n_classes]
    for index, width in enumerate(units):
        if settings.dropout:
            # With a seed of its own (drawn from the run's), so that its state is a variable of the
            # model on every backend and a resumed run drops what an uninterrupted one would.
            seed = random.randrange(2**31)
            head.append(layers.Dropout(settings.dropout, seed=seed, name=f"dropout{index + 1}"))
        if index < len(settings.hidden):
            head.append(layers.Dense(width, activation="relu", name=f"dense{index + 1}"))
    # Probabilities need float32 even where the rest computes in bfloat16.
    head.append(layers.Dense(n_classes, activation=activation, dtype="float32", name="probs"))
    return head


def head_model(shape: tuple[int, ...], layers: list[Any]) -> "keras.Model":
    """Return the model of a head's layers alone, for features of that shape."""
    import keras

    pooled = keras.Input(shape, name="features")
    return keras.Model(pooled, chain(layers, pooled), name="head")


def standardise(layers: list[Any], mean: FloatArray, variance: FloatArray) -> None:
    """Set the statistics of the features for a head's layers; no effect if they use none."""
    if layers[0].name == _STANDARDISE:
        layers[0].set_weights([mean, variance])


def chain(steps: list[Any], x: Any) -> Any:
    """Return what layers make of a tensor, one after the other."""
    for step in steps:
        x = step(x)
    return x


def feature_statistics(features: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return mean and variance of each feature, for `TransferModel.standardise`.

    Args:
        features: Shape (n_images, n_features), any float type.

    Returns:
        Two arrays of shape (n_features,), float32.
    """
    import numpy as np

    # In double precision, since the variance is a small difference.
    total = np.zeros(features.shape[1])
    squares = np.zeros(features.shape[1])
    for start in range(0, len(features), _ROWS):
        part = np.asarray(features[start : start + _ROWS], dtype=np.float64)
        total += part.sum(axis=0)
        squares += (part**2).sum(axis=0)
    mean = total / len(features)
    variance = np.maximum(squares / len(features) - mean**2, 0)
    variance = np.maximum(variance, _SMALLEST_SHARE * variance.mean() + 1e-12)
    return mean.astype(np.float32), variance.astype(np.float32)


class Block(NamedTuple):
    """Features of one network among those that a head sees.

    Attributes:
        start: First column.
        stop: Column after the last one.
        n_last: Number of features at its end that are of the last map, where others come before.
    """

    start: int
    stop: int
    n_last: int = 0

    @property
    def last(self) -> slice:
        """Columns of the features of the last map."""
        return slice(self.stop - self.n_last, self.stop)


def weighed(
    statistics: tuple[FloatArray, FloatArray], blocks: Sequence[Block], factor: float
) -> tuple[FloatArray, FloatArray]:
    """Return statistics by which features of last maps become that many times as large as others.

    So that they count for more in a head with a penalty, or for less.

    Args:
        statistics: Mean and variance, from `feature_statistics`.
        blocks: Blocks of the features, as in `TransferModel.blocks`.
        factor: Standard deviation of these after standardising, above 0.
    """
    mean, variance = statistics
    variance = variance.copy()
    for block in blocks:
        variance[block.last] /= factor**2
    return mean, variance


def set_statistics(head: "keras.Model", statistics: tuple[FloatArray, FloatArray]) -> None:
    """Set the statistics by which a head with `head.standardise` standardises its features."""
    head.get_layer(_STANDARDISE).set_weights(list(statistics))


def standardised(
    features: FloatArray,
    statistics: tuple[FloatArray, FloatArray],
    out: FloatArray | None = None,
) -> FloatArray:
    """Return features, (n_images, n_features), with mean 0 and standard deviation 1, float32.

    As the layer of a head with `head.standardise` does.

    Args:
        features: Features, any float type; may be memory-mapped.
        statistics: Mean and variance, from `feature_statistics`.
        out: Array for the result; None makes one.
    """
    import numpy as np

    mean, deviation = statistics[0], np.sqrt(statistics[1])
    out = scratch_array(features.shape) if out is None else out
    for start in range(0, len(features), _ROWS):
        part = out[start : start + _ROWS]
        np.subtract(features[start : start + _ROWS], mean, out=part)
        part /= deviation
    return out
