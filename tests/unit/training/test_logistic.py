"""A head at the optimum of logistic regression, checked by what an optimum is."""

import csv

import numpy as np
import pytest

from convscope.classifier.classify import at_temperature
from convscope.classifier.decisions import image_losses
from convscope.datasets.division.draw import Together
from convscope.models.head import Block
from convscope.progress import Progress
from convscope.run import Run
from convscope.training import logistic as module
from convscope.training import logistic_fit
from convscope.training.logistic import (
    PENALTIES,
    Candidate,
    choose_penalty,
    held_out_probs,
    one_thread_each,
    write_candidates,
)
from convscope.training.logistic_fit import fit_logistic, most_steps
from convscope.training.temperature import calibrated_loss, calibrated_losses

SILENT = Progress()


def images_of(
    n_classes: int, n_images: int, *, n_features: int = 6, apart: float = 1, seed: int = 0
):
    """Clouds that overlap: features of shape (n_images, n_features), and labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n_images) % n_classes
    centres = np.random.default_rng(99).normal(0, apart, (n_classes, n_features))
    features = (centres[labels] + rng.normal(0, 1, (n_images, n_features))).astype(np.float32)
    return features, labels


def gradient(head, features, labels, penalty, weights=None):
    """Return the gradient of mean cross-entropy plus half the penalty times the squared norm."""
    errors = head.probs(features).astype(np.float64)
    errors[np.arange(len(labels)), labels] -= 1
    weights = np.full(len(labels), 1 / len(labels)) if weights is None else weights
    errors *= weights[:, None]
    return features.T @ errors + penalty * head.kernel, errors.sum(axis=0)


@pytest.mark.parametrize("penalty", [1.0, 0.03])
def test_at_the_optimum_the_gradient_is_zero(penalty):
    features, labels = images_of(4, 400)
    head = fit_logistic(features, labels, 4, penalty)
    for part in gradient(head, features, labels, penalty):
        assert np.abs(part).max() < 2e-3
    assert head.kernel.shape == (6, 4)
    assert head.kernel.dtype == head.bias.dtype == np.float32
    np.testing.assert_allclose(head.probs(features).sum(axis=1), 1, rtol=1e-5)


def test_with_two_classes_the_answer_is_that_of_the_odds():
    features, labels = images_of(2, 300)
    head = fit_logistic(features, labels, 2, 0.1)
    # Both columns share what one row of odds has, so the penalty counts half of it.
    np.testing.assert_allclose(head.kernel[:, 0], -head.kernel[:, 1])
    for part in gradient(head, features, labels, 0.2):
        assert np.abs(part).max() < 2e-3
    assert (head.probs(features).argmax(axis=1) == labels).mean() > 0.75


@pytest.mark.parametrize(("weighting", "power"), [("balanced", 1), ("sqrt", 0.5)])
def test_weighted_classes_count_by_their_size(weighting, power):
    features, labels = images_of(3, 600)
    few = np.r_[np.flatnonzero(labels != 2), np.flatnonzero(labels == 2)[:20]]
    features, labels = features[few], labels[few]
    head = fit_logistic(features, labels, 3, 0.1, weighting=weighting)
    weights = (1 / np.bincount(labels)[labels]) ** power
    weights /= weights.sum()
    for part in gradient(head, features, labels, 0.1, weights):
        assert np.abs(part).max() < 2e-3


def test_a_class_without_an_image_is_never_the_answer():
    features, labels = images_of(3, 90)
    head = fit_logistic(features[labels != 1], labels[labels != 1], 4, 0.1)
    probs = head.probs(features)
    assert probs[:, [1, 3]].max() < 1e-6
    assert (probs.argmax(axis=1)[labels == 2] == 2).mean() > 0.6


def test_the_penalty_is_the_one_of_the_lowest_loss_on_images_that_were_held_out():
    features, labels = images_of(3, 60, n_features=80, apart=0.15)
    tried = choose_penalty(features, labels, 3, seed=1, progress=Progress())
    # Around the best both neighbours were tried, and nothing far from it.
    places = sorted(PENALTIES.index(c.penalty) for c in tried)
    assert places == list(range(places[0], places[-1] + 1))
    best = PENALTIES.index(tried[0].penalty)
    assert {max(best - 1, 0), best + 1} <= set(places)
    assert [c.loss for c in tried] == sorted(c.loss for c in tried)
    # Of few images with many features a strong one; and by fresh images it was right.
    assert tried[0].penalty >= 0.03
    fresh, answers = images_of(3, 3000, n_features=80, apart=0.15, seed=5)

    def loss(penalty: float) -> float:
        probs = fit_logistic(features, labels, 3, penalty).probs(fresh)
        return float(-np.log(probs[np.arange(len(answers)), answers]).mean())

    assert loss(tried[0].penalty) < loss(0.001) - 0.1
    assert tried[0].loss == pytest.approx(loss(tried[0].penalty), abs=0.2)


@pytest.mark.parametrize("views", [1, 2])
def test_each_image_is_held_out_once_from_the_head_that_says_what_it_is(views):
    # Labels without a pattern, and a feature that gives each image away: a head that has learnt an
    # image in any view knows its class.
    n_images = 40
    labels = np.random.default_rng(0).integers(0, 2, n_images)
    features = np.tile(np.eye(n_images, dtype=np.float32), (views, 1))
    rows, probs = held_out_probs(features, labels, 2, 1e-3, seed=0, views=views)
    assert sorted(rows) == list(range(n_images))
    assert np.abs(probs - probs.mean(axis=0)).max() < 0.1
    known = fit_logistic(features[:n_images], labels, 2, 1e-3).probs(features[:n_images])
    assert known[np.arange(n_images), labels].min() > 0.8


def test_of_more_features_than_images_the_penalty_is_found_in_fewer_columns(monkeypatch):
    # With copies of one image, as there are in folders, and features of very different sizes.
    features, labels = images_of(3, 90, n_features=300, apart=0.3)
    features[40:50], labels[40:50] = features[40], labels[40]
    features = features * np.geomspace(0.01, 3, 300, dtype=np.float32)
    features -= features.mean(axis=0)
    quick = choose_penalty(features, labels, 3, seed=1, progress=Progress())
    probs = held_out_probs(features, labels, 3, 0.1, seed=1)[1]
    monkeypatch.setattr(module, "_LEAST_GAIN", 1000)
    plain = choose_penalty(features, labels, 3, seed=1, progress=Progress())
    assert [c.penalty for c in quick] == [c.penalty for c in plain]
    assert [c.loss for c in quick] == pytest.approx([c.loss for c in plain], abs=2e-3)
    as_they_are = held_out_probs(features, labels, 3, 0.1, seed=1)[1]
    np.testing.assert_allclose(probs, as_they_are, atol=2e-3)


def test_of_very_many_features_none_are_copied_and_the_head_is_the_same(monkeypatch):
    features, labels = images_of(4, 300)
    learnt = np.flatnonzero((labels != 3) & (np.arange(300) % 5 > 0))
    copied = fit_logistic(features, labels, 4, 0.03, learnt=learnt)
    monkeypatch.setattr(logistic_fit, "_MOST_COPIED", 0)
    read = fit_logistic(features, labels, 4, 0.03, learnt=learnt)
    np.testing.assert_array_equal(copied.kernel, read.kernel)
    np.testing.assert_allclose(
        copied.kernel, fit_logistic(features[learnt], labels[learnt], 4, 0.03).kernel, atol=1e-3
    )
    # The class that none of them has is never the answer.
    assert read.probs(features)[:, 3].max() < 1e-6


@pytest.mark.parametrize(("n_classes", "weighting"), [(2, "none"), (4, "none"), (4, "balanced")])
def test_images_that_are_read_in_parts_by_several_threads_give_the_same_head(
    monkeypatch, n_classes, weighting
):
    features, labels = images_of(n_classes, 301)
    whole = fit_logistic(features, labels, n_classes, 0.03, weighting=weighting)
    monkeypatch.setattr(logistic_fit, "_ROWS", 64)
    alone = fit_logistic(features, labels, n_classes, 0.03, weighting=weighting)
    with one_thread_each() as pool:
        shared = fit_logistic(features, labels, n_classes, 0.03, weighting=weighting, pool=pool)
    np.testing.assert_allclose(alone.probs(features), whole.probs(features), atol=2e-3)
    np.testing.assert_array_equal(shared.kernel, alone.kernel)


def test_a_fit_that_would_take_too_long_ends_earlier(monkeypatch):
    features, labels = images_of(3, 300)

    def steps_of(**options):
        told = []
        fit_logistic(features, labels, 3, 1e-4, step=told.append, **options)
        return sum(told)

    assert most_steps(300, 6, 3) == most_steps(5_000, 5_000, 100) == 300
    assert 50 <= most_steps(40_000, 4_768, 132) <= 100
    assert most_steps(10**7, 4_768, 1_000) == 30
    assert steps_of() > 5 == steps_of(steps=5)
    monkeypatch.setattr(logistic_fit, "_LEAST_STEPS", 2)
    monkeypatch.setattr(logistic_fit, "_MOST_WORK", 3 * 300 * 6 * 3)
    assert steps_of() == 3


def test_the_penalty_is_chosen_with_the_steps_of_the_head_that_learns_all(monkeypatch):
    features, labels = images_of(3, 600, apart=0.3)
    steps = []

    def fit(*arguments, **options):
        steps.append(options["steps"])
        return fit_logistic(*arguments, **options)

    monkeypatch.setattr(module, "fit_logistic", fit)
    monkeypatch.setattr(module, "_MOST_LEARNT", 120)
    monkeypatch.setattr(logistic_fit, "_LEAST_STEPS", 2)
    monkeypatch.setattr(logistic_fit, "_MOST_WORK", 7 * 480 * 6 * 3)
    choose_penalty(features, labels, 3, seed=1, progress=SILENT)
    assert set(steps) == {7}


@pytest.mark.parametrize(("telling", "factor"), [("last", 2), ("first", 0.5)])
def test_the_last_map_counts_for_more_where_it_tells_the_classes_apart(telling, factor):
    known, labels = images_of(3, 120, n_features=40, apart=0.35)
    noise = np.random.default_rng(7).normal(0, 1, (120, 200)).astype(np.float32)
    parts = (noise, known) if telling == "last" else (known, noise)
    features = np.concatenate(parts, axis=1)
    before = features.copy()
    tried = choose_penalty(
        features,
        labels,
        3,
        seed=1,
        blocks=[Block(0, features.shape[1], parts[1].shape[1])],
        progress=Progress(),
    )
    assert tried[0].last_map == factor
    assert tried[0].loss < min(c.loss for c in tried if c.last_map == 1)
    np.testing.assert_array_equal(features, before)
    # Without earlier maps there is nothing to weigh.
    assert {c.last_map for c in choose_penalty(known, labels, 3, seed=1, progress=Progress())} == {
        1
    }


def test_further_views_are_compared_on_the_same_folds_as_one(monkeypatch):
    features, labels = images_of(3, 60, n_features=20, apart=0.4)
    # One view is not large by this, two would be.
    monkeypatch.setattr(module, "_LARGE", 60 * 3 + 1)
    monkeypatch.setattr(module, "PENALTIES", (0.1,))
    monkeypatch.setattr(module, "_START", 0)
    (one,) = choose_penalty(features, labels, 3, seed=1, progress=Progress())
    twice = np.concatenate([features, features])
    (two,) = choose_penalty(twice, labels, 3, seed=1, views=2, progress=Progress())
    # The same images twice have the same optimum; the temperature's targets are softened by their
    # number.
    assert two.loss == pytest.approx(one.loss, rel=2e-3)
    assert two.accuracy == one.accuracy


def test_of_very_many_images_a_part_chooses_the_penalty_for_all(monkeypatch):
    features, labels = images_of(3, 600, apart=0.3)
    n_learnt = []

    def fit(*arguments, learnt, **options):
        n_learnt.append(len(learnt))
        return fit_logistic(*arguments, learnt=learnt, **options)

    monkeypatch.setattr(module, "fit_logistic", fit)
    of_all = {each.penalty for each in choose_penalty(features, labels, 3, seed=1, progress=SILENT)}
    assert of_all <= set(PENALTIES)
    assert set(n_learnt) == {480}
    n_learnt.clear()
    monkeypatch.setattr(module, "_MOST_LEARNT", 120)
    tried = choose_penalty(features, labels, 3, seed=1, progress=SILENT)
    assert set(n_learnt) == {120}
    # Fewer where many classes and features make a fit long, but not too few.
    monkeypatch.setattr(module, "_LEAST_LEARNT", 20)
    for values, wanted in ((50, 50), (10, 20)):
        n_learnt.clear()
        monkeypatch.setattr(module, "_MOST_VALUES", values * 3 * features.shape[1])
        choose_penalty(features, labels, 3, seed=1, progress=SILENT)
        assert set(n_learnt) == {wanted}
    # The same prior weighs less against the mean over four times as many.
    assert {round(each.penalty * 4, 9) for each in tried} <= set(PENALTIES)


def test_the_same_seed_chooses_alike_to_the_last_digit():
    features, labels = images_of(5, 100)
    first, second = (
        [c[:3] for c in choose_penalty(features, labels, 5, seed=3, progress=Progress())]
        for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize("counts", [(1, 1), (1, 30), (2, 2, 2), (3, 40, 1, 5)])
def test_classes_of_one_image_are_no_obstacle(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    features = np.random.default_rng(0).normal(0, 1, (len(labels), 4)).astype(np.float32)
    tried = choose_penalty(features, labels, len(counts), seed=0, progress=Progress())
    assert all(np.isfinite(c.loss) for c in tried)


def test_images_that_are_all_the_same_are_no_obstacle():
    features, labels = np.zeros((12, 40), np.float32), np.arange(12) % 2
    tried = choose_penalty(features, labels, 2, seed=0, progress=Progress())
    assert tried[0].loss == pytest.approx(np.log(2), abs=0.1)


def test_each_image_has_the_loss_of_a_head_without_it(monkeypatch):
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    plain = rng.normal(0, 1, (60, 5)).astype(np.float32)
    plain[np.arange(60), labels] += 2
    plain[7] = -9 * np.eye(5)[labels[7]]  # looks least like its class
    both = np.concatenate([plain, plain + 0.1])
    for features, views in ((plain, 1), (both, 2)):
        best = choose_penalty(features, labels, 3, seed=0, views=views, progress=Progress())[0]
        assert best.losses.shape == (60,)
        assert best.losses.mean() == pytest.approx(best.loss, rel=1e-5)
        assert best.losses.argmax() == 7
    # Of many images one fold of the five is held out.
    monkeypatch.setattr(module, "_MANY", 60)
    few = choose_penalty(plain, labels, 3, seed=0, progress=Progress())[0]
    held_out = ~np.isnan(few.losses)
    assert held_out.sum() == 12
    assert few.losses[held_out].mean() == pytest.approx(few.loss, rel=1e-5)


def test_what_was_tried_is_written_the_strongest_first(tmp_path):
    run = Run.create(tmp_path / "run", "run")
    write_candidates([Candidate(0.1, 0.9, 0.3, 1.0, 2.0), Candidate(1.0, 0.8, 0.5, 1.2)], run)
    with run.heads_file.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["penalty"] for row in rows] == ["1.0", "0.1"]
    assert rows[1] == {
        "penalty": "0.1",
        "accuracy": "0.9",
        "loss": "0.3",
        "seconds": "1.0",
        "last_map": "2.0",
    }


def test_the_part_is_taken_with_its_own_labels(monkeypatch):
    features, labels = images_of(3, 600, apart=0.3)
    monkeypatch.setattr(module, "_MOST_LEARNT", 120)
    monkeypatch.setattr(module, "_MOST_HELD_OUT", 60)
    monkeypatch.setattr(module, "_MANY", 600)
    n_taken = []

    def fit(features, *arguments, **options):
        n_taken.append(len(features))
        return fit_logistic(features, *arguments, **options)

    monkeypatch.setattr(module, "fit_logistic", fit)
    best = choose_penalty(features, labels, 3, seed=1, progress=SILENT)[0]
    assert set(n_taken) == {180}
    (fold,) = module._folds(labels, 1, 5, 3, None)
    learnt, held_out = module._thinned(fold, 1, (120, 60))
    penalty = best.penalty * len(fold[0]) / len(learnt)
    head = fit_logistic(features[learnt], labels[learnt], 3, penalty)
    loss = calibrated_loss(head.probs(features[held_out]), labels[held_out])
    assert best.loss == pytest.approx(loss, abs=1e-4)


def test_a_head_that_is_too_unsure_may_still_be_the_best(monkeypatch):
    features, labels = images_of(3, 200, apart=0.3)
    good = fit_logistic(features, labels, 3, 0.1).probs(features)
    worse = 0.9 * good + 0.1 * np.roll(good, 1, axis=1)
    answers = {0.1: at_temperature(good, 5), 0.01: worse}

    class Head:
        def __init__(self, penalty):
            self.answers = answers[penalty]

        def probs(self, features, rows):
            return self.answers[rows]

    def loss(probs):
        return image_losses(probs, labels).mean()

    assert loss(answers[0.1]) > loss(worse) > loss(good)
    monkeypatch.setattr(module, "PENALTIES", tuple(answers))
    monkeypatch.setattr(module, "_START", 1)
    monkeypatch.setattr(module, "fit_logistic", lambda *a, **o: Head(a[3]))
    best = choose_penalty(features, labels, 3, seed=1, progress=SILENT)[0]
    assert best.penalty == 0.1
    assert best.loss == pytest.approx(calibrated_loss(good, labels), abs=1e-3)


def test_a_head_on_several_networks_is_the_mean_of_a_head_on_each():
    features, labels = images_of(3, 90, n_features=50)
    # Wide beside the images, so that the folds work in fewer columns.
    wide = np.random.default_rng(3).normal(0, 1, (90, 300)).astype(np.float32)
    both = np.concatenate([features, wide], axis=1)
    blocks = [Block(0, 50), Block(50, 350)]
    head = fit_logistic(both, labels, 3, 0.1, blocks=blocks)
    alone = [fit_logistic(part, labels, 3, 0.1) for part in (features, wide)]
    logits = [a.logits(part, None) for a, part in zip(alone, (features, wide), strict=True)]
    np.testing.assert_allclose(head.logits(both, None), np.mean(logits, axis=0), atol=1e-4)
    # Held out likewise: the mean is judged, not one head on all features.
    of_each = [held_out_probs(part, labels, 3, 0.1, seed=1)[1] for part in (features, wide)]
    mean = np.sqrt(of_each[0] * of_each[1])
    found = held_out_probs(both, labels, 3, 0.1, seed=1, blocks=blocks)[1]
    np.testing.assert_allclose(found, mean / mean.sum(axis=1, keepdims=True), atol=1e-3)
    tried = choose_penalty(both, labels, 3, seed=1, blocks=blocks, progress=SILENT)
    at = next(each for each in tried if each.penalty == 0.1)
    found_labels = labels[held_out_probs(both, labels, 3, 0.1, seed=1)[0]]
    assert at.loss == pytest.approx(calibrated_losses(found, found_labels).mean(), rel=1e-3)


@pytest.mark.parametrize("several", [False, True])
def test_images_of_a_group_are_held_out_together(several):
    # A group looks alike and has one class: heads that learnt the others cannot tell which.
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(40), 6)
    labels = rng.integers(0, 2, 40)[groups]
    features = rng.normal(0, 1, (40, 30))[groups] + rng.normal(0, 0.1, (240, 30))
    features = features.astype(np.float32)
    if several:
        labels = np.eye(2, dtype=np.uint8)[labels]
    together = Together(groups.tolist(), grouped=True)
    of_images, of_groups = (
        choose_penalty(features, labels, 2, seed=1, together=each, progress=SILENT)[0]
        for each in (None, together)
    )
    assert of_images.accuracy > 0.95
    assert of_groups.accuracy < 0.75
    rows, _ = held_out_probs(features, labels, 2, 0.1, seed=1, together=together)
    assert sorted(rows) == list(range(240))
    for learnt, held_out in module._folds(labels, 1, 5, 2, together):
        assert not set(groups[learnt]) & set(groups[held_out])
    # Of a single group nothing could be learnt.
    assert len(module.folds_of(labels, 1, 5, 2, Together([0] * 240, grouped=True))) == 5


def test_the_one_fold_of_many_images_has_its_share_of_the_large_groups():
    # Half of 6,000 images in groups of 150, half in pairs.
    sizes = np.array([150] * 20 + [2] * 1_500)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    labels = np.repeat(np.random.default_rng(3).integers(0, 2, len(sizes)), sizes)
    together = Together(groups.tolist(), grouped=True)
    ((_, held_out),) = module._folds(labels, 1, 5, 2, together)
    assert len(held_out) == pytest.approx(1_200, rel=0.1)
    assert 0.3 < (sizes[groups[held_out]] == 150).mean() < 0.7


def test_networks_with_more_features_are_compared_on_the_same_folds():
    few, labels = images_of(3, 60, n_features=5)
    many = np.random.default_rng(2).normal(0, 1, (60, 120_000)).astype(np.float32)
    rows = [
        held_out_probs(features, labels, 3, 10.0, seed=1)[0].tolist() for features in (few, many)
    ]
    assert rows[0] == rows[1]
