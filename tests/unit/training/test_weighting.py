"""Weights of classes: what they are, and what they do to a loss."""

import keras
import numpy as np
import pytest

from convscope.backend import configure
from convscope.recipe import AugmentSettings, RunConfig
from convscope.training.augment import soft_targets
from convscope.training.batches import Examples
from convscope.training.fit import compile_at, training_batches
from convscope.training.weighting import class_weights, weighting_of_logistic

LABELS = np.repeat([0, 1, 3], [16, 4, 1])


@pytest.mark.parametrize(
    ("weighting", "ratios"), [("balanced", [1, 4, 0, 16]), ("sqrt", [1, 2, 0, 4])]
)
def test_weights_are_by_numbers_of_images_and_have_mean_1_over_them(weighting, ratios):
    weights = class_weights(weighting, LABELS, 4)
    np.testing.assert_allclose(weights / weights[0], ratios, rtol=1e-6)
    assert weights[LABELS].mean() == pytest.approx(1)
    assert class_weights("none", LABELS, 4) is None


def test_a_head_at_once_is_weighted_where_classes_are_shown_equally_often():
    assert weighting_of_logistic(RunConfig(balance=True)) == "balanced"
    assert weighting_of_logistic(RunConfig(class_weights="sqrt")) == "sqrt"
    assert weighting_of_logistic(RunConfig()) == "none"


def test_the_loss_of_a_batch_is_the_weighted_mean_and_accuracy_is_not_weighted():
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, activation="softmax")])
    inputs = np.random.default_rng(2).normal(size=(21, 3)).astype(np.float32)
    config = RunConfig(class_weights="balanced", batch_size=21)
    probs = model.predict_on_batch(inputs)
    wanted = class_weights("balanced", LABELS, 4)[LABELS] * -np.log(probs[np.arange(21), LABELS])
    compile_at(model, config, 0.0)
    examples = Examples.alternating([inputs], LABELS)
    (batch,) = (training_batches(config, examples, 4, 0)[index] for index in range(1))
    loss, accuracy = model.train_on_batch(*batch)
    assert loss == pytest.approx(wanted.mean(), rel=1e-5)
    assert accuracy == pytest.approx((probs.argmax(axis=1) == LABELS).mean())


@pytest.mark.parametrize(
    "settings", [{}, {"label_smoothing": 0.2}, {"augment": {"mixup": 1.0}}], ids=str
)
def test_a_step_goes_down_the_weighted_loss(settings):
    # Otherwise TensorFlow's gradient would be that of targets whose sum is 1.
    configure()
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, activation="softmax")])
    inputs = np.random.default_rng(2).normal(size=(21, 3)).astype(np.float32)
    config = RunConfig(
        class_weights="balanced",
        batch_size=21,
        optimizer={"name": "sgd", "momentum": 0, "weight_decay": 0},
        **settings,
    )
    compile_at(model, config, 0.5)
    examples = Examples.alternating([inputs], LABELS)
    ((inputs, targets),) = (training_batches(config, examples, 4, 0)[index] for index in range(1))
    probs = model.predict_on_batch(inputs)
    before = [np.array(each) for each in model.get_weights()]
    model.train_on_batch(inputs, targets)
    # d loss / d logits of an image: its weight times p, less its weighted target.
    slope = (targets.sum(axis=1, keepdims=True) * probs - targets) / len(inputs)
    for then, now, step in zip(
        before, model.get_weights(), (inputs.T @ slope, slope.sum(axis=0)), strict=True
    ):
        np.testing.assert_allclose(now, then - 0.5 * step, atol=1e-6)


def test_an_image_that_is_smoothed_or_mixed_keeps_its_own_weight():
    weights = np.array([1, 5], np.float32)
    inputs, labels = np.eye(2, dtype=np.float32), np.array([0, 1])
    _, smooth = soft_targets(AugmentSettings(), 0.2, 2, 83, 0, weights)(inputs, labels, 0)
    np.testing.assert_allclose(smooth, [[0.9, 0.1], [0.5, 4.5]], rtol=1e-6)
    mixed, soft = soft_targets(AugmentSettings(mixup=1.0), 0.0, 2, 83, 0, weights)(
        inputs, labels, 0
    )
    np.testing.assert_allclose(soft, mixed * weights, rtol=1e-6)
