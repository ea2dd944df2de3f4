"""The untrained network of settings."""

import contextlib
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from convscope import backend as backends
from convscope.datasets import DATASETS
from convscope.models import MODELS, is_backbone
from convscope.models.backbones import BACKBONES
from convscope.models.sigmoid import with_sigmoid
from convscope.recipe import RunConfig
from convscope.recipes import RECIPES
from convscope.types import Dataset, InputSpec

if TYPE_CHECKING:
    import keras


def input_spec(dataset: Dataset, config: RunConfig) -> InputSpec:
    """Return the network's input: the data's own size unless `image_size` says otherwise."""
    height, width, channels = dataset.image_shape
    size = config.image_size
    return InputSpec(size or height, size or width, channels, scaling_of(config))


@contextlib.contextmanager
def chance_kept() -> Iterator[None]:
    """Leave the caller's random numbers as they were, where a network is only looked at."""
    drawn, drawn_by_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(drawn)
        np.random.set_state(drawn_by_numpy)  # noqa: NPY002


def build_model(config: RunConfig, spec: InputSpec, n_classes: int) -> "keras.Model":
    """Return the untrained model of a configuration: the same weights for the same seed.

    A backbone has random weights too: training loads the pretrained ones.
    """
    import keras

    keras.utils.set_random_seed(config.seed)
    with backends.precision_policy(config.precision):
        if is_backbone(config.model):
            from convscope.models.transfer import TransferModel

            cut, activation = config.backbone.cut, config.activation
            return TransferModel(config.model, spec, n_classes, config.head, cut, activation).whole
        network: keras.Model = MODELS.get(config.model)(spec, n_classes)
        return with_sigmoid(network) if config.multi_label else network


def plugins_of(config: RunConfig) -> list[str]:
    """Return the installed packages, except convscope, that a run's parts come from."""
    models = BACKBONES if is_backbone(config.model) else MODELS
    entries = (
        models.entry(config.model),
        RECIPES.entry(config.recipe),
        DATASETS.entry(config.data),
    )
    return sorted({entry.package.split()[0] for entry in entries if entry.package is not None})


def scaling_of(config: RunConfig) -> str:
    """Return the scaling of pixels that the network contains; see `InputSpec.scaling`."""
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
