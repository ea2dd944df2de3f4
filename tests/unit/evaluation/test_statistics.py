"""Verdicts on synthetic runs of which the truth is known."""

import math

import numpy as np
import pytest
from scipy.stats import norm, t, ttest_rel

from convscope.errors import ShapeError
from convscope.evaluation.power import power, seeds_to_show
from convscope.evaluation.statistics import Variation, difference, spread_over_seeds

N_STUDIES = 400


def runs(chance, n_seeds, n_images, *, gain=0.0, seeds=0.1, images=1.5, hard=None, own=0.0):
    """Return right answers (n_seeds, n_images) of one way of training.

    Each seed has a skill, each image is hard or easy for all ways of training, and by `own` for
    this one.
    """
    hard = chance.normal(size=n_images) if hard is None else hard
    skill = 1.2 + gain + seeds * chance.normal(size=(n_seeds, 1))
    taste = own * chance.normal(size=n_images)
    noise = chance.normal(size=(n_seeds, n_images))
    return skill - images * hard + taste + noise > 0


def study(chance, *, gain=0.0, n_seeds=5, n_b=None, n_images=800, seeds=0.1, own=0.5):
    hard = chance.normal(size=n_images)
    a = runs(chance, n_seeds, n_images, hard=hard, seeds=seeds, own=own)
    b = runs(chance, n_b or n_seeds, n_images, gain=gain, hard=hard, seeds=seeds, own=own)
    return a, b


def true_difference(chance, **kind):
    large = (study(chance, n_images=20_000, n_seeds=10, **kind) for _ in range(30))
    return float(np.mean([b.mean() - a.mean() for a, b in large]))


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize(
    "kind",
    [
        {"seeds": 0.1, "own": 0.5},  # seeds and images both matter
        {"seeds": 0.4, "own": 0.0},  # seeds alone
        {"seeds": 0.0, "own": 1.0},  # images alone
        {"seeds": 0.0, "own": 0.0},  # neither
        {"n_seeds": 3, "seeds": 0.2},
        {"n_seeds": 2, "seeds": 0.2},
    ],
    ids=str,
)
def test_where_nothing_differs_it_is_wrong_once_in_twenty_at_most(kind, paired):
    chance = np.random.default_rng(7)
    alarms = sum(difference(*study(chance, **kind), paired=paired).shown for _ in range(N_STUDIES))
    # Three standard errors of such a count above 5 %.
    assert alarms / N_STUDIES <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / N_STUDIES)


def test_it_is_not_so_careful_that_it_says_nothing():
    chance = np.random.default_rng(8)
    alarms = sum(difference(*study(chance), paired=True).shown for _ in range(N_STUDIES))
    assert alarms / N_STUDIES > 0.01


def test_ways_with_unequally_many_seeds():
    chance = np.random.default_rng(9)
    alarms = sum(
        difference(*study(chance, n_b=3, seeds=0.2), paired=False).shown for _ in range(N_STUDIES)
    )
    assert alarms / N_STUDIES <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / N_STUDIES)


def test_intervals_hold_the_truth():
    chance = np.random.default_rng(10)
    gain = 0.3
    truth = true_difference(chance, gain=gain)
    held = 0
    for _ in range(N_STUDIES):
        found = difference(*study(chance, gain=gain), paired=True)
        held += found.low <= truth <= found.high
    assert held / N_STUDIES >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / N_STUDIES)


def test_power_over_few_groups_is_as_computed():
    chance = np.random.default_rng(3)
    n_groups, n_seeds, gain = 5, 3, 0.05
    variation = Variation(0.01**2, 0.02**2, 0.02**2, n_groups, True)

    def shown() -> bool:
        own = chance.normal(0, 0.02, (n_seeds, n_groups)) + chance.normal(0, 0.02, n_groups)
        b = 0.5 + gain + chance.normal(0, 0.01, (n_seeds, 1)) + own
        a = np.full(b.shape, 0.5) + chance.normal(0, 1e-9, b.shape)
        # Groups of one image each, which contribute what these rows have: the jackknife adds to it.
        means = [rows.mean(axis=1, keepdims=True) for rows in (a, b)]
        sides = (
            mean + (rows - mean) * (n_groups - 1) / n_groups
            for rows, mean in zip((a, b), means, strict=True)
        )
        return difference(*sides, paired=True, groups=np.arange(n_groups).astype(str)).shown

    expected = power(gain, variation, n_seeds, few_groups=True)
    assert np.mean([shown() for _ in range(400)]) == pytest.approx(expected, abs=0.08)
    assert power(gain, variation, n_seeds) > expected + 0.05
    assert seeds_to_show(gain, variation, few_groups=True) > seeds_to_show(gain, variation)
    of_one = Variation(0.01**2, 0.02**2, 0.02**2, 1, True)
    assert seeds_to_show(gain, of_one, few_groups=True) is None


def test_power_is_as_computed():
    chance = np.random.default_rng(11)
    kind = {"n_seeds": 6, "n_images": 1500, "seeds": 0.06, "own": 0.3}
    gain = 0.12
    truth = true_difference(chance, gain=gain, seeds=0.06, own=0.3)
    # The spread as it is, from studies larger than the one that is planned.
    parts = [
        difference(*study(chance, gain=gain, **{**kind, "n_seeds": 30}), paired=True)
        for _ in range(20)
    ]
    variation = Variation(
        *(
            float(np.mean([getattr(p.variation, key) for p in parts]))
            for key in ("seeds", "images", "rest")
        ),
        1500,
    )
    expected = power(truth, variation, 6)
    shown = sum(
        difference(*study(chance, gain=gain, **kind), paired=True).shown for _ in range(N_STUDIES)
    )
    assert 0.3 < expected < 0.95
    assert shown / N_STUDIES == pytest.approx(expected, abs=0.08)


def test_many_comparisons_share_the_alarms():
    chance = np.random.default_rng(12)
    studies = 150
    alarms = 0
    for _ in range(studies):
        hard = chance.normal(size=500)
        ways = [runs(chance, 5, 500, hard=hard, own=0.5) for _ in range(4)]
        pairs = [(a, b) for i, a in enumerate(ways) for b in ways[i + 1 :]]
        alarms += any(difference(*pair, paired=True, n_comparisons=6).shown for pair in pairs)
    assert alarms / studies <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / studies)


def test_a_single_seed_each_is_mcnemars_test():
    chance = np.random.default_rng(13)
    a = chance.random((1, 1000)) < 0.7
    b = a.copy()
    b[0, :40] = ~b[0, :40]
    found = difference(a, b, paired=True)
    only_b = int((b & ~a).sum())
    assert found.p_seeds is None
    assert found.variation.seeds is None
    # statsmodels' mcnemar(exact=True) doubles the smaller tail, as this does by hand.
    tail = sum(math.comb(40, k) for k in range(min(only_b, 40 - only_b) + 1)) / 2**40
    assert found.p_images == pytest.approx(min(1.0, 2 * tail))
    assert found.mean == pytest.approx((only_b - (40 - only_b)) / 1000)


def test_over_seeds_alone_it_is_students_paired_test():
    a, b = study(np.random.default_rng(16), gain=0.05)
    found = difference(a, b, paired=True)
    theirs = ttest_rel(b.mean(axis=1), a.mean(axis=1)).pvalue
    assert found.p_seeds == pytest.approx(theirs, rel=1e-6)
    assert found.p >= theirs


def test_over_images_alone_the_means_of_the_seeds_are_compared():
    a, b = study(np.random.default_rng(17), gain=0.05)
    apart = b.mean(axis=0) - a.mean(axis=0)
    error = math.sqrt(np.var(apart, ddof=1) / len(apart))
    for paired in (True, False):
        found = difference(a, b, paired=paired)
        assert found.p_images == pytest.approx(2 * norm.sf(abs(apart.mean()) / error), rel=1e-6)


def test_over_groups_alone_it_is_students_test_of_their_means():
    a, b = study(np.random.default_rng(18), gain=0.05)
    groups, n_groups = np.repeat(np.arange(20), 40).astype(str), 20
    apart = (b.mean(axis=0) - a.mean(axis=0)).reshape(n_groups, -1).mean(axis=1)
    # The jackknife over groups of one size.
    error = n_groups / (n_groups - 1) * math.sqrt(np.var(apart, ddof=1) / n_groups)
    found = difference(a, b, paired=True, groups=groups)
    theirs = 2 * t.sf(abs(apart.mean()) / error, n_groups - 1)
    assert found.p_images == pytest.approx(theirs, rel=1e-6)


def test_variances_are_those_of_seeds_of_images_and_of_what_is_left():
    a, b = study(np.random.default_rng(19), gain=0.1, n_seeds=4, seeds=0.3)
    apart = b.astype(float) - a
    left = apart - apart.mean(axis=1, keepdims=True) - apart.mean(axis=0) + apart.mean()
    rest = (left**2).sum() / (3 * 799)
    found = difference(a, b, paired=True).variation
    assert found.rest == pytest.approx(rest)
    assert found.images == pytest.approx(np.var(apart.mean(axis=0), ddof=1) - rest / 4)
    assert found.seeds == pytest.approx(np.var(apart.mean(axis=1), ddof=1) - rest / 800)
    assert min(found.seeds, found.images) > 0


def test_a_single_seed_borrows_the_spread_of_the_other_side():
    a, b = study(np.random.default_rng(20), n_b=1, gain=0.05)
    variance = np.var(a.mean(axis=1), ddof=1)
    for sides in ((a, b), (b, a)):
        found = difference(*sides, paired=False)
        theirs = 2 * t.sf(abs(found.mean) / math.sqrt(variance * (1 / 5 + 1)), 4)
        assert found.of_ways
        assert found.p_seeds == pytest.approx(theirs, rel=1e-6)


def test_single_runs_share_the_alarms_of_several_comparisons():
    a, b = study(np.random.default_rng(21), gain=0.3, n_seeds=1)
    alone, of_five = (difference(a, b, paired=True, n_comparisons=n) for n in (1, 5))
    assert (alone.confidence, of_five.confidence) == pytest.approx((0.95, 0.99))
    assert of_five.low < alone.low < alone.mean < alone.high < of_five.high
    # Six groups that all differ in one direction: by chance in one study of 32.
    rows, groups = np.zeros((1, 60), bool), np.repeat(np.arange(6), 10).astype(str)
    better = np.tile(np.arange(10) < 5, 6)[None]
    for n, shown in ((1, True), (3, False)):
        found = difference(rows, better, paired=True, n_comparisons=n, groups=groups)
        assert found.confidence == pytest.approx(1 - 0.05 / n)
        assert (found.p, found.shown) == (1 / 32, shown)


def test_the_same_answers_are_no_difference_at_all():
    a = np.random.default_rng(14).random((3, 100)) < 0.7
    assert not difference(a, a.copy(), paired=False).identical
    found = difference(a, a.copy(), paired=True)
    assert found.identical
    assert (found.low, found.mean, found.high) == (0, 0, 0)
    assert found.p == found.p_seeds == found.p_images == 1
    assert not found.shown


@pytest.mark.parametrize(("n_images", "gained", "shown"), [(10, 10, True), (200, 4, False)])
def test_where_seeds_change_nothing_the_images_decide_as_for_one_seed(n_images, gained, shown):
    a = np.zeros((2, n_images), bool)
    b = a.copy()
    b[:, :gained] = True
    found, alone = difference(a, b, paired=True), difference(a[:1], b[:1], paired=True)
    assert found.p == found.p_images == pytest.approx(2 / 2**gained)
    assert (found.low, found.high) == (alone.low, alone.high)
    assert found.shown == shown
    assert (found.p_seeds, found.variation.seeds) == (0, 0)
    assert found.of_ways
    assert not found.identical


def test_the_other_way_round_is_the_same_with_another_sign():
    a, b = study(np.random.default_rng(15), gain=0.2)
    for paired in (True, False):
        there, back = difference(a, b, paired=paired), difference(b, a, paired=paired)
        assert there.mean == pytest.approx(-back.mean)
        assert there.low == pytest.approx(-back.high)
        assert there.p == pytest.approx(back.p)


def test_smaller_differences_need_more_seeds():
    variation = Variation(seeds=0.0001, images=0.1, rest=0.05, n_images=10_000)
    needed = [seeds_to_show(size, variation) for size in (0.05, 0.02, 0.0125)]
    assert None not in needed
    assert 2 <= needed[0] <= needed[1] <= needed[2]
    for size, n in zip((0.02, 0.0125), needed[1:], strict=True):
        assert power(size, variation, n) >= 0.8 > power(size, variation, n - 1)
    # The images alone leave more than that open.
    assert seeds_to_show(0.001, variation) is None
    assert seeds_to_show(0.1, Variation(None, 0.1, 0, 100)) is None


def test_one_seed_has_no_spread():
    spread = spread_over_seeds([0.7])
    assert (spread.mean, spread.sd, spread.low, spread.high) == (0.7, None, None, None)


def test_the_interval_over_seeds_ends_where_accuracies_do():
    assert spread_over_seeds([0.9, 1, 0.95]).high == 1
    assert spread_over_seeds([0.99, 0.2]).low == 0


@pytest.mark.parametrize(
    ("a", "b", "paired"),
    [((2, 10), (2, 11), True), ((2, 10), (3, 10), True), ((0, 10), (2, 10), False)],
)
def test_what_does_not_fit_is_refused(a, b, paired):
    with pytest.raises(ShapeError):
        difference(np.zeros(a, bool), np.zeros(b, bool), paired=paired)
