"""What training begins from: everything decided and loaded."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from convscope.recipe import RunConfig
from convscope.types import Dataset

if TYPE_CHECKING:
    import keras

    from convscope.models.weights import FoundWeights
    from convscope.training.budget import Pace


@dataclass(frozen=True)
class Plan:
    """A run that can begin.

    Attributes:
        config: Resolved settings; its `config.yaml`.
        dataset: Divided into parts.
        weights: Where a backbone's weights are.
        network: Compiled for the settings and untrained, if one was built to measure its speed.
        pace: What keeps training to its time, if it has one.
    """

    config: RunConfig
    dataset: Dataset
    weights: "FoundWeights | None" = None
    network: "keras.Model | None" = None
    pace: "Pace | None" = None
