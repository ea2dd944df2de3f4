"""Weights of classes in the loss, for classes of unequal size."""

from typing import Literal

import numpy as np

from convscope.recipe import RunConfig
from convscope.types import FloatArray, Labels

Weighting = Literal["none", "sqrt", "balanced"]


def class_weights(weighting: Weighting, labels: Labels, n_classes: int) -> FloatArray | None:
    """Return a weight for each class, with mean 1 over the images.

    Args:
        weighting: "balanced" for weights inverse to the number of images of a class, as
            scikit-learn's; "sqrt" for those inverse to its square root; "none".
        labels: Shape (n_images,), class indices in [0, n_classes); any other labels for "none".
        n_classes: Number of classes.

    Returns:
        Shape (n_classes,), float32, or None for "none"; a class without an image has the weight 0.
    """
    if weighting == "none":
        return None
    counts = np.bincount(labels, minlength=n_classes).astype(np.float64)
    power = 1.0 if weighting == "balanced" else 0.5
    weights = np.where(counts > 0, 1 / np.maximum(counts, 1) ** power, 0)
    return (weights * len(labels) / (weights @ counts)).astype(np.float32)


def weighting_of_logistic(config: RunConfig) -> Weighting:
    """Return the weighting of a head at the optimum of logistic regression.

    Showing each class equally often has no other meaning there.
    """
    return "balanced" if config.balance else config.class_weights
