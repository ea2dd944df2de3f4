"""The learning-rate range test: which rates learn, and from which on the loss goes up."""

import math
from dataclasses import dataclass

import keras
import numpy as np
import numpy.typing as npt

from convscope.progress import Progress
from convscope.recipe import RunConfig
from convscope.training.augment import augmented
from convscope.training.fit import compile_at, training_batches
from convscope.types import Split

N_STEPS = 120
_LOWEST, _HIGHEST = 1e-4, 1e3
"""Times the rate that is asked about."""
_SMOOTHING = 0.9
_BLOWN_UP = 2.0
"""Times the least smoothed loss; from there on no rate is worth a step."""
_MARGIN = 2.0
"""The loss of single steps lags behind: the last useful rate is so much below the least loss."""


@dataclass(frozen=True)
class RangeTest:
    """What a range test found.

    Attributes:
        rates: Of each step, rising.
        losses: Smoothed, in nats; as many.
        lowest: From this rate on the loss falls noticeably.
        steepest: Where it falls fastest.
        highest: Above it, it stops falling.
        asked: The rate that is asked about.
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
    """Train a network for some steps while the learning rate rises by ten million times.

    Args:
        network: With the weights that training would start from; they are lost.
        config: The settings.
        train: The training images.
        n_classes: At least 2.
        progress: Told of each step.

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
    with progress.task("Trying learning rates", N_STEPS, "steps") as step:
        for index, rate in enumerate(rates):
            if place == len(batches):
                epoch, place = epoch + 1, 0
                batches = training_batches(config, examples, n_classes, epoch)
            network.optimizer.learning_rate = float(rate)
            network.reset_metrics()
            loss, _ = network.train_on_batch(*batches[place])
            place += 1
            now = float(loss)
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
