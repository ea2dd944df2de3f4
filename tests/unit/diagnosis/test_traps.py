"""Traps on made-up histories and predictions: what they say, and when they are quiet."""

import dataclasses
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import chi2_contingency

from convscope import diagnosis
from convscope.diagnosis import TRAPS, Finding, Unknown
from convscope.diagnosis.case import Case
from convscope.diagnosis.guessing import beyond_guessing, guessing
from convscope.evaluation.label_noise import share_of_noise
from convscope.recipe import Recipe, parse_setting, resolve
from convscope.types import Predictions, Split

TEN = tuple("abcdefghij")
TWO = ("cat", "dog")
LITE0 = "efficientnet_lite0"


def case_of(
    names: tuple[str, ...],
    rows: list[dict[str, Any]] | None = None,
    val: Predictions | None = None,
    test: Predictions | None = None,
    train: np.ndarray | None = None,
    state: dict[str, Any] | None = None,
    n_val: int = 100,
    judged: str = "best",
    **settings: Any,
) -> Case:
    """A case that needs no files."""

    def none(*_: Any) -> None:
        raise AssertionError("no file is needed")

    run = SimpleNamespace(
        state=state or {},
        path="runs/x",
        predictions_file=Path("runs/x/predictions.parquet"),
        class_names=list(names),
        metrics={"weights": judged},
    )
    case = Case(resolve(Recipe(), settings), "c.yaml", run, none, none, none)
    labels = np.repeat(np.arange(len(names)), 100) if train is None else train
    n_val = n_val if val is None else len(val.labels)
    groups = None if val is None else val.groups
    pixels, none_yet = np.zeros((n_val, 1, 1, 1), np.uint8), np.zeros(n_val, int)
    parts = {
        "train": SimpleNamespace(labels=labels),
        "val": Split(pixels, none_yet, np.arange(n_val).astype(str), groups=groups),
    }
    known: dict[str, Any] = {
        "dataset": SimpleNamespace(parts=parts, validation=parts["val"], **parts)
    }
    if rows is not None:
        known["all_phases"] = rows
    said = {name: each for name, each in (("val", val), ("test", test)) if each is not None}
    if said:
        known["predictions"] = said
    vars(case).update(known)
    return case


def rows_of(
    loss: list[float],
    accuracy: list[float] | float = 0.1,
    val_loss: list[float] | None = None,
    val_accuracy: list[float] | float | None = None,
    phase: str = "all",
) -> list[dict[str, Any]]:
    def column(values: Any) -> list[float]:
        return values if isinstance(values, list) else [values] * len(loss)

    columns = {
        "loss": loss,
        "accuracy": column(accuracy),
        "val_loss": loss if val_loss is None else val_loss,
        "val_accuracy": column(accuracy if val_accuracy is None else val_accuracy),
    }
    return [
        {"epoch": index + 1, "phase": phase, **{key: each[index] for key, each in columns.items()}}
        for index in range(len(loss))
    ]


def answers_of(labels: Any, answers: Any, n_classes: int, split: str = "val") -> Predictions:
    labels, answers = np.asarray(labels), np.asarray(answers)
    probs = np.full((len(labels), n_classes), 0.1 / (n_classes - 1), np.float32)
    probs[np.arange(len(labels)), answers] = 0.9
    return Predictions(probs, labels, np.array([f"{i:05}" for i in range(len(labels))]), split)


def found(name: str, case: Case) -> Finding | None:
    return TRAPS.get(name)(case)


def changes(finding: Finding) -> list[dict[str, Any]]:
    return [dict(remedy.settings) for remedy in finding.remedies]


# --- commands


def test_commands_name_the_data_where_it_is_now(tmp_path):
    images, table = tmp_path / "now" / "photos", tmp_path / "labels.csv"
    images.mkdir(parents=True)
    table.touch()
    place = {"data": "folder", "data_path": "/was/photos", "labels": "../labels.csv"}
    case = case_of(TEN, **place)
    assert case.command("evaluate") == "convscope evaluate runs/x"
    assert case.data_words == ("--data", "/was/photos", "--labels", "../labels.csv")
    case = dataclasses.replace(case, data=images, labels=table)
    now = f"--data {images} --labels {table}"
    assert " ".join(case.data_words) == now
    assert case.command("evaluate") == f"convscope evaluate runs/x {now}"
    assert case.again("", {"epochs": 3}).command == (
        f"convscope train --config c.yaml {now} --epochs 3"
    )


def test_commands_leave_sealed_test_images_sealed():
    opened = case_of(TEN, state={"test_openings": [{}]})
    assert opened.evaluation == "convscope evaluate runs/x"
    for state in ({}, {"test": True}, {"test": False}):
        assert case_of(TEN, state=state).evaluation == "convscope evaluate runs/x --no-test"
    sealed = case_of(TEN, state={"test": False})
    assert sealed.again("", {}).command == "convscope train --config c.yaml --no-test"
    # Whether a run opened them or not, its settings alone open them.
    assert case_of(TEN).again("", {}).command == "convscope train --config c.yaml"


def test_a_run_that_goes_on_leaves_sealed_test_images_sealed():
    losses = [2.0, 1.8, 1.6, 1.4, 1.2, 1.0, 0.9, 0.8]
    rows = rows_of(losses, [0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65])

    def command(state: dict[str, Any]) -> str:
        case = case_of(TEN, rows, state=state, epochs=8)
        return found("under-fitting", case).remedies[0].command

    assert command({}) == "convscope train --resume runs/x --epochs 16 --no-test"
    assert command({"test_openings": [{}]}) == "convscope train --resume runs/x --epochs 16"


def test_settings_are_spelt_so_that_they_are_read_back():
    case = case_of(TEN)
    command = case.again("", {"split.group": "[^_]*_", "head.hidden": [64, 32]}).command
    given = shlex.split(command)[5::2]
    assert dict(map(parse_setting, given)) == {"split.group": "[^_]*_", "head.hidden": [64, 32]}


def test_a_backbone_that_was_not_pretrained_has_no_scaling_of_its_own():
    settings = {"model": LITE0, "backbone.scaling": "caffe"}
    assert found("scaling", case_of(TEN, **settings)).sure == "certain"
    assert found("scaling", case_of(TEN, **settings, weights="random")) is None


# --- the learning rate


@pytest.mark.parametrize(
    ("losses", "verdict"),
    [
        ([2.304], "too low or too high"),
        ([2.304, 2.304], "too low or too high"),
        ([2.304] * 5, "too low or too high"),
        ([2.31, 2.3055, 2.3056, 2.304, 2.3042], "too low or too high"),
        ([2.31, 2.308, 2.307, 2.305], "probably too low"),
        ([5.2, 5.1, 5.0], "too low or too high"),
        ([3676.5, 2.47, 2.34, 2.33, 2.32], "probably too high"),
        ([298901.7, 2.303, 2.303], "probably too high"),
        ([2.31, 2.6], "probably too high"),
    ],
)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_where_nothing_is_learnt_the_losses_say_which_way_to_go(losses, verdict, smoothing):
    case = case_of(
        TEN, rows_of(losses), label_smoothing=smoothing, **{"optimizer.learning_rate": 1e-6}
    )
    finding = found("learning-rate", case)
    assert finding.symptom == f"Nothing is learnt: the learning rate is {verdict}."
    if verdict == "too low or too high":
        assert finding.remedies[0].command == "convscope doctor runs/x --range-test"
    else:
        rate = 1e-7 if verdict.endswith("high") else 1e-5
        assert changes(finding) == [{"optimizer.learning_rate": rate}]


UNEVEN = np.array([0] * 910 + [c for c in range(1, 10) for _ in range(10)])
RARE = (np.arange(100)[:, None] < 10 * np.ones(10)).astype(np.uint8)


@pytest.mark.parametrize("falls_from", ["classes of unequal size", "rare classes in an image"])
@pytest.mark.parametrize(
    ("towards", "verdict"),
    [
        (lambda start, guess: np.linspace(start, guess + 0.01, 8), "probably too low"),
        (lambda start, guess: guess + (start - guess) * 0.8 ** np.arange(20), "probably too low"),
        # In one step to guessing: either that is all there is to learn, or no unit is left alive.
        (
            lambda start, guess: guess + (start - guess) * 0.01 ** np.arange(5),
            "too low or too high",
        ),
        # Only a leap brings a loss above that of a new network.
        (lambda start, guess: guess + start * 0.01 ** np.arange(5), "probably too high"),
    ],
    ids=["steady", "ever slower", "at once", "after a leap"],
)
def test_a_slow_fall_passes_through_the_loss_of_guessing(falls_from, towards, verdict):
    if falls_from.startswith("rare"):
        train, settings = RARE, {"multi_label": True, "loss": "binary_crossentropy"}
    else:
        train, settings = UNEVEN, {}
    guess = guessing(case_of(TEN, train=train, **settings))
    losses = towards(guess.even_loss, guess.loss).tolist()
    finding = found("learning-rate", case_of(TEN, rows_of(losses), train=train, **settings))
    assert finding.symptom == f"Nothing is learnt: the learning rate is {verdict}."


def test_what_validation_images_show_was_learnt():
    rows = rows_of([1.128, 1.047, 0.994, 0.949], [0.37, 0.37, 0.37, 0.4])
    labels = np.array([0] * 6 + [1] * 4 + [2] * 8)
    guesses, knows = np.full(18, 2), np.where(np.arange(18) == 0, 1, labels)
    names, train = ("a", "b", "c"), np.repeat([0, 1, 2], [25, 5, 38])
    for answers, learns in ((guesses, False), (knows, True)):
        case = case_of(names, rows, answers_of(labels, answers, 3), train=train)
        assert (found("learning-rate", case) is None) == learns


def test_what_the_order_of_images_of_several_classes_shows_was_learnt():
    rows = rows_of([0.693, 0.5, 0.33])
    random = np.random.default_rng(1)
    labels = (random.random((60, 10)) < 0.1).astype(np.uint8)
    noise = random.random(labels.shape, np.float32)
    settings = {"multi_label": True, "loss": "binary_crossentropy"}
    for probs, learns in ((noise, False), (0.3 * labels + 0.7 * noise, True)):
        said = Predictions(probs, labels, np.array([f"{i}" for i in range(60)]), "val")
        case = case_of(TEN, rows, said, train=RARE, **settings)
        assert (found("learning-rate", case) is None) == learns


def test_a_backbone_which_no_range_test_takes_is_tried_both_ways():
    finding = found("learning-rate", case_of(TEN, rows_of([2.304, 2.304]), model=LITE0))
    assert changes(finding) == [{"optimizer.learning_rate": rate} for rate in (1e-2, 1e-4)]


def test_a_loss_near_that_of_guessing_with_accuracy_well_above_it_is_no_trap():
    rows = rows_of([0.672, 0.668, 0.665, 0.664], [0.58, 0.60, 0.61, 0.61])
    assert found("learning-rate", case_of(TWO, rows)) is None


def test_softened_labels_hide_no_rise_and_are_none():
    learnt = rows_of([1.6, 1.2, 1.1], [0.5, 0.8, 0.9])
    assert found("learning-rate", case_of(TEN, learnt, label_smoothing=0.2)) is None
    rises = rows_of([1.6, 1.1, 1.5], [0.5, 0.9, 0.6])
    finding = found("learning-rate", case_of(TEN, rises, label_smoothing=0.2))
    assert finding.symptom.startswith("The training loss rises again")


def test_guessing_reckons_with_sizes_of_classes_and_softened_labels():
    train = np.array([0] * 90 + [1] * 10)
    plain = guessing(case_of(TWO, train=train))
    assert plain.loss == pytest.approx(0.3251, abs=1e-4)
    assert (plain.least_loss, plain.accuracy) == (0, 0.9)
    even = guessing(case_of(TWO, train=train, balance=True))
    assert even.loss == pytest.approx(np.log(2))
    assert even.accuracy == 0.5
    soft = guessing(case_of(TEN, label_smoothing=0.2))
    assert soft.loss == pytest.approx(np.log(10))
    share = np.array([0.82] + [0.02] * 9)
    assert soft.least_loss == pytest.approx(-(share * np.log(share)).sum())
    flags = np.array([[1, 0], [0, 0], [0, 0], [0, 0]], np.uint8)
    several = guessing(case_of(TWO, train=flags, multi_label=True, loss="binary_crossentropy"))
    assert several.loss == pytest.approx(0.5623 / 2, abs=1e-4)
    assert several.accuracy == pytest.approx(7 / 8)


def test_epochs_on_the_hardest_images_alone_show_no_rise():
    rows = rows_of([2.0, 1.0, 0.577, 1.196], [0.3, 0.6, 0.8, 0.5])
    filtering = {"filter.share": 0.3, "filter.start": 0.6, "epochs": 4}
    assert found("learning-rate", case_of(TEN, rows)) is not None
    assert found("learning-rate", case_of(TEN, rows, **filtering)) is None
    rows[2]["loss"] = 1.5  # the last on all images
    assert "after epoch 3" in found("learning-rate", case_of(TEN, rows, **filtering)).evidence
    changed = {"epochs_changed": [{"after": 2, "to": 4}]}
    with pytest.raises(Unknown, match="epochs changed"):
        found("learning-rate", case_of(TEN, rows, state=changed, **filtering))


def test_a_head_without_a_learning_rate_has_none_that_is_wrong():
    case = case_of(
        TWO, rows_of([0.69], 0.5), model=LITE0, **{"head.logistic": True, "head.standardise": True}
    )
    with pytest.raises(Unknown, match="has no learning rate"):
        found("learning-rate", case)


@pytest.mark.parametrize(
    ("kind", "reason", "diverged"),
    [
        ("DivergedError", "the loss is nan in epoch 1: training diverged", True),
        ("TrainingError", "the loss is nan in epoch 1: training diverged", True),
        ("TrainingError", "process 1 of 2 lost another one", False),
    ],
)
def test_a_lost_process_is_no_divergence(kind, reason, diverged):
    rows = rows_of([1.5, 1.0], [0.5, 0.7])
    case = case_of(TEN, rows, state={"failure": {"kind": kind, "reason": reason}})
    assert (found("learning-rate", case) is not None) == diverged


# --- a network that guesses


def test_a_network_at_chance_is_the_first_finding(monkeypatch):
    labels = np.arange(300) % 10
    said = answers_of(labels, np.full(300, 9), 10)
    case = case_of(TEN, rows_of([2e5, 2.303, 2.303]), val=said, label_smoothing=0.2)
    finding = found("at-chance", case)
    assert finding.symptom == "The network is no better than guessing."
    assert "Accuracy 10.0% on 300" in finding.evidence
    assert "random order reach 10.0%; 300 of them are j." in finding.evidence
    assert finding.remedies[0].command.endswith("--range-test")
    certain = SimpleNamespace(name="aaa", value=lambda _: finding)
    traps = SimpleNamespace(
        entries=lambda: [certain, SimpleNamespace(name="at-chance", value=TRAPS.get("at-chance"))]
    )
    monkeypatch.setattr(diagnosis, "TRAPS", traps)
    assert list(diagnosis.diagnose(case).findings) == ["at-chance", "aaa"]


def test_one_that_knows_only_its_training_images_is_not_told_to_change_its_rate():
    labels = np.arange(300) % 2
    said = answers_of(labels, np.arange(300) // 2 % 2, 2)
    finding = found("at-chance", case_of(TWO, rows_of([0.7, 0.01], [0.5, 1.0]), val=said))
    assert finding.symptom.endswith("on images that it was not trained on.")
    assert finding.remedies[0].command == "convscope data show --data cifar10"


def test_a_network_less_often_right_than_the_largest_class_is_large_may_know_something():
    labels = np.array([0] * 190 + [1] * 10)
    answers = np.array([0] * 170 + [1] * 20 + [1] * 9 + [0])
    assert (answers == labels).mean() < 0.95
    assert (
        found("at-chance", case_of(TWO, rows_of([0.3]), val=answers_of(labels, answers, 2))) is None
    )


def test_few_images_cannot_tell_a_network_from_one_that_guesses():
    said = answers_of([0, 1] * 4, [0, 1, 0, 1, 0, 1, 1, 0], 2)
    with pytest.raises(Unknown, match="8 validation images cannot tell"):
        found("at-chance", case_of(TWO, rows_of([0.6]), val=said))


@pytest.mark.parametrize("n_groups", [None, 2, 5])
def test_few_groups_of_right_answers_cannot_tell_it_either(n_groups):
    labels = np.arange(100 if n_groups else 2) % 2
    said = answers_of(labels, labels, 2)
    if n_groups:
        groups = np.array([f"{number % n_groups}" for number in range(100)])
        said = dataclasses.replace(said, groups=groups)
    with pytest.raises(Unknown, match=f"{len(labels)} validation images cannot tell"):
        found("at-chance", case_of(TWO, rows_of([0.1], 1.0), val=said))


def test_kappa_and_its_error_are_those_of_answers_in_random_order():
    chance = np.random.default_rng(0)
    labels = chance.choice(3, 400, p=[0.6, 0.3, 0.1])
    answers = chance.choice(3, 400, p=[0.2, 0.5, 0.3])
    kappas = [beyond_guessing(labels, chance.permutation(answers), 3)[0] for _ in range(2000)]
    _, error = beyond_guessing(labels, answers, 3)
    assert np.mean(kappas) == pytest.approx(0, abs=3 * error / np.sqrt(2000))
    assert np.std(kappas) == pytest.approx(error, rel=0.06)
    assert beyond_guessing(labels, labels, 3)[0] == 1
    assert np.isnan(beyond_guessing(np.zeros(5, int), np.zeros(5, int), 3)).all()


# --- labels


def torn(n_images: int, apart: float, seed: int) -> Predictions:
    """Two overlapping classes, and the probabilities that are true of them."""
    chance = np.random.default_rng(seed)
    labels = chance.integers(0, 2, n_images)
    values = chance.normal((2 * labels - 1) * apart, 1)
    dog = 1 / (1 + np.exp(-2 * apart * values))
    ids = np.array([f"{i:05}" for i in range(n_images)])
    return Predictions(np.stack([1 - dog, dog], axis=1).astype(np.float32), labels, ids, "val")


@pytest.mark.parametrize("apart", [1.0, 1.2, 1.4])
def test_a_network_that_knows_how_torn_it_is_doubts_no_label(apart):
    alarms = [
        found("label-errors", case_of(TWO, val=said)) is not None
        for said in (torn(500, apart, seed) for seed in range(20))
        if said.right.mean() >= 0.8
    ]
    assert sum(alarms) == 0
    assert len(alarms) >= 18


def test_wrong_labels_among_two_classes_are_found_and_counted():
    said = torn(500, 2.5, seed=0)
    labels = said.labels.copy()
    labels[::10] = 1 - labels[::10]
    wrong = dataclasses.replace(said, labels=labels)
    finding = found("label-errors", case_of(TWO, val=wrong))
    assert finding is not None
    assert "cat, probably dog" in finding.evidence or "dog, probably cat" in finding.evidence
    share, p = share_of_noise(wrong.probs, wrong.labels)
    assert share == pytest.approx(0.1, abs=0.02)
    assert p < 1e-5


@pytest.mark.parametrize("sharper", [0.4, 1.0, 4.0])
def test_no_temperature_is_taken_for_wrong_labels(sharper):
    said = torn(2000, 1.2, seed=3)
    powers = said.probs**sharper
    share, p = share_of_noise(powers / powers.sum(axis=1, keepdims=True), said.labels)
    assert share < 0.03
    assert p > 0.01


# --- classes, parts and probabilities


def test_one_missed_image_of_a_rare_class_is_no_loss_and_many_are():
    def finding(n_rare: int) -> Finding:
        labels = np.array([0] * 100 + [1] * n_rare)
        answers = np.array([0] * 90 + [1] * 10 + [0] * n_rare)
        train = np.array([0] * 500 + [1] * 20)
        return found(
            "class-imbalance", case_of(TWO, val=answers_of(labels, answers, 2), train=train)
        )

    few, many = finding(1), finding(10)
    assert (few.sure, many.sure) == ("possible", "likely")
    assert (
        "recall 0% on 1 validation image of the rare classes, 90% on images of the other"
        in few.evidence
    )
    assert few.evidence.endswith("the rare ones are too few to tell it from chance.")
    assert "suffers" in many.symptom
    assert "too few" not in many.evidence


def test_the_p_value_is_the_one_of_what_differs():
    even = [0, 1] * 300
    val = answers_of(even, even, 2)
    half = answers_of(even, [0, 0] * 300, 2, "test")
    finding = found("val-unlike-test", case_of(TWO, val=val, test=half))
    assert "images (p below 1e-6)." in finding.evidence
    assert "frequencies" not in finding.evidence
    others = [0] * 370 + [1] * 230
    mixed = answers_of(others, others, 2, "test")
    finding = found("val-unlike-test", case_of(TWO, val=val, test=mixed))
    p = chi2_contingency([[300, 300], [370, 230]]).pvalue
    assert finding.evidence.endswith(
        f"images (p = 1). The class frequencies of the two differ (p = {p:.2g})."
    )


def test_after_a_refit_accuracies_are_those_of_two_networks():
    even, others = [0, 1] * 300, [0] * 370 + [1] * 230
    val = answers_of(even, even, 2)
    half = answers_of(even, [0, 0] * 300, 2, "test")
    assert found("val-unlike-test", case_of(TWO, val=val, test=half, judged="refit")) is None
    mixed = answers_of(others, [0] * 600, 2, "test")
    finding = found("val-unlike-test", case_of(TWO, val=val, test=mixed, judged="refit"))
    assert finding.evidence.startswith("The class frequencies of the two differ (p = ")


# --- images in groups


def bursts(n_groups: int, n_each: int, rates: Any, split: str = "val") -> Predictions:
    """Answers on bursts, of which each is right or wrong as a whole more or less; classes mixed."""
    chance = np.random.default_rng(n_groups + n_each)
    labels = np.arange(n_groups * n_each) % 2
    right = chance.random((n_groups, n_each)) < np.broadcast_to(rates, n_groups)[:, None]
    said = answers_of(labels, np.where(right.ravel(), labels, 1 - labels), 2, split)
    names = np.array([f"{split}{number}" for number in range(n_groups)])
    return dataclasses.replace(said, groups=np.repeat(names, n_each))


def test_a_few_unlucky_bursts_are_no_difference_of_validation_and_test():
    val = bursts(12, 25, [0.0] * 3 + [1.0] * 9)
    test = bursts(15, 25, [0.0] + [1.0] * 14, "test")
    alone = [dataclasses.replace(part, groups=None) for part in (val, test)]
    assert found("val-unlike-test", case_of(TWO, val=alone[0], test=alone[1])) is not None
    assert found("val-unlike-test", case_of(TWO, val=val, test=test)) is None
    # What all bursts show is a difference.
    worse = bursts(15, 25, 0.5, "test")
    finding = found("val-unlike-test", case_of(TWO, val=bursts(12, 25, 0.9), test=worse))
    assert "(p below 1e-6)" in finding.evidence


def test_bursts_of_one_class_each_are_no_difference_in_class_frequencies():
    def of_one_class_each(n_first: int, n_second: int, split: str) -> Predictions:
        labels = np.repeat([0] * n_first + [1] * n_second, 30)
        groups = np.repeat([f"{split}{number}" for number in range(n_first + n_second)], 30)
        return dataclasses.replace(answers_of(labels, labels, 2, split), groups=groups)

    def frequencies(test: Predictions) -> str:
        case = case_of(TWO, val=of_one_class_each(6, 4, "val"), test=test)
        finding = found("val-unlike-test", case)
        return "" if finding is None else finding.evidence

    assert frequencies(of_one_class_each(4, 6, "test")) == ""
    many = case_of(
        TWO, val=of_one_class_each(50, 10, "val"), test=of_one_class_each(10, 50, "test")
    )
    assert "class frequencies of the two differ" in found("val-unlike-test", many).evidence


def test_one_burst_of_a_rare_class_is_too_few():
    labels = np.array([0] * 100 + [1] * 20)
    said = answers_of(labels, np.array([0] * 95 + [1] * 5 + [0] * 15 + [1] * 5), 2)
    groups = np.array([f"{number // 5}" for number in range(100)] + ["rare"] * 20)
    train = np.array([0] * 500 + [1] * 20)
    found_in = {
        name: found("class-imbalance", case_of(TWO, val=each, train=train))
        for name, each in (("alone", said), ("burst", dataclasses.replace(said, groups=groups)))
    }
    assert "suffers" in found_in["alone"].symptom
    assert "suffers" not in found_in["burst"].symptom
    assert "on 20 validation images of the rare classes" in found_in["burst"].evidence


def test_bursts_count_by_what_they_tell():
    said = bursts(20, 10, 0.8)
    assert case_of(TWO, val=dataclasses.replace(said, groups=None)).n_val == 200
    assert 40 < case_of(TWO, val=said).n_val < 200
    alike = bursts(20, 10, [1.0] * 16 + [0.0] * 4)
    assert 10 < case_of(TWO, val=alike).n_val < 20
    # Before an evaluation a burst counts once.
    case = case_of(TWO, val=said)
    case.predictions = {}
    vars(case).pop("predictions")
    case.run.predictions_file = SimpleNamespace(exists=lambda: False)
    assert case.n_val == 20


def test_a_few_lucky_bursts_do_not_show_that_something_was_learnt():
    said = bursts(8, 25, [1.0] * 5 + [0.0] * 3)
    alone = dataclasses.replace(said, groups=None)
    rows = rows_of([0.694] * 5, 0.5)
    assert found("learning-rate", case_of(TWO, rows, val=alone)) is None
    for each in (said, bursts(1, 200, 0.7)):
        finding = found("learning-rate", case_of(TWO, rows, val=each))
        assert finding.symptom.startswith("Nothing is learnt")


def test_one_group_cannot_tell_a_network_from_one_that_guesses():
    said = bursts(1, 200, 0.5)
    with pytest.raises(Unknown, match="of one group"):
        found("at-chance", case_of(TWO, rows_of([0.6]), val=said))


def test_probabilities_that_are_off_in_few_bursts_are_no_finding(monkeypatch):
    from convscope.classifier import keras_model

    monkeypatch.setattr(
        keras_model, "spec_of", lambda run, weights: SimpleNamespace(temperature=1.0)
    )
    # Of nine in ten that are to be right, eight are, in some bursts none.
    said = bursts(10, 60, [1.0] * 8 + [0.0] * 2)
    alone = dataclasses.replace(said, groups=None)
    assert found("calibration", case_of(TWO, val=alone)).sure == "certain"
    assert found("calibration", case_of(TWO, val=said)) is None


# --- decisions about several classes


@pytest.mark.parametrize(("factor", "words"), [(0.25, "under"), (4.0, "over")])
def test_decisions_about_several_classes_are_sure_either_way(factor, words, monkeypatch):
    from convscope.classifier import keras_model

    monkeypatch.setattr(
        keras_model, "spec_of", lambda run, weights: SimpleNamespace(temperature=1.0)
    )
    chance = np.random.default_rng(0)
    logits = chance.normal(-2.5, 2, (2000, 5))
    flags = (chance.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.uint8)
    probs = (1 / (1 + np.exp(-factor * logits))).astype(np.float32)
    ids = np.array([f"{i:05}" for i in range(2000)])
    finding = found(
        "calibration",
        case_of(tuple("abcde"), val=Predictions(probs, flags, ids, "val"), multi_label=True),
    )
    assert finding.symptom == f"The probabilities are not calibrated: {words}-confident."
    assert "the share of right decisions" in finding.evidence


# --- curves


def tuned(before: float, after: float, accuracies: tuple[float, float]) -> list[dict[str, Any]]:
    one, other = accuracies
    head = rows_of([before], one, phase="head")
    return head + rows_of([after, after], other, phase="after stage4")


@pytest.mark.parametrize(
    ("before", "after", "accuracies", "sure"),
    [
        (0.004, 0.008, (1.0, 1.0), None),
        (0.7, 4.5, (0.6, 0.6), "likely"),
        (0.7, 4.5, (0.6, 0.59), "likely"),
        (0.7, 4.5, (0.6, 0.3), "certain"),
    ],
)
def test_a_jump_in_fine_tuning_is_certain_if_accuracy_is_lost(before, after, accuracies, sure):
    case = case_of(TEN, tuned(before, after, accuracies), model=LITE0)
    finding = found("fine-tuning", case)
    assert (finding and finding.sure) == sure
    for changed in changes(finding) if finding else ():
        resolve(Recipe(), {"head.hidden": [64], **changed})  # is no error


def test_fine_tuning_that_was_undone_is_no_fault_of_what_was_kept():
    rows = rows_of([1.0, 0.8], 0.7, phase="head")
    rows += rows_of([3.0, 0.5, 0.1, 0.01], 0.99, [4.5, 1.0, 2.0, 3.0], 0.5, "after stage4")
    settings = {"model": LITE0, "schedule.name": "constant"}
    kept, undone = (
        case_of(TEN, rows, state={"rolled_back": back}, val=even_answers(), **settings)
        for back in (False, True)
    )
    assert found("over-fitting", kept).sure == "certain"
    assert found("fine-tuning", kept).sure == "certain"
    assert undone.history == rows[:2]
    assert found("over-fitting", undone) is None
    assert found("under-fitting", undone) is None
    finding = found("fine-tuning", undone)
    assert finding.symptom.endswith("was undone: the frozen backbone was kept.")
    assert finding.sure == "note"
    with pytest.raises(Unknown, match="fine-tuning was undone"):
        found("learning-rate", undone)


def even_answers() -> Predictions:
    labels = np.arange(200) % 10
    return answers_of(labels, labels, 10)


def over_fitted(*val_losses: float) -> list[dict[str, Any]]:
    losses = [1.0, 0.5, 0.2, 0.1, 0.05]
    return rows_of(losses, 0.98, list(val_losses), [0.6, 0.8, 0.9, 0.88, 0.86])


def test_a_spike_in_the_last_epoch_is_no_over_fitting():
    assert found("over-fitting", case_of(TEN, over_fitted(1.0, 0.6, 0.4, 0.38, 0.55))) is None


def test_over_fitting_is_not_mended_by_what_the_run_has_already():
    rows = over_fitted(1.0, 0.6, 0.4, 0.6, 0.7)
    finding = found("over-fitting", case_of(TEN, rows))
    assert changes(finding) == [
        {"augment.flip": True, "augment.crop": 0.125},
        {"early_stop_patience": 3},
    ]
    assert "The weights that are evaluated are those after epoch 3." in finding.evidence
    has = {"augment.flip": True, "augment.crop": 0.3, "early_stop_patience": 2}
    finding = found("over-fitting", case_of(TEN, rows, **has))
    assert changes(finding) == [{}]
    assert finding.remedies[0].command == "convscope data show --data cifar10"
    finding = found("over-fitting", case_of(TEN, rows, judge="last", **has))
    assert changes(finding) == [{"judge": "best"}]
    assert "that are evaluated" not in finding.evidence
    finding = found("over-fitting", case_of(TEN, rows, judged="last"))
    assert "that are evaluated" not in finding.evidence
    # Digits are not to be mirrored.
    finding = found("over-fitting", case_of(TEN, rows, data="digits", **{"augment.crop": 0.2}))
    assert changes(finding) == [{"early_stop_patience": 3}]


def test_a_head_that_takes_no_epochs_over_fits_by_its_losses_and_accuracies():
    logistic = {
        "model": LITE0,
        "recipe": "logistic",
        "head.logistic": True,
        "head.standardise": True,
    }

    def finding(loss: float, accuracy: float, val_loss: float, val: float) -> Finding | None:
        rows = rows_of([loss], accuracy, [val_loss], val)
        return found("over-fitting", case_of(TWO, rows, n_val=200, **logistic))

    noise = finding(0.0003, 1.0, 1.59, 0.55)
    assert noise.sure == "certain"
    assert "accuracy 100.0% on training images, 55.0% on validation images" in noise.evidence
    assert changes(noise) == [{"augment.flip": True, "backbone.views": 2}]
    assert finding(0.1, 1.0, 0.6, 0.6).sure == "likely"
    assert finding(0.01, 1.0, 0.2, 0.93) is None
    assert finding(0.3, 0.9, 0.4, 0.84) is None
    few = rows_of([0.0003], 1.0, [1.59], 0.7)
    assert found("over-fitting", case_of(TWO, few, n_val=20, **logistic)).sure == "likely"


def test_decisions_about_several_classes_over_fit_by_their_losses():
    flags = np.eye(4, dtype=np.uint8).repeat(25, axis=0)
    several = {"multi_label": True, "loss": "binary_crossentropy", "train": flags, "model": LITE0}
    assert guessing(case_of(TEN[:4], **several)).loss == pytest.approx(0.562, abs=1e-3)

    def finding(val_loss: float) -> Finding | None:
        rows = rows_of([0.05], 0.99, [val_loss], 0.9)
        return found(
            "over-fitting",
            case_of(TEN[:4], rows, **several, **{"head.logistic": True, "head.standardise": True}),
        )

    assert finding(0.25) is None
    assert finding(0.4).sure == "likely"
    assert finding(0.9).sure == "certain"


def test_dead_units_are_looked_for_in_images_of_every_class():
    import keras

    from convscope.diagnosis.dead_units import dead_units

    images = np.zeros((600, 4, 4, 1), np.uint8)
    images[300:] = 255
    network = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten()])
    network.add(
        keras.layers.Dense(8, activation="relu", kernel_initializer="ones", name="of_bright")
    )
    case = case_of(TWO, rows_of([0.5]))
    split = Split(images, np.repeat([0, 1], 300), np.array([f"{i:05}" for i in range(600)]))
    vars(case).update(network=network)
    vars(case).update(dataset=SimpleNamespace(validation=split))
    assert dead_units(case) is None
