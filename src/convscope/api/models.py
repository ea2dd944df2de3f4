"""Building models and inspecting them."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convscope import backend as backends
from convscope.datasets import DATASETS
from convscope.errors import ConfigError
from convscope.models import MODELS, is_backbone
from convscope.models.backbones import BACKBONES
from convscope.paths import path_or_none
from convscope.recipe import RunConfig, read_run_config, resolve
from convscope.recipes import RECIPES, default_recipe, require_fitting
from convscope.run import Run
from convscope.types import Dataset, InputSpec

if TYPE_CHECKING:
    import keras

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
    """
    from convscope.models.diagram import draw_architecture
    from convscope.models.sheet import model_sheet

    place = path_or_none(picture, "--out")
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
    spec = InputSpec(size, size, channels, _scaling(config))
    network = build_model(config, spec, n_classes)
    stages = BACKBONES.get(model).stages if backbone else None
    if place is not None:
        draw_architecture(network, place, title=model, stages=stages)
    return model_sheet(network, stages)


def run_config(run: Run) -> RunConfig:
    """Return the resolved settings of a run."""
    return read_run_config(run.config_file)


def input_spec(dataset: Dataset, config: RunConfig) -> InputSpec:
    """Return the network's input: the data's own size unless `image_size` says otherwise."""
    height, width, channels = dataset.image_shape
    size = config.image_size
    return InputSpec(size or height, size or width, channels, _scaling(config))


def build_model(config: RunConfig, spec: InputSpec, n_classes: int) -> "keras.Model":
    """Return the untrained model of a configuration: the same weights for the same seed.

    A backbone has random weights too: training loads the pretrained ones.
    """
    import keras

    keras.utils.set_random_seed(config.seed)
    with backends.precision_policy(config.precision):
        if is_backbone(config.model):
            from convscope.models.transfer import TransferModel

            cut = config.backbone.cut
            return TransferModel(config.model, spec, n_classes, config.head, cut).whole
        return MODELS.get(config.model)(spec, n_classes)


def plugins_of(config: RunConfig) -> list[str]:
    """Return the installed packages, except convscope, that a run's parts come from."""
    models = BACKBONES if is_backbone(config.model) else MODELS
    entries = (
        models.entry(config.model),
        RECIPES.entry(config.recipe),
        DATASETS.entry(config.data),
    )
    return sorted({entry.package.split()[0] for entry in entries if entry.package is not None})


def _scaling(config: RunConfig) -> str:
    if not is_backbone(config.model):
        return "unit"
    chosen = config.backbone.scaling
    return BACKBONES.get(config.model).scaling if chosen == "own" else chosen


def new_network(config: RunConfig, dataset: Dataset) -> "keras.Model":
    """Return a new network that is not pretrained, uncompiled."""
    from convscope.training.fused import with_fused_layers
    from convscope.training.start import start_weights

    network = build_model(config, input_spec(dataset, config), len(dataset.class_names))
    start_weights(network, config.start, dataset.train)
    return with_fused_layers(network)
