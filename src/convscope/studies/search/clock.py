"""Time of a search: what is left, and what a candidate will take of it."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from convscope.planning.plan import Plan
from convscope.progress import Progress
from convscope.recipe import RunConfig
from convscope.run import Run
from convscope.studies.search.candidates import FIRST, Candidate, folder_of
from convscope.studies.search.results import Results
from convscope.types import Dataset

_MOST_EPOCHS = 8
"""Epochs of fine-tuning, of which more gained nothing."""

_COUNTED_AT = 224
"""Side in pixels at which the multiply-adds of two networks are compared."""

_EPOCH_COST, _EPOCH_COST_CONVERTED = 0.7, 1.7
"""Time to train the last stage on an image, relative to running the frozen backbone on it: in
Keras, and in ONNX Runtime, which trains nothing."""

_START_S = 5.0
"""Seconds to begin with a candidate, or to write what is left at the end."""


class TimedLoading:
    """Function that loads the data of settings, and knows how long that took.

    Args:
        load: Function that loads them.

    Attributes:
        seconds: Longest time of its calls: images that were decoded before are read at once.
    """

    def __init__(self, load: Callable[[RunConfig], Dataset]) -> None:
        self.seconds = 0.0
        self._load = load

    def __call__(self, config: RunConfig) -> Dataset:
        """Return the data of these settings."""
        began = time.monotonic()
        dataset = self._load(config)
        self.seconds = max(self.seconds, time.monotonic() - began)
        return dataset


class Clock:
    """Says what fits into the time of a search, once its first candidate is trained.

    Args:
        run: Run of the search.
        plan: Plan of the first candidate.
        results: What was tried so far.
        ends: Time at which the search ends, as `time.monotonic` counts it.
        n_test: Number of test images to classify at the end.
        loading_s: Seconds in which the images were read; at another size they are decoded again.
        refits: Whether the winner is trained once more, on validation images too.
        remote: Whether candidates are trained by other processes, whose features may not be here.
    """

    def __init__(
        self,
        run: Run,
        plan: Plan,
        results: Results,
        *,
        ends: float,
        n_test: int,
        loading_s: float,
        refits: bool,
        remote: bool,
    ) -> None:
        data = plan.dataset
        self._n_train, self._n_val = len(data.train), len(data.validation)
        self._n_test = n_test
        self._loading_s = loading_s
        self._run = run
        self._config = plan.config
        self._results = results
        self._ends = ends
        self._refits = refits
        self._remote = remote

    def left(self) -> float:
        """Return the seconds that are left; negative if it is over."""
        return self._ends - time.monotonic()

    def for_long(self, first: Candidate) -> float:
        """Return the seconds for a training that may take what is left, and its refit.

        Args:
            first: First candidate, which may win in the end.
        """
        # The refit takes as long again.
        return (self.left() - self.finishing(first)) * (0.5 if self._refits else 1.0)

    def fits(self, seconds: float, after: float) -> bool:
        """Return whether a training ends in time, with what has to follow it."""
        return seconds + after <= self.left()

    def fits_head(self, candidate: Candidate, views: int = 1) -> bool:
        """Return whether heads on so many versions of each training image end in time.

        Args:
            candidate: Candidate with the network; if it was tried, its features are there.
            views: Number of versions.
        """
        there = self._results.find(candidate.name) is not None
        n_images = (views - there) * self._n_train + (not there) * self._n_val
        features = n_images * self._per_image * self.cost(candidate.settings)
        seconds = features + self._beside_features(candidate.settings, views)
        size = self._config.image_size
        if not there and candidate.settings.get("image_size", size) != size:
            seconds += self._loading_s
        return self.fits(seconds, self.finishing(candidate, views))

    def cost(self, settings: Mapping[str, Any]) -> float:
        """Return the time for an image with settings, relative to that of the first candidate."""
        config, cost = self._config, 1.0
        if "model" in settings:
            cost *= relative_cost(settings["model"], config.model)
        if "image_size" in settings and config.image_size is not None:
            cost *= (settings["image_size"] / config.image_size) ** 2
        return float(cost)

    def epochs(self, views: int, network: Mapping[str, Any]) -> int:
        """Return the epochs of fine-tuning that fit, with its refit if there is one.

        Args:
            views: Number of versions of each training image.
            network: Settings of the network.
        """
        from convscope.training.inference import can_convert

        each = self._per_image * self.cost(network)
        epoch = each * (_EPOCH_COST_CONVERTED if can_convert() else _EPOCH_COST)
        n_all = self._n_train + self._n_val
        features = each * (views * n_all + self._n_test)
        fixed = 2 * self._beside_features({}) + features
        first = self._n_train * epoch
        again = n_all * epoch if self._refits else 0
        return math.floor(min(_MOST_EPOCHS, (self.left() - fixed) / (first + again)))

    def finishing(self, candidate: Candidate, views: int | None = None) -> float:
        """Return the seconds to finish with a candidate: its refit and the test images.

        Args:
            candidate: Candidate that may win.
            views: Number of versions of each training image; None takes that which it learnt.
        """
        settings = candidate.settings
        each, again = self._per_image * self.cost(settings), _START_S
        if candidate.pace and self._refits:
            mean = self._results.mean_seconds(candidate.name)
            again = mean * (1 + self._n_val / self._n_train)
        elif self._refits:
            views = int(settings.get("backbone.views", 1)) if views is None else views
            # Further versions of validation images; heads for answers out of fold; the head.
            again = (views - 1) * self._n_val * each + self._beside_features(settings, views)
        if self._remote:
            again += (self._n_train + self._n_val) * each
        return each * self._n_test + again

    @property
    def _per_image(self) -> float:
        """Seconds in which the frozen backbone of the first candidate runs on an image."""
        seconds = float(folder_of(self._run, FIRST, 0).state["feature_seconds"])
        # A handful of small images takes none that a clock would show.
        return max(seconds, 0.001) / (self._n_train + self._n_val)

    def _beside_features(self, settings: Mapping[str, Any], views: int = 1) -> float:
        """Return the seconds of a candidate, or its last training, that are not its features.

        For each of its networks what the first candidate took, half of it for heads; which learn
        so many versions of each image.
        """
        from convscope.models.backbones import BACKBONES

        first = self._results.find(FIRST)
        assert first is not None
        state = folder_of(self._run, FIRST, 0).state
        # Found in the cache they took no time of the candidate's; of earlier versions that is
        # unknown.
        spent = float(state.get("feature_seconds_here", state["feature_seconds"]))
        n_networks = len(BACKBONES.get(settings.get("model", self._config.model)).parts) or 1
        return _START_S + n_networks * (1 + views) / 2 * max(0.0, first.seconds - spent)


def relative_cost(model: str, other: str) -> float:
    """Return the multiply-adds of a backbone relative to those of another; inf if not known."""
    from convscope.models.backbones import BACKBONES

    one, two = (BACKBONES.get(name).multiply_adds.get(_COUNTED_AT) for name in (model, other))
    return math.inf if one is None or two is None else one / two


def seconds_per_image(plan: Plan) -> float:
    """Return the time in which the frozen backbone of a plan runs on an image, measured."""
    from convscope.classifier.classify import batch_size_for
    from convscope.models.folding import fold_batch_norm
    from convscope.models.transfer import build_transfer
    from convscope.planning.networks import input_spec
    from convscope.training.inference import FrozenInference

    config, data = plan.config, plan.dataset
    spec = input_spec(data, config)
    network = build_transfer(config.model, spec, len(data.class_names), config.head)
    lower = fold_batch_norm(network.lower())
    batch = data.train.images[np.arange(batch_size_for(spec.height)) % len(data.train)]
    inference = FrozenInference(lower, f"speed of {config.model}", len(batch), Progress())
    inference(batch)  # prepares
    start = time.perf_counter()
    inference(batch)
    return (time.perf_counter() - start) / len(batch)
