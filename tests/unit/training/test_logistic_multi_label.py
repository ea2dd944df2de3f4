"""Logistic regression of each class for itself."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from convscope.progress import Progress
from convscope.recipe import AugmentSettings
from convscope.training.augment import soft_targets
from convscope.training.logistic import choose_penalty, held_out_probs
from convscope.training.logistic_fit import fit_logistic
from convscope.training.temperature import calibrated_loss


def images(n_images: int = 400, n_features: int = 12, n_classes: int = 4, seed: int = 0):
    random = np.random.default_rng(seed)
    features = random.normal(size=(n_images, n_features)).astype(np.float32)
    logits = features @ random.normal(size=(n_features, n_classes)) - np.arange(n_classes) / 2
    labels = (random.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.uint8)
    return features, labels


@pytest.mark.parametrize("penalty", [1.0, 0.01, 0.0003])
def test_each_class_is_at_the_optimum_of_scikit_learn(penalty):
    features, labels = images()
    head = fit_logistic(features, labels, 4, penalty)
    for index in range(4):
        model = LogisticRegression(C=1 / (penalty * len(labels)), tol=1e-8, max_iter=5_000)
        model.fit(features.astype(np.float64), labels[:, index])
        expected = model.predict_proba(features)[:, 1]
        np.testing.assert_allclose(head.probs(features)[:, index], expected, atol=5e-4)
        np.testing.assert_allclose(head.kernel[:, index], model.coef_[0], atol=5e-3)
        assert head.bias[index] == pytest.approx(model.intercept_[0], abs=5e-3)


def test_the_derivative_is_zero_there():
    features, labels = images()
    head = fit_logistic(features, labels, 4, 0.03)
    errors = head.probs(features) - labels
    slopes = features.T @ errors / len(labels) + 0.03 * head.kernel
    assert abs(slopes).max() < 2e-5
    assert abs(errors.mean(axis=0)).max() < 2e-5


def test_a_class_that_none_or_all_of_the_images_have_is_certain():
    features, labels = images()
    labels[:, 0], labels[:, 1] = 0, 1
    probs = fit_logistic(features, labels, 4, 0.03).probs(features)
    assert probs[:, 0].max() < 1e-6
    assert probs[:, 1].min() > 1 - 1e-6
    assert probs[:, 2].std() > 0.05


def test_only_the_images_that_are_named_are_learnt():
    features, labels = images()
    some = np.arange(0, 400, 2)
    one = fit_logistic(features, labels, 4, 0.03, learnt=some)
    other = fit_logistic(features[some], labels[some], 4, 0.03)
    np.testing.assert_allclose(one.kernel, other.kernel, atol=1e-6)


def test_the_penalty_is_chosen_by_the_loss_on_held_out_images():
    features, labels = images(200, 60)
    tried = choose_penalty(features, labels, 4, seed=0, progress=Progress())
    assert tried[0].loss == min(each.loss for each in tried)
    assert 0.5 < tried[0].accuracy < 1
    rows, probs = held_out_probs(features, labels, 4, tried[0].penalty, seed=0)
    assert sorted(rows) == list(range(200))
    assert calibrated_loss(probs, labels[rows]) == pytest.approx(tried[0].loss, rel=1e-4)
    # Far from it on either side the loss is higher.
    by_penalty = {each.penalty: each.loss for each in tried}
    assert max(by_penalty.values()) > 1.001 * tried[0].loss


def test_labels_are_smoothed_towards_a_half_and_mixed_class_by_class():
    labels = np.array([[1, 0, 1], [0, 0, 0]], np.uint8)
    inputs = np.zeros((2, 4, 4, 1), np.float32)
    smooth = soft_targets(AugmentSettings(), 0.2, 3, 83, 0)
    _, soft = smooth(inputs, labels, 0)
    np.testing.assert_allclose(soft, [[0.9, 0.1, 0.9], [0.1, 0.1, 0.1]], rtol=1e-6)
    mix = soft_targets(AugmentSettings(mixup=0.4), 0.0, 3, 83, 0)
    inputs[0] = 1
    mixed, soft = mix(inputs, labels, 0)
    kept = mixed[:, 0, 0, 0]  # share of the first image in each
    np.testing.assert_allclose(soft, kept[:, None] * labels[0], rtol=1e-6)
