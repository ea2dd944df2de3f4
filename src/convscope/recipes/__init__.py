"""Recipes: one file each; the docstring states command, cost and expected accuracy."""

from collections.abc import Callable

from convscope.recipe import Recipe
from convscope.registry import Registry

RECIPES: Registry[Callable[[], Recipe]] = Registry("recipe", "convscope.recipes")
