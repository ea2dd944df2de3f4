"""Accuracy by number of training images: how images are chosen, and what more would give."""

import numpy as np
import pytest

from convscope.evaluation.learning_curve import expected_at, nested_order, sizes_up_to

SIZES = [100, 200, 400, 800]


def right_of(shares, n_images=10_000) -> np.ndarray:
    """Return whether each image is right at each size; those that are wrong stay wrong the longest.

    Args:
        shares: Share of errors at each size.
        n_images: Number of images that are judged.
    """
    return np.stack([np.arange(n_images) >= round(share * n_images) for share in shares])


@pytest.mark.parametrize(
    ("n_images", "n_classes", "sizes"),
    [
        (1000, 6, [31, 62, 125, 250, 500, 1000]),
        # Two images for each class.
        (1000, 100, [250, 500, 1000]),
        (399, 100, [399]),
        (10**6, 2, [10**6 // 2**n for n in range(6, -1, -1)]),
    ],
)
def test_sizes_double_up_to_all_images_from_some_of_each_class(n_images, n_classes, sizes):
    assert sizes_up_to(n_images, n_classes) == sizes


def test_each_beginning_has_all_classes_in_their_shares():
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    order = nested_order(labels, np.arange(1000), np.random.default_rng(0))
    assert sorted(order) == list(range(1000))
    for size in (50, 100, 500):
        shares = np.bincount(labels[order[:size]], minlength=3) / size
        np.testing.assert_allclose(shares, [0.6, 0.3, 0.1], atol=1.5 / size)
    other = nested_order(labels, np.arange(1000), np.random.default_rng(1))
    assert len(set(order[:100]) & set(other[:100])) < 30


def test_images_that_belong_together_follow_each_other():
    keys = np.repeat([f"patient {n}" for n in range(50)], 4)
    labels = np.repeat(np.arange(50) % 2, 4)
    order = nested_order(labels, keys, np.random.default_rng(0))
    assert len({tuple(keys[order[n : n + 4]]) for n in range(0, 200, 4)}) == 50
    assert all(len(set(keys[order[n : n + 4]])) == 1 for n in range(0, 200, 4))
    assert 8 <= labels[order[:40]].sum() <= 24


@pytest.mark.parametrize("power", [0.25, 0.5, 1.0])
def test_errors_that_fall_as_a_power_fall_on(power):
    shares = [0.4 * (size / 100) ** -power for size in SIZES]
    found = expected_at(1600, SIZES, right_of(shares))
    assert found.accuracy == pytest.approx(1 - 0.4 * 16**-power, abs=2e-3)
    assert found.n_images == 1600
    assert found.low < found.accuracy < found.high


def test_the_slope_is_that_from_a_quarter_of_the_images_to_all():
    # The first size knew nothing yet.
    for between in (0.2, 0.15, 0.1):
        found = expected_at(1600, SIZES, right_of([0.9, 0.2, between, 0.1]))
        assert found.accuracy == pytest.approx(1 - 0.1 / 2**0.5, abs=2e-3)
    found = expected_at(400, SIZES[:2], right_of([0.2, 0.1]))
    assert found.accuracy == pytest.approx(0.95, abs=2e-3)


def test_more_images_are_never_expected_to_harm_nor_to_work_wonders():
    worse = expected_at(1600, SIZES, right_of([0.2, 0.2, 0.2, 0.21]))
    assert worse.accuracy == pytest.approx(0.79)
    # Errors fall in proportion to the images at most.
    steep = expected_at(1600, SIZES, right_of([0.4, 0.4, 0.4, 0.04]))
    assert steep.accuracy == pytest.approx(0.98)


def test_without_an_error_it_is_as_unsure_as_so_few_images_leave_it():
    found = expected_at(1600, SIZES, right_of([0.1, 0.0, 0.0, 0.0], 50))
    assert found.accuracy == 1
    assert 0.9 < found.low < 0.95
    assert found.high == 1


def test_the_interval_is_over_groups_where_there_are_some():
    rng = np.random.default_rng(0)
    # Images of a group are all right or all wrong.
    ability = rng.uniform(0, 1, 40)
    of_groups = np.stack([ability >= share for share in (0.5, 0.4, 0.3, 0.25)])
    right = np.repeat(of_groups, 25, axis=1)
    groups = np.repeat([f"g{n}" for n in range(40)], 25)
    single, grouped = (expected_at(1600, SIZES, right, of) for of in (None, groups))
    assert single.accuracy == pytest.approx(grouped.accuracy)
    assert grouped.high - grouped.low > 3 * (single.high - single.low)
    # Of a single group, nothing can be known.
    alone = expected_at(1600, SIZES, right, np.full(1000, "g"))
    assert (alone.low, alone.high) == (0, 1)


def test_the_interval_covers_what_other_images_would_have_given():
    rng = np.random.default_rng(83)
    truth, hits = 0.3 * 16**-0.4, 0
    for _ in range(100):
        # Of each image, how many training images it takes.
        threshold = rng.uniform(0, 1, 400)
        right = np.stack([threshold >= 0.3 * (size / 100) ** -0.4 for size in SIZES])
        found = expected_at(1600, SIZES, right)
        hits += found.low <= 1 - truth <= found.high
    assert 88 <= hits <= 100
