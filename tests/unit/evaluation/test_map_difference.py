"""Configurations compared by mean average precision, over seeds and images."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from convscope.evaluation.map_difference import Scored, map_difference
from convscope.evaluation.statistics import runs_by_seed
from convscope.studies.comparison import pairs_of

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
    found = map_difference(many, [run(1.0, 9, labels)], paired=False)
    assert found.of_ways
    assert found.variation.seeds is not None


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
