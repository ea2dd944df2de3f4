"""Recipes: one file each; the docstring states command, cost and expected accuracy."""

from collections.abc import Callable
from typing import Any

from convscope.errors import ConfigError
from convscope.recipe import Recipe, RunConfig
from convscope.registry import Registry

RECIPES: Registry[Callable[[], Recipe]] = Registry(
    "recipe",
    "convscope.recipes",
    group="convscope.recipes",
    needs={"trains": ("network", "backbone")},
)
"""Recipes are registered with `trains`: "network" (trained from scratch) or "backbone"; those made
for one model also with that `model`, the default if none is named. `of_models` has, by model other
than that one, settings by dotted name that it needs in place of the recipe's; `curves` has the
networks that it was made for, with their measured accuracy."""


def default_recipe(*, backbone: bool, of_data: str | None = None) -> str:
    """Return the default recipe of a model.

    Args:
        backbone: Whether the model is a pretrained backbone.
        of_data: Recipe for backbones with which the dataset is registered, if there is one.
    """
    return (of_data or "probe") if backbone else "tutorial"


def settings_of_model(recipe: str, model: str) -> dict[str, Any]:
    """Return the settings of a recipe, by dotted name, that are for this model alone."""
    found: dict[str, Any] = RECIPES.entry(recipe).info.get("of_models", {}).get(model, {})
    return found


def recipe_made_for(model: str) -> str | None:
    """Return the recipe that was made for a network; None if none was."""
    made = (entry.name for entry in RECIPES.entries() if model in entry.info.get("curves", {}))
    return next(made, None)


def usual_model(recipe: str | None, option: str = "--model") -> str:
    """Return the model that a recipe trains if none is named.

    Args:
        recipe: Registered recipe; None if none is named either.
        option: Option that names one.

    Raises:
        UnknownNameError: If there is no such recipe.
        ConfigError: If it is for backbones of any kind, so that one has to be named.
    """
    info = {} if recipe is None else RECIPES.entry(recipe).info
    if "model" not in info and info.get("trains") == "backbone":
        raise ConfigError(
            f"the recipe '{recipe}' needs a pretrained backbone; name one with {option}, such as "
            f"{option} efficientnet_lite0 ('convscope models' lists them)"
        )
    return str(info.get("model", RunConfig.model_fields["model"].default))


def require_fitting(recipe: str, model: str, *, backbone: bool) -> None:
    """Reject a recipe for backbones on a network without one, and vice versa.

    Raises:
        UnknownNameError: If there is no such recipe.
        ConfigError: If the two do not match; the message names recipes that do.
    """
    kind = "backbone" if backbone else "network"
    if RECIPES.entry(recipe).info["trains"] == kind:
        return
    fitting = ", ".join(e.name for e in RECIPES.entries() if e.info["trains"] == kind)
    what = "a pretrained backbone" if backbone else "a network that is trained from scratch"
    raise ConfigError(
        f"the recipe '{recipe}' is not for {model}, which is {what}; choose one of: {fitting}"
    )
