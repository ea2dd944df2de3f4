"""What a network is trained for: the loss, and what of an epoch is best."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from convscope.recipe import RunConfig


def metrics_of(config: RunConfig) -> list[Any]:
    """Return the metrics of Keras for `compile`, of which there is one called "accuracy".

    The share of images that get their class; where an image may have any number of classes, the
    share of right decisions among all images and classes, each class above a probability of 0.5.
    """
    if config.multi_label:
        return [keras.metrics.MeanMetricWrapper(_right_decisions, name="accuracy")]
    return ["accuracy"]


def _right_decisions(labels: Any, probs: Any) -> Any:
    # Keras' own metric takes a softened label for neither yes nor no.
    same = keras.ops.equal(keras.ops.greater(labels, 0.5), keras.ops.greater(probs, 0.5))
    return keras.ops.mean(keras.ops.cast(same, "float32"), axis=-1)


def loss_of(config: RunConfig, *, soft: bool) -> str:
    """Return the loss: mean cross-entropy, over the classes too where each is decided for itself.

    Args:
        config: Settings of the run.
        soft: Whether labels come as shares of the classes.
    """
    if config.multi_label:
        return "binary_crossentropy"
    return "categorical_crossentropy" if soft else config.loss


def build_state(model: keras.Model, n_classes: int, *, flags: bool) -> None:
    """Create the variables of a compiled model's optimiser and metrics.

    TensorFlow traces a step a second time if the first created variables, which takes 0.3 s; on JAX
    a step cannot create any.

    Args:
        model: Compiled model.
        n_classes: Number of classes.
        flags: Whether labels come as numbers for each class.
    """
    model.optimizer.build(model.trainable_variables)
    labels = np.zeros((1, n_classes) if flags else 1)
    model.compute_metrics(None, labels, np.zeros((1, n_classes)))
    model.reset_metrics()


def merit(row: Mapping[str, Any], config: RunConfig) -> float:
    """Return by what epochs are compared, the higher the better.

    Validation accuracy; with any number of classes the loss, since a network that answers nothing
    decides rightly on most classes.

    Args:
        row: Row of `results.csv`.
        config: Settings of the run.
    """
    return -float(row["val_loss"]) if config.multi_label else float(row["val_accuracy"])
