"""Optimisers, built from their settings."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from convscope.models.keras_private import DecayStep, moving_averages, variable_index
from convscope.recipe import OptimizerSettings

if TYPE_CHECKING:
    import keras


def build_optimizer(
    settings: OptimizerSettings,
    learning_rate: Any = None,
    shares: Mapping[str, float] | None = None,
    separate: Collection[str] = (),
) -> "keras.optimizers.Optimizer":
    """Return the Keras optimiser that `settings` describe.

    Args:
        settings: Settings of the optimiser.
        learning_rate: Learning rate, a number or a schedule; None takes that of the settings.
        shares: Factor on the learning rate by path of the variable; 1 for paths that are missing.
        separate: Paths of kernels, as in `Muon`.
    """
    import keras

    from convscope.training.muon import Muon

    rate = settings.learning_rate if learning_rate is None else learning_rate
    decay = settings.weight_decay or None
    kinds: dict[str, tuple[Any, dict[str, Any]]] = {
        "adam": (keras.optimizers.Adam, {"weight_decay": decay}),
        "adamw": (keras.optimizers.AdamW, {"weight_decay": settings.weight_decay}),
        "sgd": (
            keras.optimizers.SGD,
            {
                "momentum": settings.momentum,
                "nesterov": settings.nesterov,
                "weight_decay": decay,
            },
        ),
    }
    kinds["muon"] = (Muon, kinds["sgd"][1] | {"separate": separate})
    kind, arguments = kinds[settings.name]
    if settings.ema is not None:
        arguments |= {"use_ema": True, "ema_momentum": settings.ema}
    by_rank = {1: settings.bias_rate, 2: settings.head_rate}
    if shares or set(by_rank.values()) != {1.0}:
        kind = _sharing(kind, shares or {}, by_rank)
    return kind(rate, **arguments)


def averaged_weights(model: "keras.Model") -> list[Any] | None:
    """Return the moving averages of a model's weights, in the order of `model.get_weights()`.

    Weights that are not trained are returned as they are. So are the statistics of BatchNorm: they
    are moving averages already, though of the newest weights and not of the averaged ones. None
    if the optimiser keeps no averages.
    """
    import keras

    optimizer = model.optimizer
    if not optimizer.use_ema or int(optimizer.iterations) == 0:
        return None
    averages = dict(
        zip(
            (variable.path for variable in model.trainable_variables),
            moving_averages(optimizer),
            strict=True,
        )
    )
    return [
        keras.ops.convert_to_numpy(averages.get(weight.path, weight)) for weight in model.weights
    ]


def _sharing(kind: Any, shares: Mapping[str, float], by_rank: Mapping[int, float]) -> Any:
    class Sharing(DecayStep, kind):
        """Trains some variables more slowly or faster than others."""

        weight_decay: Any

        def build(self, variables: Any) -> None:
            # Keras tracks attributes of its objects, but leaves a plain tuple of numbers alone.
            self.shares = tuple(
                shares.get(variable.path, 1.0) * by_rank.get(len(variable.shape), 1.0)
                for variable in variables
            )
            super().build(variables)

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            # By number: on TensorFlow these are not Keras' variables and have no path.
            share = self.shares[variable_index(self, variable)]
            super().update_step(gradient, variable, learning_rate * share)

        def decay_weights(self, variables: Any) -> None:
            # Decay is a step too: at the full rate it would outweigh slow learning.
            whole = self.weight_decay
            for variable in variables if whole else ():
                self.weight_decay = whole * self.shares[variable_index(self, variable)]
                super().decay_weights([variable])
            self.weight_decay = whole

    return Sharing
