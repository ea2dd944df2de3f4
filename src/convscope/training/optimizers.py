"""Optimisers, built from their settings."""

from typing import TYPE_CHECKING

from convscope.recipe import OptimizerSettings

if TYPE_CHECKING:
    import keras


def build_optimizer(settings: OptimizerSettings) -> "keras.optimizers.Optimizer":
    """Return the Keras optimiser that `settings` describe."""
    import keras

    decay = settings.weight_decay or None
    match settings.name:
        case "adam":
            return keras.optimizers.Adam(settings.learning_rate, weight_decay=decay)
        case "adamw":
            return keras.optimizers.AdamW(
                settings.learning_rate, weight_decay=settings.weight_decay
            )
        case "sgd":
            return keras.optimizers.SGD(
                settings.learning_rate,
                momentum=settings.momentum,
                nesterov=settings.nesterov,
                weight_decay=decay,
            )
