"""Schedules of the learning rate over the steps of a run."""

import math
from typing import Any

import keras

from convscope.models.keras_private import schedule_of
from convscope.recipe import ScheduleSettings


class _Warmup(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up from near 0, then a decay to 0.

    A pure function of the step, so a resumed run continues where it was.

    Args:
        peak: Highest learning rate.
        total_steps: Step at which the rate reaches 0; see `set_total_steps`.
        warmup_steps: Step at which the rate peaks.

    References:
        Goyal et al., "Accurate, Large Minibatch SGD", 2017.
    """

    def __init__(self, peak: float, total_steps: int, warmup_steps: int) -> None:
        super().__init__()
        self.peak = peak
        self.total_steps: Any = total_steps
        self.warmup_steps = warmup_steps

    def __call__(self, step: Any) -> Any:
        """Return the learning rate of a step, counted from 0."""
        ops = keras.ops
        # The first step learns something and so does the last.
        place = ops.cast(step, "float32") + 0.5
        rising = place / max(self.warmup_steps, 1)
        way_down = ops.cast(self.total_steps, "float32") - self.warmup_steps
        through = (place - self.warmup_steps) / ops.maximum(way_down, 1.0)
        falling = self._left(ops.clip(through, 0.0, 1.0))
        return (
            self.peak * ops.minimum(rising, falling) if self.warmup_steps else self.peak * falling
        )

    def _left(self, through: Any) -> Any:
        """Return the remaining share of the peak, from 1 to 0, at that share of the decay."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {
            "peak": self.peak,
            "total_steps": int(self.total_steps),
            "warmup_steps": self.warmup_steps,
        }


class WarmupCosine(_Warmup):
    """Linear warm-up from near 0, then a cosine decay to 0.

    References:
        Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017.
    """

    def _left(self, through: Any) -> Any:
        return 0.5 * (1.0 + keras.ops.cos(math.pi * through))


class WarmupLinear(_Warmup):
    """Linear warm-up from near 0, then a linear decay to 0."""

    def _left(self, through: Any) -> Any:
        return 1.0 - through


def build_schedule(
    settings: ScheduleSettings, learning_rate: float, *, epochs: int, steps_per_epoch: int
) -> Any:
    """Return a number or a schedule, as Keras' optimisers take it.

    Args:
        settings: Name and warm-up of the schedule.
        learning_rate: Highest learning rate.
        epochs: Epochs of the whole run.
        steps_per_epoch: Batches per epoch.
    """
    warmup = round(settings.warmup_epochs * steps_per_epoch)
    kinds = {"cosine": WarmupCosine, "linear": WarmupLinear}
    if settings.name in kinds:
        return kinds[settings.name](learning_rate, epochs * steps_per_epoch, warmup)
    return learning_rate


def set_total_steps(optimizer: keras.optimizers.Optimizer, total_steps: int) -> None:
    """Move the step at which an optimiser's learning rate reaches 0; a constant rate stays.

    The number is one of the optimiser's variables: a model compiled with it is not compiled again,
    on any backend, and it is saved with them.
    """
    schedule = schedule_of(optimizer)
    if not isinstance(schedule, _Warmup):
        return
    if isinstance(schedule.total_steps, int):
        schedule.total_steps = optimizer.add_variable((), dtype="float32", name="total_steps")
    schedule.total_steps.assign(total_steps)
