"""The plan of a run: everything decided and loaded."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from convscope.recipe import RunConfig, read_run_config
from convscope.run import Run
from convscope.types import Dataset

if TYPE_CHECKING:
    from convscope.models.weights import FoundWeights
    from convscope.training.pace import Pace
    from convscope.training.steps import Steps


@dataclass(frozen=True)
class Plan:
    """A run that can start.

    Attributes:
        config: Resolved settings; the run's `config.yaml`.
        dataset: Dataset, divided into parts.
        weights: File of the backbone's weights.
        measured: Steps of a compiled and untrained network, if its speed was measured.
        of_smaller: Time of a step on the smaller images of progressive resizing, relative to one at
            full size, if that was measured.
        pace: Limit that keeps training to its time, if there is one.
    """

    config: RunConfig
    dataset: Dataset
    weights: "FoundWeights | None" = None
    measured: "Steps | None" = None
    of_smaller: float | None = None
    pace: "Pace | None" = None


def run_config(run: Run) -> RunConfig:
    """Return the resolved settings of a run."""
    return read_run_config(run.config_file)
