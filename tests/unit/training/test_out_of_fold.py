"""Heads that answer for images that they were not trained on."""

import numpy as np
import pytest

from convscope.progress import Progress
from convscope.recipe import RunConfig, resolve
from convscope.recipes import RECIPES
from convscope.training.out_of_fold import FrozenHeads, out_of_fold
from convscope.training.temperature import best_temperature
from convscope.types import InputSpec, Split


def test_no_image_is_answered_by_a_head_that_learnt_it():
    rng = np.random.default_rng(1)
    # Noise: nothing can be known about images that were not learnt.
    images = rng.integers(0, 256, (60, 32, 32, 3)).astype(np.uint8)
    labels = np.arange(60) % 2
    whole = Split(images, labels, np.array([str(index) for index in range(60)]))
    parts = (whole.select(np.arange(40)), whole.select(np.arange(40, 60)))
    config: RunConfig = resolve(
        RECIPES.get("logistic")(), {"model": "efficientnet_lite0", "head.penalty": 0.0001}
    )
    spec = InputSpec(32, 32, 3, "lite")

    heads = FrozenHeads(config, spec, parts, 2, None, Progress())
    probs = out_of_fold(heads, rng.permutation(60) % 3)
    np.testing.assert_allclose(probs.sum(axis=1), 1, rtol=1e-5)
    # Heads that had learnt these sixty images by their 2,048 features would know them all.
    assert 0.2 < (probs.argmax(axis=1) == labels).mean() < 0.8


def test_the_probabilities_are_neither_too_sure_nor_too_unsure():
    rng = np.random.default_rng(1)
    labels = np.arange(120) % 2
    # Brighter images are of the second class, mostly.
    bright = 90 + 60 * labels + rng.normal(0, 40, 120)
    images = (bright[:, None, None, None] + rng.normal(0, 20, (120, 32, 32, 3))).clip(0, 255)
    whole = Split(images.astype(np.uint8), labels, np.array([str(n) for n in range(120)]))
    parts = (whole.select(np.arange(80)), whole.select(np.arange(80, 120)))
    config: RunConfig = resolve(
        RECIPES.get("logistic")(), {"model": "efficientnet_lite0", "head.penalty": 0.0001}
    )
    spec = InputSpec(32, 32, 3, "lite")

    heads = FrozenHeads(config, spec, parts, 2, None, Progress())
    probs = out_of_fold(heads, rng.permutation(120) % 3)
    assert 0.6 < (probs.argmax(axis=1) == labels).mean() < 0.95
    assert best_temperature(probs, labels) == pytest.approx(1, abs=0.05)
