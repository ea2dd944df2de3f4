"""The temperature of a classifier's probabilities, and the loss that it leaves."""

import numpy as np
import numpy.typing as npt

from convscope.classifier.classify import at_temperature, row_parts
from convscope.classifier.decisions import LEAST_PROB, image_losses, logits_of
from convscope.classifier.spec import TEMPERATURES
from convscope.types import FloatArray, Labels, is_multi_label


def calibrated_losses(probs: FloatArray, labels: Labels) -> npt.NDArray[np.float64]:
    """Return the cross-entropy of each image at the best temperature, in nats, (n_images,).

    By it classifiers compare as they will answer, whose temperature is fitted in the end: not by
    how sure they were made, by a penalty or softened labels.

    Args:
        probs: Shape (n_images, n_classes), of images that were not learnt.
        labels: True classes, see `types.Labels`.
    """
    temperature = best_temperature(probs, labels)
    final = at_temperature(probs, temperature, multi_label=is_multi_label(labels))
    return image_losses(final, labels, LEAST_PROB)


def calibrated_loss(probs: FloatArray, labels: Labels) -> float:
    """Return the mean of `calibrated_losses`."""
    return float(calibrated_losses(probs, labels).mean())


def best_temperature(probs: FloatArray, labels: Labels) -> float:
    """Return the temperature with the least cross-entropy, in [0.05, 20].

    Targets are softened as in Platt's scaling, as if one of n_images + 2 answers were wrong:
    otherwise a network without a mistake among few images would be taken for infallible.

    Args:
        probs: Shape (n_images, n_classes), of images that were not learnt.
        labels: True classes, see `types.Labels`.

    References:
        Guo et al., "On Calibration of Modern Neural Networks", ICML 2017;
        Platt, "Probabilistic Outputs for Support Vector Machines", 1999.
    """
    from scipy.optimize import minimize_scalar

    n_images, n_classes = probs.shape
    several = is_multi_label(labels)
    whole = logits_of(probs) if several else np.zeros(0)
    logs = np.empty(probs.shape)
    for some in row_parts(n_images, n_classes):
        logs[some] = np.log(np.maximum(probs[some].astype(np.float64), np.finfo(np.float32).tiny))
    wrong = 1 / (n_images + 2)

    def multi_label_loss(log_temperature: float) -> float:
        margins = np.where(labels > 0, whole, -whole) / np.exp(log_temperature)
        right, against = np.logaddexp(0, -margins).mean(), np.logaddexp(0, margins).mean()
        return float((1 - wrong) * right + wrong * against)

    def loss(log_temperature: float) -> float:
        right, others = np.empty(n_images), np.empty(n_images)
        for some in row_parts(n_images, n_classes):
            logits = logs[some] / np.exp(log_temperature)
            logits -= logits.max(axis=1, keepdims=True)
            log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
            right[some] = np.take_along_axis(log_probs, labels[some, None], axis=1)[:, 0]
            others[some] = (log_probs.sum(axis=1) - right[some]) / max(1, n_classes - 1)
        return -float((1 - wrong) * right.mean() + wrong * others.mean())

    low, high = np.log(TEMPERATURES)
    function = multi_label_loss if several else loss
    found = minimize_scalar(function, bounds=(low, high), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))
