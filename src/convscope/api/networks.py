"""Untrained networks, and several of them in one process."""

import sys
from typing import TYPE_CHECKING

from convscope.api.models import build_model, input_spec
from convscope.recipe import RunConfig
from convscope.types import Dataset

if TYPE_CHECKING:
    import keras


def new_network(config: RunConfig, dataset: Dataset) -> "keras.Model":
    """Return a new network that is not pretrained, uncompiled."""
    from convscope.training.fused import with_fused_layers
    from convscope.training.start import start_weights

    network = build_model(config, input_spec(dataset, config), len(dataset.class_names))
    start_weights(network, config.start, dataset.train)
    return with_fused_layers(network)


def forget_networks(*, free_memory: bool = True) -> None:
    """Reset Keras' names of layers as in a new process; free the memory of earlier networks.

    Freeing memory takes a quarter of a second.
    """
    # Before the first network is built, the backend is not chosen yet.
    if "keras" in sys.modules:
        import keras

        keras.utils.clear_session(free_memory)
