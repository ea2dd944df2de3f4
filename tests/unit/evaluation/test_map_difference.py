"""Configurations compared by mean average precision, over seeds and images."""

import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import norm, t, ttest_rel
from sklearn.metrics import average_precision_score

from convscope.evaluation.map_difference import Scored, map_difference
from convscope.evaluation.statistics import runs_by_seed
from convscope.studies.comparison.comparison import pairs_of

N_CLASSES = 5


def labels_of(n_images: int = 300) -> np.ndarray:
    random = np.random.default_rng(0)
    return (random.random((n_images, N_CLASSES)) < 0.3).astype(np.uint8)


def run(signal: float, seed: int, labels: np.ndarray) -> Scored:
    """A run whose logits tell the classes by that much; the same seed makes the same noise."""
    noise = np.random.default_rng(seed).normal(size=labels.shape)
    logits = noise + signal * labels
    return Scored.of((1 / (1 + np.exp(-logits))).astype(np.float32), labels)


def test_the_mean_is_the_difference_of_the_scores():
    labels = labels_of()
    runs_a, runs_b = ([run(signal, seed, labels) for seed in range(3)] for signal in (1.0, 2.0))
    found = map_difference(runs_a, runs_b, paired=True)
    expected = np.mean([one.score for one in runs_b]) - np.mean([one.score for one in runs_a])
    assert found.mean == pytest.approx(expected)
    assert found.shown
    assert found.of_ways
    assert found.low < found.mean < found.high
    assert found.p < 0.01
    logits = np.random.default_rng(0).normal(size=labels.shape) + labels
    assert runs_a[0].score == pytest.approx(average_precision_score(labels, logits), abs=1e-6)


def test_the_same_answers_are_identical():
    labels = labels_of()
    runs = [run(1.0, seed, labels) for seed in range(2)]
    found = map_difference(runs, runs, paired=True)
    assert (found.mean, found.identical, found.shown) == (0, True, False)


def test_networks_that_are_both_perfect_need_not_answer_alike():
    labels = np.eye(2, dtype=np.uint8)[np.arange(20) % 2]
    sure, unsure = (
        Scored.of(np.where(labels, high, low).astype(np.float32), labels)
        for high, low in ((0.9, 0.1), (0.45, 0.3))
    )
    (pair,) = pairs_of([("sure", {0: sure}), ("unsure", {0: unsure})], "val")
    found = pair.found
    assert (found.mean, found.identical, found.shown, found.p) == (0, False, False, 1)
    # Nor is it excluded that one errs on other images.
    assert (found.low, found.high) == pytest.approx(
        (-(1 - 0.025 ** (1 / 20)), 1 - 0.025 ** (1 / 20))
    )
    assert pair.verdict == (
        "No difference shown between this run of sure and this run of unsure: at most 16.9 points "
        "either way."
    )


def test_two_single_runs_are_compared_by_paired_samples_of_the_images():
    labels = labels_of()
    one, other = run(1.0, 0, labels), run(1.2, 0, labels)
    found = map_difference([one], [other], paired=True)
    spread = (other.resampled - one.resampled).std(ddof=1)
    assert found.high - found.mean == pytest.approx(1.959964 * spread, rel=1e-5)
    assert not found.of_ways
    assert found.p_seeds is None
    # What both find hard in the same images does not count; unpaired, it would.
    alone = np.hypot(one.resampled.std(ddof=1), other.resampled.std(ddof=1))
    assert spread < 0.5 * alone
    variation = found.variation
    assert variation.images / variation.n_images == pytest.approx(spread**2)
    assert (variation.seeds, variation.rest, variation.n_images) == (None, 0, len(labels))


def test_several_comparisons_share_the_alarms():
    labels = labels_of()
    one, other = run(1.0, 0, labels), run(1.2, 0, labels)
    found = map_difference([one], [other], paired=True, n_comparisons=5)
    spread = (other.resampled - one.resampled).std(ddof=1)
    assert found.confidence == pytest.approx(0.99)
    assert found.high - found.mean == pytest.approx(ndtri(0.995) * spread)
    assert found.mean - found.low == pytest.approx(ndtri(0.995) * spread)


def test_over_seeds_alone_it_is_students_paired_test_and_over_images_the_normal_one():
    labels = labels_of()
    runs_a, runs_b = ([run(signal, seed, labels) for seed in range(5)] for signal in (1.0, 1.05))
    theirs = ttest_rel([each.score for each in runs_b], [each.score for each in runs_a])
    found = map_difference(runs_a, runs_b, paired=True)
    assert found.p_seeds == pytest.approx(theirs.pvalue, rel=1e-6)
    samples_a, samples_b = ([each.resampled for each in side] for side in (runs_a, runs_b))
    error = np.std(np.mean(samples_b, axis=0) - np.mean(samples_a, axis=0), ddof=1)
    assert found.p_images == pytest.approx(2 * norm.sf(abs(found.mean) / error), rel=1e-6)


@pytest.mark.parametrize("paired", [True, False])
def test_variances_are_those_of_seeds_of_images_and_of_what_is_left(paired):
    labels = labels_of()
    # Seeds differ in skill; what is hard differs between the two, and little between seeds.
    sides = []
    for k, signals in enumerate([(1.0, 1.4, 0.8), (1.6, 1.2, 2.0)]):
        rng = np.random.default_rng(k)
        hard = rng.normal(size=labels.shape)
        logits = [hard + rng.normal(0, 0.4, labels.shape) + each * labels for each in signals]
        sides.append(
            [Scored.of((1 / (1 + np.exp(-each))).astype(np.float32), labels) for each in logits]
        )
    scores = [np.array([each.score for each in side]) for side in sides]
    samples = [np.stack([each.resampled for each in side]) for side in sides]
    if paired:
        scores, samples = [scores[1] - scores[0]], [samples[1] - samples[0]]
    # On each sample, how far a seed is from the mean of all; the mean itself takes part of it.
    rests = [np.var(each - each.mean(axis=0), axis=1, ddof=1).mean() * 3 / 2 for each in samples]
    of_all = np.var(samples[-1].mean(axis=0) - (0 if paired else samples[0].mean(axis=0)), ddof=1)
    found = map_difference(*sides, paired=paired).variation
    assert found.rest / 300 == pytest.approx(sum(rests))
    assert found.seeds == pytest.approx(sum(np.var(each, ddof=1) for each in scores) - sum(rests))
    assert found.images / 300 == pytest.approx(of_all - sum(rests) / 3)
    assert min(found.seeds, found.images, found.rest) > 0


@pytest.mark.slow
def test_equal_configurations_are_seldom_called_different():
    labels = labels_of(200)
    shown = 0
    for study in range(40):
        runs = [run(1.0, 10 * study + seed, labels) for seed in range(6)]
        shown += map_difference(runs[:3], runs[3:], paired=False).shown
    assert shown <= 5


def test_a_single_seed_borrows_the_spread_of_the_other_side():
    labels = labels_of()
    many = [run(1.0, seed, labels) for seed in range(4)]
    one = [run(1.02, 9, labels)]
    variance = np.var([each.score for each in many], ddof=1)
    for sides in ((many, one), (one, many)):
        found = map_difference(*sides, paired=False)
        assert found.of_ways
        assert found.variation.seeds is not None
        theirs = 2 * t.sf(abs(found.mean) / np.sqrt(variance * (1 / 4 + 1)), 3)
        assert found.p_seeds == pytest.approx(theirs, rel=1e-6)


def test_seeds_that_both_have_are_compared_pair_by_pair():
    assert runs_by_seed({1: "a", 2: "b", 3: "c"}, {2: "d", 3: "e"}) == (
        ["b", "c"],
        ["d", "e"],
        True,
    )
    assert runs_by_seed({1: "a", 2: "b"}, {3: "c", 4: "d"})[2] is False


def test_verdicts_speak_of_the_measure():
    labels = labels_of()
    answers = [
        ("weak", {seed: run(0.3, seed, labels) for seed in range(2)}),
        ("good", {seed: run(2.5, seed, labels) for seed in range(2)}),
    ]
    (pair,) = pairs_of(answers, "val")
    assert pair.measure == "mAP"
    assert pair.verdict.startswith("good is better than weak by ")
    singles = [(name, {0: by_seed[0]}) for name, by_seed in answers]
    (single,) = pairs_of(singles, "val")
    assert single.verdict.startswith(
        "This run of good has a higher mAP on validation images than this run of weak, by "
    )
