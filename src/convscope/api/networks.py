"""Networks as they begin to learn, and several of them in one process."""

import sys
from typing import TYPE_CHECKING

from convscope.api.models import build_model, input_spec
from convscope.recipe import RunConfig
from convscope.types import Dataset

if TYPE_CHECKING:
    import keras


def new_network(config: RunConfig, dataset: Dataset) -> "keras.Model":
    """Return a network that is not pretrained as it begins to learn, not compiled."""
    from convscope.training.fused import with_fused_layers
    from convscope.training.start import start_weights

    network = build_model(config, input_spec(dataset, config), len(dataset.class_names))
    start_weights(network, config.start, dataset.train)
    return with_fused_layers(network)


def forget_networks(*, free_memory: bool = True) -> None:
    """Let the next networks be named as in a new process; free the memory of those before.

    To free memory takes a quarter of a second.
    """
    # Where none was built yet, the backend is not chosen yet.
    if "keras" in sys.modules:
        import keras

        keras.utils.clear_session(free_memory)
