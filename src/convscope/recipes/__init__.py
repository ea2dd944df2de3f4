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
"""Recipes are registered with `trains`: "network" (trained from scratch) or "backbone"; those made
for one model also with that `model`, the default if none is named."""


def default_recipe(*, backbone: bool, of_data: str | None = None) -> str:
    """Return the default recipe of a model.

    Args:
        backbone: Whether the model is a pretrained backbone.
        of_data: Recipe for backbones with which the dataset is registered, if there is one.
    """
    return (of_data or "probe") if backbone else "tutorial"


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
