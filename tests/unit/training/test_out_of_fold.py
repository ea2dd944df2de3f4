"""Heads that answer for images that they were not trained on."""

import numpy as np

from convscope.progress import Progress
from convscope.recipe import RunConfig, resolve
from convscope.recipes import RECIPES
from convscope.training.out_of_fold import out_of_fold
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

    probs = out_of_fold(config, spec, parts, rng.permutation(60) % 3, 2, None, Progress())
    np.testing.assert_allclose(probs.sum(axis=1), 1, rtol=1e-5)
    # Heads that had learnt these sixty images by their 2,048 features would know them all.
    assert 0.2 < (probs.argmax(axis=1) == labels).mean() < 0.8
