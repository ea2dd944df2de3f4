"""The energy of an answer, and the value from which on an image is accepted."""

import numpy as np
import pytest

from convscope.classifier.rejection import LARGEST_ENERGY, energy, least_familiarity


def test_the_energy_is_that_of_the_logits_shifted_to_mean_zero():
    logits = np.random.default_rng(0).normal(scale=4, size=(50, 7))
    odds = np.exp(logits)
    probs = (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)
    centred = logits - logits.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(energy(probs), np.log(np.exp(centred).sum(axis=1)), atol=1e-4)


def test_the_energy_is_within_its_bounds():
    assert energy(np.full((1, 5), 0.2, np.float32))[0] == pytest.approx(np.log(5))
    sure = np.zeros((1, 1000), np.float32)
    sure[0, 3] = 1
    assert np.log(1000) < energy(sure)[0] < LARGEST_ENERGY


@pytest.mark.parametrize("n_images", [10, 19, 40, 200])
def test_of_further_images_at_least_the_share_is_accepted_on_average(n_images):
    rng = np.random.default_rng(n_images)
    refused = [
        (rng.random(200) < least_familiarity(rng.random(n_images), 0.95)).mean()
        for _ in range(2000)
    ]
    # With few images none of them is refused, and of others about one in so many.
    assert np.mean(refused) == pytest.approx(max(0.05, 1 / (n_images + 1)), abs=0.012)


def test_an_image_on_the_border_is_accepted():
    values = np.random.default_rng(0).random(99) + 1
    least = least_familiarity(values, 0.9)
    assert (values < least).sum() == 9
    assert 0 <= np.sort(values)[9] - least <= 1e-4
    assert least_familiarity(values, 1.0) <= values.min()
