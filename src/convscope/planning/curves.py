"""What to train within a given time or up to a given accuracy, by measured curves."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

Curves = Mapping[str, Mapping[int, float]]
"""Measured test accuracy by model and by epochs of CIFAR-10's 49,000 images."""

CURVE_IMAGES = 49_000
"""Images in an epoch of the curves."""


@dataclass(frozen=True)
class Effort:
    """Model and number of epochs to train.

    Attributes:
        model: Name of the model.
        epochs: Passes over the training images.
        most_epochs: Largest number of epochs that was measured.
        seconds: Time they take at the speed measured here.
        accuracy: Accuracy that as much training reached on CIFAR-10's test images; None for less
            training than was measured.
    """

    model: str
    epochs: int
    most_epochs: int
    seconds: float
    accuracy: float | None


def effort_for_time(
    curves: Curves,
    seconds_per_epoch: Mapping[str, float],
    n_images: int,
    seconds: float,
    *,
    overhead_s: Mapping[str, float] | None = None,
) -> Effort:
    """Return the effort with the best accuracy among those that fit into a time.

    Args:
        curves: Measured networks to choose from.
        seconds_per_epoch: Time of an epoch by model, measured here on these images.
        n_images: Number of training images; with fewer than CIFAR-10 has, more epochs count as the
            same amount of training.
        seconds: Time limit for everything.
        overhead_s: Seconds after training by model; None: none.
    """
    efforts: list[tuple[float, Effort]] = []
    short: list[Effort] = []
    for model, curve in curves.items():
        each = seconds_per_epoch[model]
        longest = most_epochs(curve, n_images)
        left = seconds - (overhead_s or {}).get(model, 0.0)
        epochs = min(max(1, int(left / each)), longest)
        if epochs < least_epochs(curve, n_images):
            short.append(Effort(model, epochs, longest, epochs * each, None))
        else:
            accuracy = _accuracy(curve, epochs, n_images)
            efforts.append((accuracy, Effort(model, epochs, longest, epochs * each, accuracy)))
    if efforts:
        return max(efforts, key=lambda pair: pair[0])[1]
    # Too short for any measured amount: take the network that sees most images in that time.
    return min(short, key=lambda effort: seconds_per_epoch[effort.model])


def effort_for_accuracy(
    curves: Curves, seconds_per_epoch: Mapping[str, float], n_images: int, accuracy: float
) -> Effort:
    """Return the quickest effort that was measured to reach an accuracy.

    Args:
        curves: Measured networks to choose from; at least one of them reached it.
        seconds_per_epoch: Time of an epoch by model, measured here.
        n_images: Number of training images.
        accuracy: Least accuracy, a fraction in (0, 1).
    """
    efforts = [
        Effort(model, epochs, epochs, epochs * seconds_per_epoch[model], reached)
        for model, curve in curves.items()
        for epochs, reached in ((_epochs(many, n_images), curve[many]) for many in curve)
        if reached >= accuracy
    ]
    return min(efforts, key=lambda effort: effort.seconds)


def contenders(curves: Curves, accuracy: float) -> Curves:
    """Return the networks that can be the quickest to an accuracy, whatever their speeds.

    One that needs as many epochs as one with quicker epochs is never the quickest.

    Args:
        curves: Measured networks, the one with the quickest epochs first.
        accuracy: Least accuracy, a fraction in (0, 1).
    """
    chosen, fewest = {}, float("inf")
    for model, curve in curves.items():
        needed = min((n for n, reached in curve.items() if reached >= accuracy), default=fewest)
        if needed < fewest:
            chosen[model], fewest = curve, needed
    return chosen


def least_epochs(curve: Mapping[int, float], n_images: int) -> int:
    """Return the epochs of `n_images` images that amount to the beginning of a curve."""
    return _epochs(min(curve), n_images)


def most_epochs(curve: Mapping[int, float], n_images: int) -> int:
    """Return the epochs of `n_images` images that amount to the end of a curve."""
    return _epochs(max(curve), n_images)


def _epochs(on_curve: int, n_images: int) -> int:
    """Return the epochs of these images that amount to as many of the curve's."""
    return max(1, round(on_curve * CURVE_IMAGES / n_images))


def _accuracy(curve: Mapping[int, float], epochs: int, n_images: int) -> float:
    known = sorted(curve)
    # Each doubling of the epochs gains about the same.
    place = np.log(epochs * n_images / CURVE_IMAGES)
    return float(np.interp(place, np.log(known), [curve[each] for each in known]))
