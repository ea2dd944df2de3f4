"""What a network reaches that has learnt nothing but the shares of the classes."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from convscope.diagnosis.case import Case
from convscope.evaluation.multi_label import mean_average_precision
from convscope.types import Predictions

_POWERS = {"none": 1.0, "sqrt": 0.5, "balanced": 0.0}
"""Power of a class's share that remains of it in the loss, by `class_weights`."""

SURE = 1.645
"""Standard errors beyond guessing that show it, in a one-sided test at 5 %."""
_LITTLE = 0.05
_ORDERS = 20
"""Random orders that show what ranking by chance reaches."""


@dataclass(frozen=True)
class Guessing:
    """Training loss and accuracy of the best constant answer.

    Attributes:
        loss: Its loss, in nats: the entropy of the classes as training counts and softens them.
        least_loss: Loss of a network that is always right and sure, above 0 with softened labels.
        accuracy: Its accuracy, a fraction: the share of the largest class.
        even_loss: Loss of equal probabilities, near which a new network begins; the more unlike the
            shares of the classes, the further above `loss`.
    """

    loss: float
    least_loss: float
    accuracy: float
    even_loss: float

    @property
    def little(self) -> float:
        """Change of a loss that means little: a twentieth of all that can be learnt."""
        return _LITTLE * (self.loss - self.least_loss)


def guessing(case: Case) -> Guessing:
    """Return what guessing reaches on the training images of a case."""
    config, labels = case.config, case.dataset.parts["train"].labels
    soft = config.label_smoothing
    if config.multi_label:
        rates = np.asarray(labels, np.float64).mean(axis=0)
        softened = rates * (1 - soft) + soft / 2
        loss = (_entropies(softened) + _entropies(1 - softened)).mean()
        least = _entropies(np.array([1 - soft / 2, soft / 2])).sum()
        accuracy = np.maximum(rates, 1 - rates).mean()
        return Guessing(float(loss), float(least), float(accuracy), math.log(2))
    n_classes = len(case.class_names)
    counts = np.bincount(labels, minlength=n_classes)
    # Classes without training images are never guessed.
    weights = np.where(
        counts, counts ** (0.0 if config.balance else _POWERS[config.class_weights]), 0
    )
    shares = weights / weights.sum()
    right = np.full(n_classes, soft / n_classes)
    right[0] += 1 - soft
    return Guessing(
        loss=float(_entropies(shares * (1 - soft) + soft / n_classes).sum()),
        least_loss=float(_entropies(right).sum()),
        accuracy=float((shares if config.balance else counts / counts.sum()).max()),
        even_loss=math.log(n_classes),
    )


def beyond_guessing(
    labels: npt.NDArray[Any], answers: npt.NDArray[Any], n_classes: int
) -> tuple[float, float]:
    """Return how much better answers are than the same ones in random order.

    Args:
        labels: Shape (n_images,), true classes.
        answers: Shape (n_images,), predicted classes.
        n_classes: Number of classes.

    Returns:
        Cohen's kappa (0: no better, 1: all right), and its standard error if the answers have
        nothing to do with the labels. Both nan if all images and answers are of one class.

    References:
        Fleiss, Cohen and Everitt, "Large Sample Standard Errors of Kappa and Weighted Kappa",
        Psychological Bulletin 1969.
    """
    n_images = len(labels)
    true, said = _shares(labels, n_classes), _shares(answers, n_classes)
    by_chance = right_by_chance(labels, answers, n_classes)
    if by_chance == 1:
        return math.nan, math.nan
    kappa = (float((labels == answers).mean()) - by_chance) / (1 - by_chance)
    variance = by_chance + by_chance**2 - float((true * said * (true + said)).sum())
    return kappa, math.sqrt(max(0.0, variance) / n_images) / (1 - by_chance)


def right_by_chance(labels: npt.NDArray[Any], answers: npt.NDArray[Any], n_classes: int) -> float:
    """Return the accuracy that answers have in random order, a fraction."""
    return float(_shares(labels, n_classes) @ _shares(answers, n_classes))


def ranked_beyond_guessing(said: Predictions) -> tuple[float, float]:
    """Return how much better images of several classes are ranked than in random order.

    Args:
        said: Predictions for images that may have any number of classes.

    Returns:
        Share of the way from random order (0) to all right (1) in mean average precision, and its
        standard error if the answers have nothing to do with the labels.
    """
    random = np.random.default_rng(83)
    by_chance = [
        mean_average_precision(random.permutation(said.probs), said.labels) for _ in range(_ORDERS)
    ]
    most = 1 - float(np.mean(by_chance))
    if not most > 0:  # every image has every class, or none has any
        return math.nan, math.nan
    reached = mean_average_precision(said.probs, said.labels)
    return (reached - 1) / most + 1, float(np.std(by_chance, ddof=1)) / most


def _shares(classes: npt.NDArray[Any], n_classes: int) -> npt.NDArray[np.float64]:
    return np.bincount(classes, minlength=n_classes) / len(classes)


def _entropies(shares: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the terms of an entropy, in nats."""
    return -shares * np.log(np.where(shares > 0, shares, 1))
