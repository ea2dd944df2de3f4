"""Recipes: one file each; the docstring states command, cost and expected accuracy."""

from collections.abc import Callable

from convscope.errors import ConfigError
from convscope.recipe import Recipe
from convscope.registry import Registry

RECIPES: Registry[Callable[[], Recipe]] = Registry(
    "recipe",
    "convscope.recipes",
    group="convscope.recipes",
    needs={"trains": ("network", "backbone")},
)
"""Each is registered with `trains`: "network" (a model that learns from nothing) or "backbone", and
if it is made for one model, with that `model`, which is taken if none is named."""


def default_recipe(*, backbone: bool) -> str:
    """Return the recipe of a model for which none was named."""
    return "probe" if backbone else "tutorial"


def require_fitting(recipe: str, model: str, *, backbone: bool) -> None:
    """Refuse a recipe for backbones on a network without one, and the other way round.

    Raises:
        UnknownNameError: If there is no such recipe.
        ConfigError: If the two do not fit; the message names recipes that do.
    """
    kind = "backbone" if backbone else "network"
    if RECIPES.entry(recipe).info["trains"] == kind:
        return
    fitting = ", ".join(e.name for e in RECIPES.entries() if e.info["trains"] == kind)
    what = "a pretrained backbone" if backbone else "a network that learns from nothing"
    raise ConfigError(
        f"the recipe '{recipe}' is not for {model}, which is {what}; choose one of: {fitting}"
    )
