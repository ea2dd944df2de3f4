"""Costs of training a run, and the size of what it trained."""

import csv
from typing import TYPE_CHECKING

from convscope import backend as backends
from convscope.planning.networks import build_model, chance_kept
from convscope.planning.plan import run_config
from convscope.recipe import HeadSettings
from convscope.run import Run
from convscope.types import InputSpec

if TYPE_CHECKING:
    from convscope.models.sheet import ModelSheet

_MEGABYTE = 1e6


def train_seconds(run: Run) -> float:
    """Return the time of its epochs without their validation, and of the search for a head."""
    from convscope.training.results import read_results

    seconds = sum(row["seconds"] for row in read_results(run.results_file))
    if run.heads_file.exists():
        with run.heads_file.open(encoding="utf-8", newline="") as file:
            seconds += sum(float(row["seconds"]) for row in csv.DictReader(file))
    return float(round(seconds, 3))


def seconds_with_features(run: Run) -> float:
    """Return `train_seconds` plus the time of its features, including those found in the cache."""
    return float(round(train_seconds(run) + run.state.get("feature_seconds", 0.0), 3))


def sheet_of(run: Run) -> "ModelSheet":
    """Return the sheet of the network that a run trained."""
    from convscope.models.sheet import model_sheet

    state, config = run.state, run_config(run)
    if "head" in state:
        config = config.model_copy(update={"head": HeadSettings(**state["head"])})
    backends.configure_for_use(config.backend)
    with chance_kept():
        network = build_model(config, InputSpec(**state["input"]), len(run.class_names))
    return model_sheet(network)


def file_mb(run: Run) -> float:
    """Return the size of the evaluated model's file, in megabytes of 1,000,000 bytes."""
    return run.weights(str(run.metrics["weights"])).stat().st_size / _MEGABYTE
