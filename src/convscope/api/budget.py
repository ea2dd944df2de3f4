"""Choosing network and epochs for a time or an accuracy, by speeds measured on this machine."""

import dataclasses
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from convscope.api.networks import forget_networks, new_network
from convscope.api.plan import Plan
from convscope.errors import ConfigError
from convscope.progress import Progress
from convscope.recipe import RunConfig
from convscope.recipes import RECIPES
from convscope.types import Dataset

if TYPE_CHECKING:
    import keras

    from convscope.training.budget import Curves

_STEPS = 4
_JUDGING = 0.75
"""A view of an image costs about so many times what learning from it does: forward in float32,
against forward and backward in bfloat16. Rather too much than too little."""

_DOUBTFUL = 0.15
"""The share of images for which shifted views are asked for, two for each one before."""

_WRITING = 0.4
"""Seconds that files and pictures of a run take before training, and again after it."""

_KEEPING = 0.05
"""Seconds that it takes to keep what an epoch leaves behind, with small networks."""


@dataclass(frozen=True)
class Budget:
    """A time to keep to or an accuracy to reach; one of the two.

    Attributes:
        minutes: For measuring, training and judging together.
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
            minutes: As the user gave it.
            target: As the user gave it.
            given: All other settings that the user gave, by dotted name.
            from_file: Weaker ones, of a file; its epochs do not count.

        Raises:
            ConfigError: If these contradict each other or are not allowed, nothing is known of
                recipe, network or data, or nothing measured so far reached the target.
        """
        if minutes is None and target is None:
            return None
        if minutes is not None and target is not None:
            raise ConfigError("give --minutes or --target, not both")
        if "epochs" in given:
            option = "--minutes" if target is None else "--target"
            raise ConfigError(f"{option} chooses the epochs; drop --epochs, or {option}")
        if minutes is not None and not 0 < minutes < float("inf"):
            raise ConfigError(f"--minutes {minutes:g}: give a number above 0")
        chosen = {**from_file, **given}
        curves = _curves(str(chosen.get("recipe", _RECIPE)), chosen.get("model"))
        if target is not None:
            if not 1 < target < 100:
                raise ConfigError(f"--target {target:g}: give per cent, such as 92")
            if (data := chosen.get("data", _MEASURED_ON)) != _MEASURED_ON:
                raise ConfigError(
                    f"what --target takes was measured on {_MEASURED_ON}, not on {data}; "
                    "give a time with --minutes"
                )
            best = max(reached for curve in curves.values() for reached in curve.values())
            if target / 100 > best:
                raise ConfigError(
                    f"nothing measured so far reached {target:g} % (the best is {best:.1%}); lower "
                    "--target, or choose --model and --epochs yourself"
                )
        return cls(minutes, target)

    def defaults(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings that the budget adds to those chosen."""
        added: dict[str, Any] = {} if "recipe" in chosen else {"recipe": _RECIPE}
        if self.target is not None and not any(key.split(".")[0] == "split" for key in chosen):
            added["split.val_fraction"] = _VAL_FRACTION
        return added


def choose(budget: Budget, wish: Plan, model: str | None, progress: Progress) -> Plan:
    """Return the plan with network and epochs chosen, and the network that was measured.

    Args:
        budget: The time or the accuracy.
        wish: The plan but for these.
        model: The network, if the user named it.
        progress: Called with what is measured, and with the choice.
    """
    from convscope.models.geometry import geometry
    from convscope.training.budget import (
        Deadline,
        Pace,
        contenders,
        least_epochs,
        plan_for_accuracy,
        plan_for_time,
    )

    config, dataset = wish.config, wish.dataset
    deadline = Deadline(math.inf if budget.minutes is None else budget.minutes * 60)
    curves: Curves = _curves(config.recipe, model)
    if budget.target is not None:
        curves = contenders(curves, budget.target / 100)
    n_images = len(dataset.train)
    speeds: dict[str, float] = {}
    networks: dict[str, keras.Model] = {}
    quickest = 0.0  # seconds for a multiply-add in each image of an epoch
    with progress.task("Measuring speed", len(curves), "networks") as step:
        for name, curve in curves.items():
            # Of little time none is lost on what cannot fit into it: no network that comes
            # later in the curves is quicker, and one that has more to do is hardly ever twice
            # as fast at it.
            fewest = least_epochs(curve, n_images)
            if fewest * max(speeds.values(), default=0) > deadline.left():
                break
            network = new_network(config.model_copy(update={"model": name}), dataset)
            # Leaves no trace in the names of the layers that come after. Not once it is
            # compiled: Keras would throw away what TensorFlow prepared for it.
            forget_networks(free_memory=False)
            work = sum(layer.multiply_adds for layer in geometry(network))
            if fewest * work * quickest / 2 > deadline.left():
                break
            networks[name], speeds[name] = network, _seconds_per_epoch(network, config, dataset)
            quickest = speeds[name] / work
            step(1, f"{name}: {speeds[name]:.1f} s an epoch")
    curves = {name: curves[name] for name in speeds}
    judged = [part for part in (dataset.val, dataset.test) if part is not None]
    tta = config.tta
    views = (2 if tta.mirror else 1) * (1 + 2 * _DOUBTFUL * bool(tta.shift))
    # Both counted in epochs of all images; of an average epoch these are a part.
    judging = _JUDGING * views * sum(map(len, judged)) / n_images
    choosing = _JUDGING if config.filter.share < 1 else 0
    part = config.filter.start + (1 - config.filter.start) * config.filter.share
    per_epoch = {name: part * seconds for name, seconds in speeds.items()}
    pace = None
    if budget.target is not None:
        plan = plan_for_accuracy(curves, per_epoch, n_images, budget.target / 100)
    else:
        left = deadline.left() - 2 * _WRITING
        extra = (judging + choosing) / part
        plan = plan_for_time(curves, per_epoch, n_images, left, overhead_epochs=extra)
        overhead_s = judging * speeds[plan.model] + _WRITING
        pace = Pace(deadline, plan.most_epochs, overhead_s)
    known = "less training than was ever measured"
    if plan.accuracy is not None:
        known = f"as much training gave {plan.accuracy:.1%} on CIFAR-10"
    epochs = "1 epoch" if plan.epochs == 1 else f"{plan.epochs} epochs"
    progress.say(
        f"Plan: {plan.model}, {epochs}, {plan.seconds / 60:.1f} minutes at the speed just "
        f"measured; {known}"
    )
    chosen = config.model_copy(update={"model": plan.model, "epochs": plan.epochs})
    return dataclasses.replace(wish, config=chosen, network=networks[plan.model], pace=pace)


_RECIPE = "fast"
"""Where there is a budget and no recipe was named."""

_MEASURED_ON = "cifar10"
_VAL_FRACTION = 0.02
"""Of the training images: how many were kept back where accuracies were measured."""


def _curves(recipe: str, model: str | None) -> dict[str, dict[int, float]]:
    curves: dict[str, dict[int, float]] = RECIPES.entry(recipe).info.get("curves", {})
    if not curves:
        known = ", ".join(entry.name for entry in RECIPES.entries() if "curves" in entry.info)
        raise ConfigError(
            f"what the recipe '{recipe}' reaches in a given time was not measured; --minutes and "
            f"--target are for: {known}"
        )
    if model is None:
        return curves
    if model not in curves:
        raise ConfigError(
            f"what {model} reaches in a given time was not measured; choose --epochs yourself, or "
            f"one of: {', '.join(curves)}"
        )
    return {model: curves[model]}


def _seconds_per_epoch(network: "keras.Model", config: RunConfig, dataset: Dataset) -> float:
    """Compile a new network and return the seconds that it takes for an epoch; it stays as new."""
    from convscope.training.augment import augmented
    from convscope.training.fit import compile_model, training_batches
    from convscope.training.passes import train_epoch
    from convscope.training.snapshot import set_state, state_of

    n_classes = len(dataset.class_names)
    train = dataset.train.select(np.arange(min(len(dataset.train), _STEPS * config.batch_size)))
    compile_model(network, config, len(dataset.train))
    new = state_of(network)
    examples = augmented(train, config.augment, config.seed)
    for epoch in range(2):  # the first one compiles
        start = time.perf_counter()
        train_epoch(network, training_batches(config, examples, n_classes, epoch))
        seconds = time.perf_counter() - start
    set_state(network, new)
    return seconds / len(train) * len(dataset.train) + _KEEPING
