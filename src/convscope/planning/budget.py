"""Choice of network and epochs for a time or an accuracy, by speeds measured on this machine."""

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from convscope.backend import forget_networks
from convscope.errors import ConfigError
from convscope.images.orientation import orientations
from convscope.planning.curves import (
    CURVE_IMAGES,
    Curves,
    contenders,
    effort_for_accuracy,
    effort_for_time,
    least_epochs,
    most_epochs,
)
from convscope.planning.networks import new_network
from convscope.planning.plan import Plan
from convscope.progress import Progress
from convscope.recipe import RunConfig, dotted
from convscope.recipes import RECIPES
from convscope.types import Dataset

if TYPE_CHECKING:
    from convscope.models.preprocessing import Size
    from convscope.training.steps import Steps

_STEPS = 4
_JUDGING = 0.75
"""Approximate cost of a view of an image, relative to training on it: forward in float32, against
forward and backward in bfloat16. A high rather than a low estimate."""

_DOUBTFUL = 0.15
"""Assumed share of images that need shifted views, two for each previous one."""

_WRITING = 0.4
"""Seconds that files and pictures of a run take before training, and again after it."""

_KEEPING = 0.05
"""Seconds for saving the results of an epoch, with small networks."""


@dataclass(frozen=True)
class Budget:
    """A time limit or a wanted accuracy; one of the two.

    Attributes:
        minutes: Time for measuring, training and evaluation together.
        target: Accuracy on CIFAR-10, in per cent.
    """

    minutes: float | None
    target: float | None

    @classmethod
    def of(
        cls,
        minutes: float | None,
        target: float | None,
        *,
        given: Mapping[str, Any],
        from_file: Mapping[str, Any],
    ) -> "Budget | None":
        """Return the budget, or None if there is none.

        Args:
            minutes: Value that the user gave.
            target: Value that the user gave.
            given: All other settings from the user, by dotted name.
            from_file: Settings from a file, which are weaker; its epochs do not count.

        Raises:
            ConfigError: If these contradict each other or are not allowed, if the recipe, network
                or data was not measured, or if nothing measured so far reached the target.
        """
        if minutes is None and target is None:
            return None
        if minutes is not None and target is not None:
            raise ConfigError("give --minutes or --target, not both")
        if "epochs" in given:
            option = "--minutes" if target is None else "--target"
            raise ConfigError(f"{option} chooses the epochs; omit --epochs, or {option}")
        if minutes is not None and not 0 < minutes < float("inf"):
            raise ConfigError(f"--minutes must be above 0, not {minutes:g}")
        chosen = {**from_file, **given}
        curves = _curves(str(chosen.get("recipe", _RECIPE)), chosen.get("model"))
        if target is not None:
            if not 1 < target < 100:
                raise ConfigError(f"--target must be a percentage, such as 92, not {target:g}")
            if (data := chosen.get("data", _MEASURED_ON)) != _MEASURED_ON:
                raise ConfigError(
                    f"--target relies on measurements on {_MEASURED_ON}, not on {data}; "
                    "give a time with --minutes instead"
                )
            best = max(reached for curve in curves.values() for reached in curve.values())
            if target / 100 > best:
                raise ConfigError(
                    f"nothing measured so far reached {target:g} % (the best is {best:.1%}); lower "
                    "--target, or choose --model and --epochs yourself"
                )
        return cls(minutes, target)

    def require_enough(self, n_images: int) -> None:
        """Refuse a wanted accuracy with far fewer training images than it was measured with.

        Raises:
            ConfigError: If there are so few; as many passes over them reach less.
        """
        if self.target is not None and n_images < _ENOUGH * CURVE_IMAGES:
            raise ConfigError(
                f"--target relies on measurements with {CURVE_IMAGES:,} training images, and here "
                f"are {n_images:,}, with which less is reached; give a time with --minutes instead"
            )

    def defaults(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings that the budget adds to those chosen."""
        added: dict[str, Any] = {} if "recipe" in chosen else {"recipe": _RECIPE}
        if self.target is not None and not dotted(chosen).keys() & _NUMBERS_OF_IMAGES:
            added["split.val_fraction"] = _VAL_FRACTION
        return added


def choose(
    budget: Budget,
    wish: Plan,
    model: str | None,
    with_model: Callable[[str], RunConfig],
    progress: Progress,
) -> Plan:
    """Return the plan with network and epochs chosen, and the network that was measured.

    Args:
        budget: Time limit or wanted accuracy.
        wish: Plan without these choices.
        model: Name of the network, if the user named it.
        with_model: Function from the name of a network to the settings with it.
        progress: Called with measurements and with the choice.

    Raises:
        ConfigError: If an accuracy is wanted of too few training images.
    """
    budget.require_enough(len(wish.dataset.train))
    from convscope.models.geometry import geometry
    from convscope.training.fit import compile_model
    from convscope.training.pace import Deadline, Pace
    from convscope.training.passes import steps_on_one_device
    from convscope.training.progressive import relative_times

    config, dataset = wish.config, wish.dataset
    deadline = Deadline(math.inf if budget.minutes is None else budget.minutes * 60)
    curves: Curves = _curves(config.recipe, model)
    if budget.target is not None:
        curves = contenders(curves, budget.target / 100)
    n_images = len(dataset.train)
    speeds: dict[str, _Speed] = {}
    measured: dict[str, Steps] = {}
    per_epoch: dict[str, float] = {}  # on average: of some epochs, images are smaller or fewer
    quickest = 0.0  # seconds per multiply-add in each image of an epoch
    with progress.task("Measuring speed", len(curves), "networks") as step:
        for name, curve in curves.items():
            # With little time, none is wasted on networks that cannot fit into it: no network that
            # comes later in the curves is quicker, and one with more arithmetic is hardly ever
            # twice as fast at it.
            fewest = least_epochs(curve, n_images)
            if speeds and fewest * max(per_epoch.values()) > deadline.left():
                break
            of_it = with_model(name)
            network = new_network(of_it, dataset)
            # Leaves no trace in the names of later layers. Not once it is compiled: Keras would
            # discard what TensorFlow prepared for it.
            forget_networks(free_memory=False)
            work = sum(layer.multiply_adds for layer in geometry(network))
            if speeds and fewest * work * quickest / 2 > deadline.left():
                break
            compile_model(network, of_it, n_images)
            measured[name] = steps_on_one_device(network)
            speeds[name] = speed = _speed(measured[name], of_it, dataset)
            quickest = speed.epoch_s / work
            times = relative_times(of_it, most_epochs(curve, n_images), speed.of_smaller)
            per_epoch[name] = speed.epoch_s * statistics.mean(times)
            step(1, f"{name}: {per_epoch[name]:.1f} s an epoch")
    curves = {name: curves[name] for name in speeds}
    judged = [part for part in (dataset.val, dataset.test) if part is not None]
    tta = config.tta
    n_ways = len(orientations(mirrored=tta.mirror, turned=tta.turn))
    views = n_ways * (1 + 2 * _DOUBTFUL * bool(tta.shift))
    # Both counted in epochs of all images at full size.
    judging = _JUDGING * views * sum(map(len, judged)) / n_images
    choosing = _JUDGING if config.filter.share < 1 else 0
    # Once more on all but the test images, if that was asked for.
    again = 0.0 if dataset.val is None or not config.refit else 1 + len(dataset.val) / n_images
    per_epoch = {name: seconds * (1 + again) for name, seconds in per_epoch.items()}
    pace = None
    if budget.target is not None:
        effort = effort_for_accuracy(curves, per_epoch, n_images, budget.target / 100)
        speed = speeds[effort.model]
    else:
        left = deadline.left() - 2 * _WRITING
        left -= max(speed.compiling_s for speed in speeds.values()) if again else 0
        extra = judging + choosing * (1 + again)
        extra_s = {name: extra * speed.epoch_s for name, speed in speeds.items()}
        effort = effort_for_time(curves, per_epoch, n_images, left, overhead_s=extra_s)
        speed = speeds[effort.model]
        overhead_s = judging * speed.epoch_s + _WRITING
        overhead_s += speed.compiling_s if again else 0
        pace = Pace(deadline, effort.most_epochs, overhead_s, again)
    known = "less training than any that was measured"
    if effort.accuracy is not None:
        known = f"as much training reached {effort.accuracy:.1%} on CIFAR-10 on average"
    epochs = "1 epoch" if effort.epochs == 1 else f"{effort.epochs} epochs"
    progress.say(
        f"Plan: {effort.model}, {epochs}, {effort.seconds / 60:.1f} minutes at the measured "
        f"speed; {known}"
    )
    chosen = with_model(effort.model).model_copy(update={"epochs": effort.epochs})
    return dataclasses.replace(
        wish,
        config=chosen,
        measured=measured[effort.model],
        of_smaller=speed.of_smaller,
        pace=pace,
    )


_RECIPE = "fast"
"""Default recipe with a budget."""

_MEASURED_ON = "cifar10"
_VAL_FRACTION = 0.02
"""Share of the training images that was held out where accuracies were measured."""

_ENOUGH = 0.8
"""Least number of training images, relative to the measurements, with which these hold."""

_NUMBERS_OF_IMAGES = {"split.val_fraction", "split.images", "split.folds"}
"""Settings beside which that share would not be the user's wish."""


def _curves(recipe: str, model: str | None) -> dict[str, dict[int, float]]:
    curves: dict[str, dict[int, float]] = RECIPES.entry(recipe).info.get("curves", {})
    if not curves:
        known = ", ".join(entry.name for entry in RECIPES.entries() if "curves" in entry.info)
        raise ConfigError(
            "--minutes and --target need measured accuracy curves, and there are none for the "
            f"recipe '{recipe}'; use one of: {known} (or, on photos of your own, --minutes with "
            "--recipe auto, which searches)"
        )
    if model is None:
        return curves
    if model not in curves:
        raise ConfigError(
            "--minutes and --target need measured accuracy curves, and there are none for "
            f"{model}; choose --epochs, or one of: {', '.join(curves)}"
        )
    return {model: curves[model]}


class _Speed(NamedTuple):
    """Speed of a network.

    Attributes:
        epoch_s: Seconds per epoch at full size.
        of_smaller: Time of a step on smaller images, relative to one at full size.
        compiling_s: Seconds of compiling.
    """

    epoch_s: float
    of_smaller: float
    compiling_s: float


def _speed(steps: "Steps", config: RunConfig, dataset: Dataset) -> _Speed:
    """Measure the speed of a new network, whose weights are unchanged by it."""
    from convscope.training.augment import augmented
    from convscope.training.fit import training_batches
    from convscope.training.passes import train_epoch
    from convscope.training.progressive import smaller_size
    from convscope.training.snapshot import set_state, state_of

    n_classes = len(dataset.class_names)
    train = dataset.train.select(np.arange(min(len(dataset.train), _STEPS * config.batch_size)))
    new = state_of(steps.model)
    examples = augmented(train, config.augment, config.seed)

    def seconds_at(size: "Size | None") -> tuple[float, float]:
        took = []
        for epoch in range(2):  # the first one compiles
            start = time.perf_counter()
            batches = training_batches(config, examples, n_classes, epoch)
            train_epoch(steps, batches, size=size)
            took.append(time.perf_counter() - start)
        return took[1], max(0.0, took[0] - took[1])

    seconds, compiling = seconds_at(None)
    smaller, of_smaller = smaller_size(config.progressive, steps.model), 1.0
    if smaller is not None:
        those, more = seconds_at(smaller)
        of_smaller, compiling = those / seconds, compiling + more
    set_state(steps.model, new)
    return _Speed(seconds / len(train) * len(dataset.train) + _KEEPING, of_smaller, compiling)
