"""What a run has by default: the recipe that is usual for data or a model, and its settings."""

from collections.abc import Mapping
from typing import Any

from convscope.datasets import DATASETS, settings_of
from convscope.models import is_backbone
from convscope.progress import Progress
from convscope.recipe import RunConfig, dotted, flat, resolve
from convscope.recipes import RECIPES, default_recipe, settings_of_model


def usual_settings(recipe: str, model: str, data: str | None) -> RunConfig:
    """Return the settings of a recipe for this model and this data, if nothing else is asked for.

    Args:
        recipe: Registered recipe.
        model: Model's name.
        data: Built-in dataset; None for settings in which no dataset has a part.

    Raises:
        UnknownNameError: If there is no such recipe or dataset.
    """
    names = {"recipe": recipe, "model": model}
    # What the data needs is stronger: a mirrored digit is wrong for every model.
    of_data = {} if data is None else {"data": data, **settings_of(data)}
    return resolve(RECIPES.get(recipe)(), names, settings_of_model(recipe, model), of_data)


def wishes_of(from_file: Mapping[str, Any], recipe: str) -> dict[str, Any]:
    """Return the settings of a file that somebody chose, without what it merely repeats.

    The file of a run repeats what is usual for its own recipe, model and data; that is no wish of
    the user, stronger than the needs of another model or data.

    Args:
        from_file: Settings by dotted name.
        recipe: Registered recipe that they are for.
    """
    model = from_file.get("model")
    if model is None:
        model = RECIPES.entry(recipe).info.get("model", RunConfig.model_fields["model"].default)
    # A division in a file without data repeats nothing.
    known = from_file.get("data") if from_file.get("data") in DATASETS.names() else None
    usual = usual_settings(recipe, str(model), known)
    repeated = flat(usual.model_dump(mode="json", exclude=None if known else {"split"}))
    return {
        key: value
        for key, value in dotted(from_file).items()
        if key not in repeated or value != repeated[key]
    }


def recipe_for(model: str, data: str, *, epochs: bool) -> str:
    """Return the recipe of a named model if no recipe is named.

    Args:
        model: Registered model.
        data: Built-in dataset, or "folder".
        epochs: Whether a number of epochs was asked for.
    """
    # Who wants epochs does not want a head that is fitted at once.
    of_data = None if epochs else DATASETS.entry(data).info.get("recipe")
    return default_recipe(backbone=is_backbone(model), of_data=of_data)


def usual_recipe(chosen: Mapping[str, Any], progress: Progress) -> str | None:
    """Return the recipe that is usual for the data, if its backbone's weights are at hand.

    Args:
        chosen: Settings that the user named, by dotted name.
        progress: Called with a note if the weights are missing.
    """
    from convscope.models.backbones import BACKBONES
    from convscope.models.weights import weights_at_hand

    entry = DATASETS.entry(str(chosen.get("data", "cifar10")))
    recipe: str | None = entry.info.get("recipe")
    if recipe is None or "weights" in chosen:
        return recipe
    backbone = BACKBONES.get(RECIPES.entry(recipe).info["model"])
    if weights_at_hand(backbone) is None:
        progress.say(
            f"Note: a pretrained network would be far better on photos; {backbone.weights.source}"
        )
        return None
    return recipe
