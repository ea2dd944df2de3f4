"""Calibration: what is known of made-up probabilities, and what is stored in a run."""

import numpy as np
import pytest

from convscope.classifier.classify import at_temperature
from convscope.errors import ShapeError
from convscope.evaluation.calibration import (
    calibration_figures,
    error_by_chance,
    expected_calibration_error,
    fit_temperature,
    reliability,
)
from convscope.types import Predictions

N_IMAGES, N_CLASSES = 20_000, 5


def honest(seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities, and labels that were drawn with just those."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (N_IMAGES, N_CLASSES))
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (probs.cumsum(axis=1) > rng.random((N_IMAGES, 1))).argmax(axis=1)
    return probs.astype(np.float32), labels


def test_honest_probabilities_have_no_calibration_error_and_temperature_one():
    probs, labels = honest()
    assert expected_calibration_error(probs, labels) < 0.015
    assert fit_temperature(probs, labels) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("temperature", [0.4, 2.5])
def test_a_temperature_that_was_put_on_is_found_and_taken_off(temperature):
    probs, labels = honest()
    off = at_temperature(probs, 1 / temperature)
    assert expected_calibration_error(off, labels) > 0.05
    found = fit_temperature(off, labels)
    assert found == pytest.approx(temperature, rel=0.03)
    np.testing.assert_allclose(at_temperature(off, temperature), probs, atol=1e-5)
    np.testing.assert_array_equal(off.argmax(axis=1), probs.argmax(axis=1))


def test_a_network_without_a_mistake_among_few_is_not_taken_for_infallible():
    probs = np.full((20, 2), 0.4, np.float32)
    probs[:, 0] = 0.6
    labels = np.zeros(20, int)
    sure = at_temperature(probs, fit_temperature(probs, labels))[0, 0]
    assert 0.9 < sure < 0.97  # one wrong in 22, as Platt has it


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
    probs = np.array([[0.6, 0.4], [0.61, 0.39]])
    bins = reliability(probs, np.array([0, 1]))
    assert [each.n_images for each in bins] == [0] * 8 + [1, 1] + [0] * 5
    assert bins[8].high == 0.6
    assert bins[8].accuracy == 1
    assert bins[9].accuracy == 0


def test_the_loss_is_told_at_the_temperature_too():
    said = Predictions(np.array([[0.8, 0.2]] * 2), np.array([0, 1]), np.array(["a", "b"]), "val")
    # At a temperature of 1/2 the odds of 4 are odds of 16.
    loss = -(np.log(16 / 17) + np.log(1 / 17)) / 2
    assert calibration_figures(said, 0.5)["loss_at_temperature"] == pytest.approx(loss, abs=1e-6)


def test_logits_are_refused():
    with pytest.raises(ShapeError, match="must be probabilities"):
        expected_calibration_error(np.array([[2.0, -1.0]], np.float32), np.array([0]))


def test_of_few_images_some_calibration_error_is_chance():
    # Of five coins of 80 % four are right in 41 % of draws (error 0), three or five in 53 % (0.2),
    # two in 5.1 % (0.4).
    probs = np.array([[0.8, 0.2]] * 5, dtype=np.float32)
    assert error_by_chance(probs, multi_label=False, n_draws=2000) == pytest.approx(0.4, abs=1e-6)
    many = np.random.default_rng(1).dirichlet([1, 1, 1], 20_000).astype(np.float32)
    assert error_by_chance(many, multi_label=False, n_draws=20) < 0.012
    flags = np.full((5, 1), 0.8, np.float32)
    assert error_by_chance(flags, multi_label=True, n_draws=2000) == pytest.approx(0.4, abs=1e-6)
