"""Progressive resizing: the first epochs train on smaller images, which take less time.

Coarse shapes are learnt from few pixels; the later epochs add the details. A network that ends in
global pooling works at any size.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from convscope.errors import ConfigError
from convscope.models.preprocessing import Size, working_at
from convscope.models.structure import as_functional, image_shape, is_resizing
from convscope.recipe import ProgressiveSettings, RunConfig
from convscope.training.filtering import Hardest, epoch_lengths

if TYPE_CHECKING:
    import keras

_LEAST_SIDE = 16
"""Least side in pixels; smaller images lose too much."""


def smaller_size(settings: ProgressiveSettings, model: "keras.Model") -> Size | None:
    """Return the size of the smaller images; None if no epoch trains on smaller ones.

    Args:
        settings: Settings of progressive resizing.
        model: Functional model that resizes images to its own size.

    Raises:
        ConfigError: If the model works at its own size only, or does not resize images.
    """
    if settings.scale == 1:
        return None
    if sum(map(is_resizing, as_functional(model).layers)) != 1:
        raise ConfigError(
            f"{model.name} has no step of its own that resizes images, so it cannot train on "
            "smaller ones first; use --set progressive.scale=1"
        )
    height, width, channels = image_shape(model)
    size = _smaller(height, settings.scale), _smaller(width, settings.scale)
    if size == (height, width):
        return None
    try:
        with working_at(model, size):
            model(np.zeros((1, height, width, channels), np.uint8), training=False)
    except Exception as error:  # each backend and each layer raises its own
        raise ConfigError(
            f"{model.name} works at {height}x{width} pixels only, so it cannot train on smaller "
            "images first; use --set progressive.scale=1, or a network that ends in global "
            "pooling, such as fast-medium"
        ) from error
    return size


def _smaller(side: int, scale: float) -> int:
    return min(side, max(_LEAST_SIDE, round(side * scale)))


def share_of_pixels(model: "keras.Model", size: Size | None) -> float:
    """Return the number of pixels at a size, relative to those of the model's own; None: 1.

    The time of a step is about proportional to it, a little longer.
    """
    if size is None:
        return 1.0
    height, width, _ = image_shape(model)
    return math.prod(size) / (height * width)


@dataclass(frozen=True)
class Done:
    """Epochs of a phase that have ended.

    Attributes:
        epochs: Their number.
        smaller: Number of those, the first ones, that trained on smaller images.
    """

    epochs: int = 0
    smaller: int = 0


def n_smaller(settings: ProgressiveSettings, epochs: int, done: Done = Done()) -> int:
    """Return how many of a run's epochs, the first ones, train on smaller images.

    Args:
        settings: Settings of progressive resizing.
        epochs: Number of epochs of the run, which may have changed in the meantime.
        done: What was trained until now; after an epoch at full size none is smaller again.
    """
    if settings.scale == 1:
        return 0
    if done.smaller < done.epochs:
        return done.smaller
    return max(done.smaller, math.floor(settings.until * epochs + 1e-9))


def relative_times(
    config: RunConfig,
    epochs: int,
    of_smaller: float,
    hardest: Hardest | None = None,
    done: Done = Done(),
) -> list[float]:
    """Return the time of each epoch, relative to one on all images at their full size.

    Args:
        config: Settings of the run.
        epochs: Number of its epochs.
        of_smaller: Time of a step on smaller images, relative to one at full size.
        hardest: The chosen images, as for `epoch_lengths`.
        done: As for `n_smaller`.
    """
    lengths = epoch_lengths(config.filter, epochs, hardest)
    smaller = n_smaller(config.progressive, epochs, done)
    return [each * (of_smaller if i < smaller else 1) for i, each in enumerate(lengths)]
