"""Time that saved models take for one image, measured side by side."""

import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from convscope.run import Run

_ROUNDS = 30


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
    for _ in range(_ROUNDS):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            taken[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(each) for name, each in taken.items()}
