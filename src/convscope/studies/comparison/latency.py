"""Time that saved models take for one image, measured side by side."""

from collections.abc import Mapping
from functools import partial

import numpy as np

from convscope.engines.choice import median_ms
from convscope.run import Run

_SECONDS = 0.5
"""Time for each model."""


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
    calls = {}
    for name, run in runs.items():
        model = open_classifier(run, str(run.metrics["weights"]))
        # (1, height, width, channels)
        image = rng.integers(0, 256, (1, *run.state["image_shape"]), dtype=np.uint8)
        calls[name] = partial(model.predict_on_batch, image)
    return median_ms(calls, _SECONDS * len(calls))
