"""Building models and inspecting them."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convscope import backend as backends
from convscope.errors import ConfigError
from convscope.models import is_backbone
from convscope.models.backbones import BACKBONES
from convscope.paths import path_or_none
from convscope.planning.networks import build_model, chance_kept, scaling_of
from convscope.recipe import resolve
from convscope.recipes import RECIPES, default_recipe, require_fitting
from convscope.run import Run
from convscope.types import InputSpec

if TYPE_CHECKING:
    from convscope.models.sheet import ModelSheet


def describe(
    model: str,
    *,
    recipe: str | None = None,
    image_size: int | None = None,
    channels: int = 3,
    n_classes: int = 10,
    settings: Mapping[str, Any] | None = None,
    picture: Path | str | None = None,
) -> "ModelSheet":
    """Return a model's layers, the arithmetic of their sizes, and their cost.

    Args:
        model: Registered model.
        recipe: Recipe that decides a backbone's head and trainable part; None takes the default.
        image_size: Side in pixels of the network's input; None takes the recipe's, or 32.
        channels: Number of channels: 1 for grey, 3 for RGB.
        n_classes: Number of classes, at least 2.
        settings: Other settings by dotted name ("backbone.cut").
        picture: File for a picture of the architecture; None draws nothing.

    Raises:
        UnknownNameError: If there is no such model or recipe.
        ConfigError: If the model cannot be built for that size.
        RunError: If `picture` belongs to a run.
    """
    from convscope.models.diagram import draw_architecture
    from convscope.models.sheet import model_sheet

    if (place := path_or_none(picture, "--out")) is not None:
        Run.require_spare(place)
    backbone = is_backbone(model)
    recipe = recipe or default_recipe(backbone=backbone)
    require_fitting(recipe, model, backbone=backbone)
    if channels not in (1, 3):
        raise ConfigError(f"an image has 1 channel (grey) or 3 (RGB), not {channels}")
    given = {"model": model, "recipe": recipe, **(settings or {})}
    if image_size is not None:
        given["image_size"] = image_size
    config = resolve(RECIPES.get(recipe)(), given)
    size = config.image_size or 32
    backends.configure()
    spec = InputSpec(size, size, channels, scaling_of(config))
    with chance_kept():
        network = build_model(config, spec, n_classes)
    stages = BACKBONES.get(model).stages if backbone else None
    if place is not None:
        draw_architecture(network, place, title=model, stages=stages)
    return model_sheet(network, stages)
