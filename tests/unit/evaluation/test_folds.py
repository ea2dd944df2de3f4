"""The interval over folds counts the images, and the networks that differ from fold to fold."""

import numpy as np
import pytest
from scipy.stats import t

from convscope.evaluation.folds import folded_accuracy
from convscope.evaluation.metrics import wilson


def test_the_mean_is_over_images_not_over_folds():
    found = folded_accuracy([9, 0], [10, 2], wilson(9 / 12, 12))
    assert found.mean == 9 / 12
    assert found.n_images == 12
    assert found.sd == pytest.approx(np.std([0.9, 0.0], ddof=1))


def test_folds_that_agree_leave_wilsons_interval():
    found = folded_accuracy([45] * 5, [50] * 5, wilson(0.9, 250))
    assert (found.low, found.high) == wilson(0.9, 250)
    assert found.sd == 0


def test_folds_that_differ_widen_it_to_students():
    low, high = wilson(0.84, 5000)
    found = folded_accuracy([800, 900, 850, 700, 950], [1000] * 5, (low, high))
    reach = t.ppf(0.975, 4) * np.std([0.8, 0.9, 0.85, 0.7, 0.95], ddof=1) / np.sqrt(5)
    assert found.low == pytest.approx(0.84 - reach)
    assert found.high == pytest.approx(0.84 + reach)
    assert found.low < low < high < found.high


def test_the_ends_are_fractions():
    found = folded_accuracy([50, 20], [50, 50], wilson(0.7, 100))
    assert (found.low, found.high) == (0.0, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("folds", [2, 3, 5, 10])
@pytest.mark.parametrize("n_images", [50, 250, 1000])
@pytest.mark.parametrize("truth", [0.8, 0.95])
@pytest.mark.parametrize("spread", [0.0, 0.01, 0.03])
def test_it_holds_the_truth_as_often_as_it_says(folds, n_images, truth, spread):
    rng = np.random.default_rng(0)
    size = n_images // folds
    held, n_studies = 0, 2000
    for _ in range(n_studies):
        of_networks = np.clip(truth + spread * rng.standard_normal(folds), 0, 1)
        right, number = rng.binomial(size, of_networks), size * folds
        found = folded_accuracy(
            right.tolist(), [size] * folds, wilson(right.sum() / number, number)
        )
        held += found.low <= truth <= found.high
    assert held / n_studies > 0.935
