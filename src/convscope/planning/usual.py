"""What a run has by default: the recipe that is usual for data or a model, and its settings."""

from collections.abc import Mapping
from typing import Any

from convscope.datasets import DATASETS, settings_of
from convscope.models import is_backbone
from convscope.progress import Progress
from convscope.recipe import RunConfig, resolve
from convscope.recipes import RECIPES, default_recipe, settings_of_model


def usual_settings(recipe: str, model: str, data: str | None) -> RunConfig:
    """Return the settings of a recipe for this model and this data, if nothing else is asked for.

    Args:
        recipe: Registered recipe.
        model: Model's name.
        data: Registered dataset; None for settings in which no dataset has a part.

    Raises:
        UnknownNameError: If there is no such recipe or dataset.
    """
    names = {"recipe": recipe, "model": model}
    # What the data needs is stronger: a mirrored digit is wrong for every model.
    of_data = {} if data is None else {"data": data, **settings_of(data)}
    return resolve(RECIPES.get(recipe)(), names, settings_of_model(recipe, model), of_data)


def recipe_for(model: str, data: str, *, epochs: bool) -> str:
    """Return the recipe of a named model if no recipe is named.

    Args:
        model: Registered model.
        data: Registered dataset, or "folder".
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
