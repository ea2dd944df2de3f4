"""Settings without effect beside the others, which are refused."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from convscope.datasets import holds_files, takes_place
from convscope.errors import ConfigError
from convscope.recipe import RANDOM_WEIGHTS, Recipe, RunConfig, default_settings, flat


class _Condition(NamedTuple):
    """Condition under which settings have an effect.

    Attributes:
        settings: Dotted names of settings or groups.
        holds: Function of the configuration, and of whether its model is a pretrained backbone.
        words: Condition in words, as in "it needs ...".
    """

    settings: tuple[str, ...]
    holds: Callable[[RunConfig, bool], bool]
    words: str


_CONDITIONS = (
    _Condition(
        ("head", "backbone", "optimizer.layer_decay", "weights_sha256"),
        lambda config, backbone: backbone,
        "a pretrained backbone as model",
    ),
    _Condition(
        ("start", "progressive"),
        lambda config, backbone: not backbone,
        "a network that is trained from scratch as model",
    ),
    _Condition(
        ("optimizer.momentum", "optimizer.nesterov"),
        lambda config, backbone: config.optimizer.name in ("sgd", "muon"),
        "optimizer.name sgd or muon",
    ),
    _Condition(
        ("optimizer.nesterov",),
        lambda config, backbone: config.optimizer.momentum > 0,
        "optimizer.momentum above 0",
    ),
    _Condition(
        ("optimizer.layer_decay", "backbone.head_epochs", "backbone.head_learning_rate"),
        lambda config, backbone: config.backbone.cut != "end",
        "trainable layers of the backbone, such as backbone.cut before-last",
    ),
    _Condition(
        ("backbone.head_epochs", "backbone.head_learning_rate"),
        lambda config, backbone: not config.head.logistic or config.backbone.head_epochs == 0,
        "head.logistic false",
    ),
    _Condition(
        ("head.penalty", "head.last_map"),
        lambda config, backbone: config.head.logistic,
        "head.logistic true",
    ),
    _Condition(
        ("head.last_map",),
        lambda config, backbone: config.head.pooling == "stages",
        "head.pooling stages",
    ),
    _Condition(
        (
            *("optimizer", "schedule", "label_smoothing", "early_stop_patience"),
            *("augment.mixup", "augment.cutmix", "filter"),
            # A batch size counts for what else a search of photos trains.
            *("least_steps", "full_batches"),
        ),
        lambda config, backbone: not config.trains_at_once,
        "head.logistic false",
    ),
    _Condition(
        ("epochs",),
        lambda config, backbone: not config.trains_at_once or config.epochs == 1,
        "head.logistic false",
    ),
    _Condition(
        ("augment.cutmix",),
        lambda config, backbone: not backbone or config.backbone.cut != "end",
        "trainable layers of the backbone, such as backbone.cut before-last",
    ),
    _Condition(
        ("augment.cutmix",),
        lambda config, backbone: (
            not backbone or config.backbone.cut == "start" or config.head.pooling != "stages"
        ),
        "maps behind the cut alone, such as head.pooling avg",
    ),
    _Condition(
        ("backbone.head_learning_rate",),
        lambda config, backbone: config.backbone.head_epochs > 0,
        "backbone.head_epochs above 0",
    ),
    _Condition(
        ("backbone.views",),
        lambda config, backbone: config.augment.varies,
        "augment.flip, augment.turn, augment.crop, augment.cutout or augment.randaugment",
    ),
    _Condition(
        ("backbone.views",),
        lambda config, backbone: config.backbone.cut != "start",
        "a frozen part, such as backbone.cut before-last",
    ),
    _Condition(
        ("augment.randaugment_factor",),
        lambda config, backbone: config.augment.randaugment > 0,
        "augment.randaugment above 0",
    ),
    _Condition(
        ("schedule.warmup_epochs",),
        lambda config, backbone: config.schedule.name != "constant",
        "schedule.name cosine or linear",
    ),
    _Condition(
        ("filter.start",),
        lambda config, backbone: config.filter.share < 1,
        "filter.share below 1",
    ),
    _Condition(
        ("progressive.until",),
        lambda config, backbone: config.progressive.scale < 1,
        "progressive.scale below 1",
    ),
    _Condition(
        ("split.val_fraction",),
        lambda config, backbone: config.split.part_of_fold != "val",
        "split.folds null",
    ),
    _Condition(
        ("split.test_fraction",),
        lambda config, backbone: config.split.part_of_fold != "test",
        "split.fold_as val",
    ),
    _Condition(
        ("weights_sha256",),
        lambda config, backbone: config.weights != RANDOM_WEIGHTS,
        "other weights than random",
    ),
    _Condition(
        ("data_path",),
        lambda config, backbone: takes_place(config.data),
        "a dataset that reads a path, such as data folder or shards",
    ),
    _Condition(
        ("labels",),
        lambda config, backbone: holds_files(config.data),
        "a dataset of image files, such as data folder",
    ),
)


def idle_settings(config: RunConfig, usual: Recipe, *, backbone: bool) -> dict[str, str]:
    """Return the settings that were changed and, beside the others, change nothing.

    Args:
        config: All settings.
        usual: Recipe, whose own settings nobody asked for, so they may be idle.
        backbone: Whether the model is a pretrained backbone.

    Returns:
        The condition for an effect, by dotted name.
    """
    values = flat(config.model_dump())
    neutral = default_settings()
    recipes = {**neutral, **flat(usual.model_dump())}
    changed = [key for key in values if values[key] not in (neutral[key], recipes[key])]
    idle: dict[str, str] = {}
    for condition in _CONDITIONS:
        if condition.holds(config, backbone):
            continue
        for key in changed:
            if key in condition.settings or key.partition(".")[0] in condition.settings:
                idle[key] = f"{idle[key]} and {condition.words}" if key in idle else condition.words
    return idle


def require_effect(config: RunConfig, usual: Recipe, *, backbone: bool) -> None:
    """Reject settings that nobody wants: idle ones, and those that destroy what was learnt.

    For new runs only: old runs are opened as they were made. Arguments as for `idle_settings`.

    Raises:
        ConfigError: If there is such a setting; the message says what the first would need, and
            names them all.
    """
    if config.optimizer.name == "muon" and backbone:
        raise ConfigError(
            "optimizer.name muon replaces the kernels that it trains, so a pretrained backbone "
            "would lose its features; use adamw or sgd"
        )
    warmup = config.schedule.warmup_epochs
    falls = config.schedule.name != "constant"
    if falls and warmup != usual.schedule.warmup_epochs and warmup >= config.epochs:
        raise ConfigError(
            f"schedule.warmup_epochs {warmup:g} leaves no epoch of {config.epochs} in which the "
            "learning rate falls; take fewer, or more --epochs"
        )
    idle = idle_settings(config, usual, backbone=backbone)
    for key, words in idle.items():
        neutral = flat(usual.model_dump()).get(key, default_settings()[key])
        value, others = flat(config.model_dump())[key], [each for each in idle if each != key]
        raise _without_effect(key, value, words, neutral, others)


def require_effect_somewhere(
    settings: Mapping[str, Any], idle: Sequence[Mapping[str, str]]
) -> None:
    """Reject a setting of several runs that has no effect in any of them.

    Args:
        settings: Settings of all of them by dotted name.
        idle: Result of `idle_settings` for each run.

    Raises:
        ConfigError: If there is one.
    """
    for key, value in settings.items():
        if all(key in each for each in idle):
            raise _without_effect(key, value, idle[-1][key], default_settings()[key])


def _without_effect(
    key: str, value: Any, words: str, neutral: Any, others: Sequence[str] = ()
) -> ConfigError:
    given, usual = (
        each if isinstance(each, str) else json.dumps(each) for each in (value, neutral)
    )
    return ConfigError(
        f"{key} {given} has no effect here: it needs {words}; set that too, or leave {key} at "
        f"{usual}" + (f" (no effect either: {', '.join(others)})" if others else "")
    )
