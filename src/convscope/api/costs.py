"""Costs of training a run, and of using it."""

import csv
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from convscope import backend as backends
from convscope.api.models import build_model, run_config
from convscope.recipe import HeadSettings
from convscope.run import Run
from convscope.types import InputSpec

if TYPE_CHECKING:
    from convscope.models.sheet import ModelSheet

_LATENCY_ROUNDS = 30
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
    network = build_model(config, InputSpec(**state["input"]), len(run.class_names))
    return model_sheet(network)


def file_mb(run: Run) -> float:
    """Return the size of the evaluated model's file, in megabytes of 1,000,000 bytes."""
    return run.weights(str(run.metrics["weights"])).stat().st_size / _MEGABYTE


def latencies_ms(runs: Mapping[str, Run]) -> dict[str, float]:
    """Return the time that the saved model of each run takes for one image, in milliseconds.

    It is the time from raw pixels in memory to the prediction, as `convscope evaluate` makes it
    (the mean over views of the image, if the recipe says so). The models take turns, so that other
    work of the machine affects all of them alike; the median counts.

    Args:
        runs: Runs by name.

    Raises:
        RunError: If a saved model is missing or damaged.
    """
    from convscope.classifier.keras_model import open_classifier

    rng = np.random.default_rng(83)
    models, images = {}, {}
    for name, run in runs.items():
        models[name] = open_classifier(run, str(run.metrics["weights"]))
        # (1, height, width, channels)
        images[name] = rng.integers(0, 256, (1, *run.state["image_shape"]), dtype=np.uint8)
        for _ in range(3):
            models[name].predict_on_batch(images[name])
    return medians_ms(
        {name: partial(model.predict_on_batch, images[name]) for name, model in models.items()}
    )


def medians_ms(calls: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Return the median time of each call, in milliseconds; the calls take turns."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(_LATENCY_ROUNDS):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            taken[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(each) for name, each in taken.items()}
