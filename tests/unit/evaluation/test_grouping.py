"""Images in groups tell less than as many others: intervals and comparisons are over the groups."""

import numpy as np
import pytest
from scipy.stats import ttest_ind

from convscope.evaluation.grouping import (
    accuracies_unlike,
    contributions,
    n_effective,
    number_of_groups,
    units_of,
    unlike,
)
from convscope.evaluation.map_difference import Scored, map_difference
from convscope.evaluation.metrics import compute_metrics, interval_of, wilson
from convscope.evaluation.multi_label import map_interval, resampled_map, unseen_loss
from convscope.evaluation.predictions import read_predictions, save_predictions
from convscope.evaluation.statistics import difference
from convscope.studies.comparison.comparison import pairs_of
from convscope.types import Predictions

N = 400


def said_of(right: np.ndarray, groups: np.ndarray | None) -> Predictions:
    """Predictions for two classes, of which some are right."""
    labels = np.arange(len(right)) % 2
    probs = np.eye(2, dtype=np.float32)[np.where(right, labels, 1 - labels)]
    ids = np.array([f"{number:05}" for number in range(len(right))])
    return Predictions(probs * 0.98 + 0.01, labels, ids, "test", groups)


def fivefold(values: np.ndarray) -> np.ndarray:
    return np.repeat(values, 5, axis=0)


@pytest.fixture
def right() -> np.ndarray:
    return np.random.default_rng(0).random(N) < 0.85


NAMES = np.array([f"p{number:03}" for number in range(N)])


def test_five_copies_of_each_image_tell_no_more_than_one(right):
    alone, copied = said_of(right, None), said_of(fivefold(right), fivefold(NAMES))
    assert n_effective(copied.right, copied.groups) == pytest.approx(N, rel=0.02)
    np.testing.assert_allclose(interval_of(copied), interval_of(alone), atol=0.002)
    narrow = interval_of(said_of(fivefold(right), None))
    assert np.ptp(narrow) < 0.5 * np.ptp(interval_of(copied))


def test_images_of_no_group_are_their_own(right):
    said = said_of(right, np.full(N, "", "<U4"))
    np.testing.assert_allclose(interval_of(said), wilson(right.mean(), N), atol=2e-3)
    assert len(set(units_of(said.groups))) == N


def test_without_an_error_each_group_counts_once():
    right = np.ones(100, bool)
    said = said_of(right, np.repeat(NAMES[:10], 10))
    low, high = interval_of(said)
    assert high == pytest.approx(1)
    assert low < wilson(1, 10)[0] < wilson(1, 100)[0]
    # Of one group nothing follows for others.
    assert interval_of(said_of(right, np.repeat(NAMES[:1], 100))) == (0, 1)


def test_contributions_have_the_accuracy_as_their_mean(right):
    groups = NAMES[np.sort(np.random.default_rng(1).integers(0, 30, N))]
    found = contributions(right, groups)
    assert found.mean() == pytest.approx(right.mean())
    # The jackknife: what the accuracy is without each group.
    units = units_of(groups)
    without = np.array([right[units != unit].mean() for unit in range(len(found))])
    n = len(found)
    jackknife = (n - 1) / n * ((without - without.mean()) ** 2).sum()
    assert found.var(ddof=1) / n == pytest.approx(jackknife * (n / (n - 1)) ** 2)


def test_the_interval_covers_the_truth_where_that_over_images_does_not():
    rng, covered = np.random.default_rng(2), np.zeros(2)
    for _ in range(300):
        groups = np.repeat(NAMES[:30], np.maximum(1, rng.lognormal(2, 0.8, 30).astype(int)))
        share = rng.beta(3.6, 0.4, 30)  # 0.9 on average, and an image says much of its neighbours
        right = rng.random(len(groups)) < share[units_of(groups)]
        said = said_of(right, groups)
        ends = interval_of(said), wilson(right.mean(), len(right))
        covered += [low <= 0.9 <= high for low, high in ends]
    assert covered[0] > 0.87 * 300
    assert covered[1] < 0.7 * 300


@pytest.mark.parametrize("n_seeds", [1, 4])
def test_equal_networks_are_told_apart_seldom(n_seeds):
    rng, shown = np.random.default_rng(3), np.zeros(2)
    for _ in range(200):
        groups = np.repeat(NAMES[:25], np.maximum(1, rng.lognormal(2, 0.8, 25).astype(int)))
        units = units_of(groups)
        base, way = rng.beta(4, 1, 25), rng.normal(0, 0.1, (2, 25))
        luck = rng.normal(0, 0.15, (2, n_seeds, 25))
        chance = np.clip(base + way[:, None] + luck, 0, 1)[..., units]
        rows = rng.random(chance.shape) < chance
        found = difference(*rows, paired=True, groups=groups)
        shown += [found.shown, difference(*rows, paired=True).shown]
        assert found.mean == pytest.approx(rows[1].mean() - rows[0].mean())
        assert found.variation.n_images == 25
        assert found.shown == (found.p <= 0.05)
    assert shown[0] <= 16  # 5 % of 200 and three standard deviations
    assert shown[1] > shown[0]


def test_a_clear_difference_is_shown_over_groups():
    rng = np.random.default_rng(4)
    groups = np.repeat(NAMES[:40], 10)
    rows = [(rng.random((1, 400)) < level) for level in (0.6, 0.9)]
    found = difference(*rows, paired=True, groups=groups)
    assert found.shown
    assert 0.2 < found.low < found.mean < found.high < 0.45
    same = difference(rows[0], rows[0], paired=True, groups=groups)
    assert (same.low, same.high, same.identical) == (0, 0, True)


def test_few_groups_show_nothing():
    # Three groups, all of them better: by chance in a quarter of studies.
    groups = np.repeat(NAMES[:3], 100)
    worse, better = np.zeros(300, bool), np.zeros(300, bool)
    better[::2] = True
    rows = worse[None], better[None]
    found = difference(*rows, paired=True, groups=groups)
    assert not found.shown
    assert found.p == 0.25
    assert difference(*rows, paired=True, groups=np.repeat("a", 300)).low == -1


@pytest.mark.parametrize("n_images", [1, 2, 3])
def test_few_groups_that_differ_among_many_show_nothing(n_images):
    # Four of fifty groups, all of them better: by chance in an eighth of studies.
    right = np.arange(50 * n_images) % 5 > 0
    better = right.copy()
    better[np.flatnonzero(~right)[:4]] = True
    units = np.repeat(np.arange(50), n_images)
    assert len(set(units[better != right])) == 4
    rows = right[None], better[None]
    found = difference(*rows, paired=True, groups=NAMES[units])
    assert not found.shown
    assert found.p == pytest.approx(0.125)
    assert difference(*rows, paired=True).p == pytest.approx(0.125)
    answers = [("a", {0: right}), ("b", {0: better})]
    assert not pairs_of(answers, "test", NAMES[units])[0].found.shown
    # Where more of them do, it is shown.
    both = np.stack([right, better])
    both[0, np.flatnonzero(right)[-20:]] = False
    assert difference(both[:1], both[1:], paired=True, groups=NAMES[units]).shown


def test_answers_are_in_the_order_of_names(right):
    said = said_of(right, None)
    back = Predictions(said.probs[::-1], said.labels[::-1], said.ids[::-1], "test")
    np.testing.assert_array_equal(back.right_by_id, right)
    assert back.groups_by_id is None
    groups = np.repeat(NAMES[:40], 10)
    order = np.random.default_rng(0).permutation(N)
    mixed = Predictions(
        said.probs[order], said.labels[order], said.ids[order], "test", groups[order]
    )
    np.testing.assert_array_equal(mixed.right_by_id, right)
    np.testing.assert_array_equal(mixed.groups_by_id, groups)


def test_a_mean_average_precision_is_sampled_by_groups():
    rng = np.random.default_rng(5)
    labels = (rng.random((60, 3)) < 0.3).astype(np.uint8)
    probs = np.clip(rng.normal(0.3, 0.2, (60, 3)) + 0.3 * labels, 0, 1).astype(np.float32)
    five = fivefold(probs), fivefold(labels), fivefold(NAMES[:60])
    np.testing.assert_allclose(resampled_map(*five), resampled_map(probs, labels), atol=1e-6)
    np.testing.assert_allclose(map_interval(*five), map_interval(probs, labels), atol=1e-6)
    narrow = map_interval(*five[:2])
    assert np.ptp(narrow) < 0.6 * np.ptp(map_interval(*five))
    # Errors that no group showed weigh by the number of groups.
    perfect = labels.astype(np.float32)
    assert map_interval(fivefold(perfect), *five[1:])[0] == pytest.approx(1 - unseen_loss(labels))
    found = map_difference([Scored.of(*five)], [Scored.of(*five)], paired=True)
    assert (found.variation.n_images, found.variation.grouped) == (60, True)


def test_metrics_and_their_file_hold_the_groups(right, tmp_path):
    groups = np.repeat(NAMES[:40], 10)
    said = said_of(right, groups)
    metrics = compute_metrics(said, ["a", "b"])
    assert metrics["n_groups"] == 40
    assert metrics["accuracy_interval_95"] == list(interval_of(said))
    assert "n_groups" not in compute_metrics(said_of(right, None), ["a", "b"])
    assert number_of_groups(said_of(right, None)) == {}
    save_predictions({"test": said}, ["a", "b"], tmp_path / "p.parquet", about={})
    again = read_predictions(tmp_path / "p.parquet")[0]["test"]
    assert again.groups.tolist() == groups.tolist()
    assert Predictions.joined([again, again], "val").groups.tolist() == groups.tolist() * 2
    assert Predictions.joined([again, said_of(right, None)], "val").groups is None


def test_equal_accuracies_on_different_images_are_tested_by_fisher_or_over_groups():
    pairs = np.repeat(np.arange(5), 2).astype(str)
    first, second = np.arange(10) < 8, np.arange(6) < 1
    # As R's fisher.test(matrix(c(8, 2, 1, 5), 2)) has it.
    p = accuracies_unlike(said_of(first, None), said_of(second, None))
    assert p == pytest.approx(0.03497, abs=1e-5)
    grouped = accuracies_unlike(said_of(first, pairs), said_of(second, None))
    assert grouped == unlike(first, second, (pairs, np.full(6, ""))) != p


def test_shares_are_compared_by_the_groups_of_each_side():
    one, other = np.repeat(NAMES[:2], 3), np.repeat(NAMES[:2], 4)
    # Without any spread there is no statistic.
    assert unlike(np.ones(6, bool), np.ones(8, bool), (one, other)) == 1
    assert unlike(np.ones(6, bool), np.ones(8, bool), (one, np.repeat("a", 8))) == 1
    rng = np.random.default_rng(6)
    sides = [rng.random((n, 4)) < share for n, share in ((5, 0.8), (12, 0.4))]
    # The jackknife over groups of one size spreads their means.
    spread = [
        side.mean() + (side.mean(axis=1) - side.mean()) * len(side) / (len(side) - 1)
        for side in sides
    ]
    groups = tuple(np.repeat(NAMES[: len(side)], 4) for side in sides)
    found = unlike(*(side.ravel() for side in sides), groups)
    assert found == pytest.approx(ttest_ind(*spread, equal_var=False).pvalue)
    assert found != pytest.approx(ttest_ind(*spread).pvalue, rel=1e-3)


def test_groups_of_equal_accuracy_tell_as_much_as_their_images_up_to_students_factor():
    found = n_effective(np.tile([True, False], 50), np.repeat(NAMES[:50], 2))
    # Of 100 images (1.959964 / 2.009575) ** 2, the latter Student's with 49 degrees of freedom.
    assert found == pytest.approx(95.1235, abs=1e-4)
