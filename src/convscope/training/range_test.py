"""Learning-rate range test: which rates train, and from which the loss rises."""

import math
from dataclasses import dataclass

import keras
import numpy as np
import numpy.typing as npt

from convscope.progress import Progress
from convscope.recipe import RunConfig
from convscope.training.augment import augmented
from convscope.training.fit import compile_at, training_batches
from convscope.training.passes import steps_on_one_device
from convscope.types import Split

N_STEPS = 120
_LOWEST, _HIGHEST = 1e-4, 1e3
"""First and last rate, as factors on the rate in question."""
_SMOOTHING = 0.9
_BLOWN_UP = 2.0
"""Factor on the least smoothed loss; beyond it no further rate is tried."""
_MARGIN = 2.0
"""The loss lags behind by some steps: the last useful rate is this factor below the least loss."""


@dataclass(frozen=True)
class RangeTest:
    """Result of a range test.

    Attributes:
        rates: Learning rate of each step, rising.
        losses: Smoothed loss of each step, in nats.
        lowest: Rate from which the loss falls noticeably.
        steepest: Rate at which it falls fastest.
        highest: Rate above which it stops falling.
        asked: Rate in question.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    lowest: float
    steepest: float
    highest: float
    asked: float

    @property
    def verdict(self) -> str:
        """Whether the rate is "too high", "too low" or "fits"."""
        if self.asked > self.highest:
            return "too high"
        return "too low" if self.asked < self.lowest else "fits"


def range_test(
    network: keras.Model, config: RunConfig, train: Split, n_classes: int, progress: Progress
) -> RangeTest:
    """Train a network for some steps while the learning rate rises by a factor of ten million.

    Args:
        network: Network with the weights that training would start from; they are lost.
        config: Settings of the run.
        train: Training images.
        n_classes: Number of classes, at least 2.
        progress: Called with each step.

    References:
        Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017.
    """
    asked = config.optimizer.learning_rate
    rates = asked * _LOWEST * (_HIGHEST / _LOWEST) ** (np.arange(N_STEPS) / (N_STEPS - 1))
    compile_at(network, config, float(rates[0]))
    examples = augmented(train, config.augment, config.seed)
    smoothed: list[float] = []
    mean, epoch = 0.0, 0
    batches = training_batches(config, examples, n_classes, epoch)
    place = 0
    steps = steps_on_one_device(network)
    with progress.task("Trying learning rates", N_STEPS, "steps") as step:
        for index, rate in enumerate(rates):
            if place == len(batches):
                epoch, place = epoch + 1, 0
                batches = training_batches(config, examples, n_classes, epoch)
            network.optimizer.learning_rate = float(rate)
            # A pass of its own, that begins with this rate.
            with steps.training() as take:
                now, _ = take(*batches[place], batches.size(place))
            place += 1
            mean = _SMOOTHING * mean + (1 - _SMOOTHING) * now
            smoothed.append(mean / (1 - _SMOOTHING ** (index + 1)))
            step(1, f"rate {rate:.2g}: loss {smoothed[-1]:.3f}")
            if not math.isfinite(now) or smoothed[-1] > _BLOWN_UP * min(smoothed):
                break
    return _read(rates[: len(smoothed)], smoothed, asked)


def _read(rates: npt.NDArray[np.float64], losses: list[float], asked: float) -> RangeTest:
    values = np.asarray([v if math.isfinite(v) else np.inf for v in losses])
    least = int(values.argmin())
    first = float(values[: max(1, len(values) // 10)].mean())
    fall = first - float(values[least])
    # A tenth of the way down counts as noticeable.
    begun = int(np.argmax(values <= first - 0.1 * fall)) if fall > 0 else least
    slopes = np.diff(values[: least + 1]) if least else np.zeros(1)
    steepest = int(slopes.argmin())
    return RangeTest(
        rates=tuple(map(float, rates)),
        losses=tuple(losses),
        lowest=float(rates[begun]) / 10,
        steepest=float(rates[steepest]),
        highest=float(rates[least]) / _MARGIN,
        asked=asked,
    )
