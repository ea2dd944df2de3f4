"""Calibration: reliability of the probabilities, and a temperature that improves it."""

from dataclasses import dataclass, replace

import numpy as np

from convscope.classifier.classify import at_temperature
from convscope.classifier.decisions import image_losses
from convscope.evaluation.metrics import check_probs
from convscope.evaluation.multi_label import check_flags
from convscope.training.temperature import best_temperature
from convscope.types import FloatArray, Labels, Predictions, is_multi_label

N_BINS = 15
"""Number of equal intervals of confidence in (0, 1]."""


@dataclass(frozen=True)
class ReliabilityBin:
    """Answers of similar confidence.

    Attributes:
        low: Lowest confidence in the bin, a fraction.
        high: Highest confidence in the bin.
        n_images: Number of answers, one for each image unless it may have several; 0 leaves the
            rest undefined (nan).
        confidence: Mean probability of the answers.
        accuracy: Share of the answers that are correct, a fraction.
    """

    low: float
    high: float
    n_images: int
    confidence: float
    accuracy: float


def reliability(probs: FloatArray, labels: Labels) -> list[ReliabilityBin]:
    """Return the share of correct answers by confidence (a reliability diagram).

    Where an image may have any number of classes, each class of each image is an answer of its own:
    its probability, and whether the image has it.

    Args:
        probs: Shape (n_images, n_classes), rows sum to 1 unless images have any number of classes.
        labels: True classes, see `types.Labels`.

    Raises:
        ShapeError: If `probs` are not probabilities, or the lengths differ.
    """
    _check(probs, labels)
    if is_multi_label(labels):
        confidence, right = probs.ravel().astype(np.float64), labels.ravel() > 0
    else:
        confidence = probs.max(axis=1).astype(np.float64)
        right = probs.argmax(axis=1) == labels
    edges = np.linspace(0, 1, N_BINS + 1)
    # A confidence of exactly an edge belongs to the bin below it.
    place = np.clip(np.ceil(confidence * N_BINS).astype(int) - 1, 0, N_BINS - 1)
    bins = []
    for index in range(N_BINS):
        inside = place == index
        n = int(inside.sum())
        mean = float(confidence[inside].mean()) if n else float("nan")
        share = float(right[inside].mean()) if n else float("nan")
        bins.append(ReliabilityBin(float(edges[index]), float(edges[index + 1]), n, mean, share))
    return bins


def expected_calibration_error(probs: FloatArray, labels: Labels) -> float:
    """Return the mean gap between confidence and accuracy.

    Args:
        probs: Shape (n_images, n_classes), as for `reliability`. Logits are refused, not converted.
        labels: True classes, as for `reliability`.

    Returns:
        A fraction in [0, 1], not percent; 0 is perfectly calibrated.

    Raises:
        ShapeError: If the lengths differ or `probs` are not probabilities.

    References:
        Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.

    Examples:
        >>> probs = np.array([[0.8, 0.2]] * 5, dtype=np.float32)
        >>> round(expected_calibration_error(probs, np.array([0, 0, 0, 0, 1])), 4)
        0.0
        >>> round(expected_calibration_error(probs, np.array([0, 0, 1, 1, 1])), 4)
        0.4
    """
    found = [each for each in reliability(probs, labels) if each.n_images]
    return sum(b.n_images * abs(b.confidence - b.accuracy) for b in found) / labels.size


def error_by_chance(probs: FloatArray, *, multi_label: bool, n_draws: int = 200) -> float:
    """Return the calibration error that 95 % of perfectly calibrated models stay below.

    Of few images some error is chance: labels are drawn from the probabilities themselves.

    Args:
        probs: Shape (n_images, n_classes), as for `expected_calibration_error`.
        multi_label: Whether an image may have any number of classes.
        n_draws: Number of draws of all labels.
    """
    rng = np.random.default_rng(0)
    bounds = probs.cumsum(axis=1)

    def draw() -> Labels:
        if multi_label:
            flags: Labels = (rng.random(probs.shape) < probs).astype(np.uint8)
            return flags
        # Their sum may be below 1 by rounding.
        drawn = rng.random((len(probs), 1)) * bounds[:, -1:]
        labels: Labels = (drawn >= bounds).sum(axis=1).clip(max=probs.shape[1] - 1)
        return labels

    errors = [expected_calibration_error(probs, draw()) for _ in range(n_draws)]
    return float(np.quantile(errors, 0.95))


def fit_temperature(probs: FloatArray, labels: Labels) -> float:
    """Return the temperature with the least cross-entropy.

    Args:
        probs: Shape (n_images, n_classes), of validation images: images that were not trained on.
        labels: True classes, see `types.Labels`.

    Returns:
        A number in [0.05, 20].

    Raises:
        ShapeError: If the lengths differ or `probs` are not probabilities.
    """
    _check(probs, labels)
    return best_temperature(probs, labels)


def _check(probs: FloatArray, labels: Labels) -> None:
    (check_flags if is_multi_label(labels) else check_probs)(probs, labels)


def with_temperature(said: Predictions, temperature: float) -> Predictions:
    """Return predictions with their probabilities at a temperature, see `at_temperature`."""
    probs = at_temperature(said.probs, temperature, multi_label=said.multi_label)
    return replace(said, probs=probs)


def calibration_figures(predictions: Predictions, temperature: float) -> dict[str, float]:
    """Return what a temperature changes, for `metrics.json`.

    The expected calibration error without and with it, and the loss with it; that without it is
    among the other metrics.
    """
    labels, final = predictions.labels, with_temperature(predictions, temperature)
    return {
        "calibration_error": expected_calibration_error(predictions.probs, labels),
        "calibration_error_at_temperature": expected_calibration_error(final.probs, labels),
        "loss_at_temperature": float(image_losses(final.probs, labels).mean()),
    }
