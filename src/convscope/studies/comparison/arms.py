"""The arms of a comparison: training configurations and their names."""

import hashlib
import operator
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from convscope.datasets.source import data_settings
from convscope.effects import idle_settings, require_effect_somewhere
from convscope.errors import ConfigError
from convscope.models import is_backbone
from convscope.paths import short_name
from convscope.planning.settle import Request, weights_setting
from convscope.planning.usual import recipe_for, usual_settings
from convscope.recipe import OF_A_RUN, RunConfig, differences, flat, require_settable, resolve
from convscope.recipes import RECIPES
from convscope.registry import listed

FIRST_SEED = 83

NOT_TO_SET: Mapping[str, str] = dict.fromkeys(
    ("data", "data_path", "labels", "epochs", "model", "recipe", "seed", "weights"),
    "an option of its own decides it",
)
"""Settings that cannot be set in a study of runs, and why."""


def plan_arms(
    models: str | Sequence[str],
    recipes: str | Sequence[str] | None,
    seed: int,
    data: str | Path,
    epochs: int | None,
    weights: Path | str | None,
    settings: Mapping[str, Any],
    vary: Mapping[str, Sequence[Any]],
    labels: str | Path | None = None,
) -> dict[str, Request]:
    """Return the requested configuration of each arm, by its name.

    Args:
        models: Registered models, alone or as "model:recipe".
        recipes: Registered recipes; None takes each model's default.
        seed: Seed in the settings; each run has its own.
        data: A built-in dataset, or a folder of images.
        epochs: Epochs of each run; None takes the recipe's.
        weights: Weights of backbones.
        settings: Settings of every run by dotted name.
        vary: Values by dotted name that each model and recipe is trained with, one by one; with
            several names, all combinations.
        labels: Table with the labels of the folder's images.

    Raises:
        UserError: If a name or a setting is wrong, or there are not two arms to compare.
    """
    models, recipes = listed(models), listed(recipes or ())
    settings, vary = flat(settings), {key: listed(values) for key, values in vary.items()}
    require_settable(settings, NOT_TO_SET)
    require_settable(vary, NOT_TO_SET, "--vary")
    for key in vary.keys() & settings.keys():
        raise ConfigError(f"'{key}' is given with --set and with --vary; omit one of them")
    about = data_settings(data, labels)
    choices = []
    for each in models:
        # "mobilenet_v2:finetune" is one arm; a model alone is combined with every recipe.
        model, _, own_recipe = each.partition(":")
        usual = recipe_for(model, str(about["data"]), epochs=epochs is not None)
        choices += [
            (model, recipe) for recipe in ([own_recipe] if own_recipe else recipes or [usual])
        ]
    if len(set(choices)) < len(choices):
        raise ConfigError("a model or a recipe is named twice; name each once")
    varied = [dict(zip(vary, values, strict=True)) for values in product(*vary.values())]
    if len(choices) * len(varied) < 2:
        raise ConfigError(
            "a comparison needs at least two configurations; name two models, recipes or values"
        )
    given = {**about, "seed": seed}
    if epochs is not None:
        given["epochs"] = epochs
    requests: dict[str, Request] = {}
    idle: list[dict[str, str]] = []
    for (model, recipe), values in product(choices, varied):
        own = {"model": model, "recipe": recipe, **values}
        if is_backbone(model) and weights is not None:
            own["weights"] = str(weights_setting(weights))
        # A setting may be meant for some arms; where it has no effect it is omitted.
        defaults, backbone = RECIPES.get(recipe)(), is_backbone(model)
        asked = resolve(defaults, {**given, **settings, **own})
        idle.append(idle_settings(asked, defaults, backbone=backbone))
        shared = {key: value for key, value in settings.items() if key not in idle[-1]}
        name = _name(choices, model, recipe, values)
        if name in requests:
            raise ConfigError(f"--vary names {name} twice; name each value once")
        requests[name] = Request({**given, **shared, **own})
    require_effect_somewhere(settings, idle)
    return requests


def _name(
    choices: Sequence[tuple[str, str]], model: str, recipe: str, values: Mapping[str, Any]
) -> str:
    """Return the name that distinguishes an arm from the others."""
    models = {each for each, _ in choices}
    repeated = len(models) < len(choices)
    words = [model] if len(models) > 1 or not (repeated or values) else []
    words += [recipe] if repeated else []
    return " ".join([*words, *_spelt(values)])


def _spelt(values: Mapping[str, Any]) -> list[str]:
    def spelt(value: Any) -> str:
        # Without blanks, so that a name can be taken apart at them.
        if isinstance(value, list | tuple):
            return f"[{','.join(map(spelt, value))}]"
        return str(value)

    return [f"{key.rpartition('.')[2]}={spelt(value)}" for key, value in values.items()]


def seeds_of(seeds: int | Iterable[int]) -> list[int]:
    """Return seeds that are given as a number of them or as a list, those of NumPy too.

    Raises:
        ConfigError: If there are none, one is named twice, or one is no whole number.
    """
    try:
        if isinstance(seeds, Iterable):
            found = sorted(map(operator.index, seeds))
        elif (n_seeds := operator.index(seeds)) < 1:
            raise ConfigError(f"--seeds must be at least 1, not {n_seeds}")
        else:
            return list(range(FIRST_SEED, FIRST_SEED + n_seeds))
    except TypeError:
        raise ConfigError(f"--seeds are whole numbers, not {seeds!r}") from None
    if not found or len(set(found)) < len(found):
        raise ConfigError("--seeds: name each seed once, such as 1,2,3")
    return found


def names_of(configs: Sequence[RunConfig]) -> list[str]:
    """Return a name for each run that says how it differs from the others, apart from the seed."""
    facts: list[dict[str, Any]] = []
    for config in configs:
        defaults = usual_settings(config.recipe, config.model, config.data)
        own = {key: after for key, (_, after) in differences(defaults, config).items()}
        for key in OF_A_RUN:
            own.pop(key, None)
        facts.append({"model": config.model, "recipe": config.recipe, **own})
    # Each backbone has its own weights; they are part of the name if one has several.
    hashes = {(config.model, config.weights_sha256) for config in configs}
    if len(hashes) == len({model for model, _ in hashes}):
        for each in facts:
            each.pop("weights_sha256", None)
    keys = dict.fromkeys(key for each in facts for key in each)
    varied = [key for key in keys if len({repr(each.get(key)) for each in facts}) > 1]
    names = []
    for config, each in zip(configs, facts, strict=True):
        words = [str(each[key]) for key in ("model", "recipe") if key in varied] or [config.model]
        own = {key: each[key] for key in varied if key in each}
        words += _spelt({key: own[key] for key in own if key not in ("model", "recipe")})
        names.append(" ".join(words))
    return names


def folder_name(data: str, configs: Mapping[str, RunConfig]) -> str:
    """Return the name of a comparison's folder, derived from its arms."""
    models = dict.fromkeys(config.model for config in configs.values())
    recipes = dict.fromkeys(config.recipe for config in configs.values())
    settings = dict.fromkeys(word for arm in configs for word in arm.split() if "=" in word)
    name = "-".join(["compare", data, *models, *recipes, *settings])
    if len(name) > 100:
        name = f"{name[:90]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return file_name(name)


def file_name(name: str) -> str:
    """Return a name that every file system accepts: other characters become hyphens."""
    return short_name("".join(c if c.isalnum() or c in "-_.=" else "-" for c in name), 200)
