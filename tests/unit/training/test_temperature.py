"""The loss at the best temperature."""

import numpy as np
import pytest

from convscope.classifier.classify import at_temperature
from convscope.classifier.decisions import image_losses
from convscope.training.temperature import best_temperature, calibrated_loss


@pytest.mark.parametrize("several", [False, True])
def test_how_sure_a_classifier_was_made_does_not_matter(several):
    rng = np.random.default_rng(3)
    odds = rng.normal(size=(2000, 4))
    if several:
        probs = (1 / (1 + np.exp(-odds))).astype(np.float32)
        labels = (rng.random(probs.shape) < probs).astype(np.uint8)
    else:
        probs = (np.exp(odds) / np.exp(odds).sum(axis=1, keepdims=True)).astype(np.float32)
        labels = (rng.random((2000, 1)) >= probs.cumsum(axis=1)).sum(axis=1)
    true = image_losses(probs, labels).mean()
    assert calibrated_loss(probs, labels) == pytest.approx(true, abs=2e-3)
    for temperature in (0.3, 4.0):
        other = at_temperature(probs, temperature, multi_label=several)
        assert abs(image_losses(other, labels).mean() - true) > 0.02
        assert calibrated_loss(other, labels) == pytest.approx(true, abs=2e-3)
        assert best_temperature(other, labels) == pytest.approx(1 / temperature, rel=0.1)


def test_arithmetic_in_parts_changes_no_bit(monkeypatch):
    rng = np.random.default_rng(3)
    probs = rng.dirichlet(np.ones(5), size=53).astype(np.float32)
    labels = rng.integers(0, 5, 53)
    found = []
    for at_once in (1_000, 17, 1):
        monkeypatch.setattr("convscope.classifier.classify._NUMBERS_AT_ONCE", at_once)
        temperature = best_temperature(probs, labels)
        found.append((temperature, at_temperature(probs, 1.7)))
    for temperature, final in found[1:]:
        assert temperature == found[0][0]
        np.testing.assert_array_equal(final, found[0][1])
    np.testing.assert_allclose(found[0][1].sum(axis=1), 1, rtol=1e-6)
