"""The fast recipe from end to end: its own network, to the same bits after a kill, on any shape."""

import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from killing import assert_same, at_rename, train_until_killed, weights

import convscope
from convscope.classifier.keras_model import open_classifier
from convscope.errors import ConfigError
from convscope.planning import budget as budgets
from convscope.planning.plan import Plan, run_config
from convscope.planning.settle import Request, settle
from convscope.progress import Progress
from convscope.recipe import read_config
from convscope.recipes import RECIPES
from convscope.run import Run
from convscope.training.pace import Deadline, Pace
from convscope.training.results import read_results

FAST = {
    "model": "fast-small",
    "recipe": "fast",
    "data": "digits",
    "epochs": 3,
    # Measured in each process it may come out differently where both are about as fast.
    "precision": "bfloat16",
}


def train(out, settings=FAST, **changes) -> Run:
    return convscope.train(out=out, progress=Progress(), **{**settings, **changes})


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Run:
    return train(tmp_path_factory.mktemp("fast") / "run")


def test_it_learns_quickly(uninterrupted):
    assert uninterrupted.metrics["test"]["accuracy"] > 0.9


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> Run:
    """A shorter run with another seed, large batches and more views."""
    options = {**FAST, "settings": {"least_steps": 1, "tta.mirror": True}}
    out = tmp_path_factory.mktemp("other") / "run"
    return train(out, options, epochs=1, seed=5, batch_size=500, test=False)


def test_few_images_make_small_batches_unless_one_insists_on_others(uninterrupted, other):
    n_images = len(convscope.load("digits", progress=Progress()).train)
    config = run_config(uninterrupted)
    # The last batch is about as large as the others.
    assert (config.batch_size, n_images) == (230, 4 * 230 + 229)
    assert run_config(other).batch_size == 500
    dataset = convscope.load("digits", progress=Progress())
    again = Request({"epochs": 1}, read_config(uninterrupted.config_file))
    same = settle(again, Progress(), lambda config: dataset)
    assert same.config.batch_size == config.batch_size


def test_what_was_whitened_stays(uninterrupted, other):
    first, second = weights(uninterrupted)[:2], weights(other)[:2]
    # The same data give the same patches, whatever the seed, in whatever batches and however long
    # it learns.
    for mine, theirs in zip(first, second, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> Path:
    """A run whose process was killed after its second epoch, not to be changed."""
    out = tmp_path_factory.mktemp("killed") / "run"
    train_until_killed(out, FAST, at_rename("snapshot.npz", nth=2, when="after"))
    return out


@pytest.mark.slow
def test_killed_it_ends_with_the_same_bits(tmp_path, killed, uninterrupted):
    out = shutil.copytree(killed, tmp_path / "run")
    assert_same(train(out, resume=True), uninterrupted)


def test_the_recipe_brings_its_own_network():
    dataset = convscope.load("digits", progress=Progress())
    config = planned(None, dataset).config
    assert config.model == "fast-medium"
    assert not config.augment.flip  # digits do not look so


def test_it_is_judged_by_the_mean_over_views(other):
    val = convscope.load("digits", progress=Progress()).val
    both = open_classifier(other).predict_on_batch(val.images)
    assert other.metrics["val"]["accuracy"] == np.mean(both.argmax(axis=1) == val.labels)


def test_a_network_that_cannot_be_whitened_is_refused_in_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"no layer to whiten") as caught:
        train(tmp_path / "run", model="cnn-functional")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_network_of_one_size_cannot_train_on_smaller_images_first(tmp_path):
    one_size = {"model": "cnn-functional", "image_size": 24}
    options = {"settings": {"progressive.scale": 0.75, "start.whiten": False}}
    with pytest.raises(ConfigError, match="works at 24x24 pixels only") as caught:
        train(tmp_path / "run", {**FAST, **one_size, **options})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def aimed(out, **changes) -> Run:
    usual = {"out": out, "data": "digits", "progress": Progress()}
    return convscope.train(**{**usual, **changes})


@pytest.mark.slow
def test_it_keeps_to_the_minutes_given(tmp_path):
    start = time.monotonic()
    run = aimed(tmp_path / "run", minutes=0.75)
    took = time.monotonic() - start
    config = run_config(run)
    assert config.recipe == "fast"
    assert config.model in RECIPES.entry("fast").info["curves"]
    assert len(read_results(run.results_file)) == config.epochs > 3
    # Loading the data is not counted, and a machine that does other things may be late.
    assert took < 60 * 0.75 * 2


@pytest.mark.slow
def test_where_epochs_take_longer_than_measured_there_are_fewer(tmp_path, monkeypatch):
    calls = []

    def fitting(self, done, current, lengths_of):
        calls.append((done, current))
        return 5

    monkeypatch.setattr(Pace, "fitting", fitting)
    run = aimed(tmp_path / "run", minutes=0.75, model="fast-small")
    rows = read_results(run.results_file)
    planned = calls[0][1]
    assert planned > 5
    assert calls == [(1, planned), *((done, 5) for done in range(2, 6))]
    assert len(rows) == 5
    assert run.state["epochs_changed"] == [{"after": 1, "to": 5}]
    # The run says what it came to, and the learning rate comes down all the same.
    assert run_config(run).epochs == 5
    rates = [row["learning_rate"] for row in rows]
    # After the last step, steps are counted on from the snapshot.
    assert rates[1] > 1.5 * rates[3] > 0
    assert rates[4] == pytest.approx(0, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"image_size": 24}])  # 24: smaller images first
def test_measuring_leaves_no_trace_in_what_is_learnt(tmp_path, monkeypatch, changes):
    monkeypatch.setattr(Pace, "fitting", lambda self, done, current, lengths_of: current)
    settings = {"progressive.scale": 0.75}
    planned = aimed(tmp_path / "run", minutes=0.1, model="fast-small", settings=settings, **changes)
    again = convscope.train(config=planned.config_file, out=tmp_path / "again", progress=Progress())
    assert_same(again, planned)


def planned(budget, dataset, **given) -> Plan:
    request = Request({"data": "digits", "recipe": "fast", **given}, budget=budget)
    return settle(request, Progress(), lambda config: dataset)


@pytest.mark.parametrize(
    ("minutes", "measured"),
    [
        (1e-9, ["fast-small"]),
        (2, ["fast-small"]),
        (1e6, ["fast-small", "fast-medium", "fast-large", "fast-deep"]),
    ],
)
def test_a_network_that_cannot_fit_is_not_even_measured(monkeypatch, minutes, measured):
    asked = []

    def speed(steps, config, dataset):
        asked.append(steps.model.name.replace("_", "-"))
        return budgets._Speed(0.5, 1.0, 1.0)

    monkeypatch.setattr(budgets, "_speed", speed)
    dataset = convscope.load("digits", progress=Progress())
    settled = planned(budgets.Budget(minutes, None), dataset)
    assert asked == measured
    assert settled.config.model == measured[-1]
    # What the recipe has for that network alone is in its plan.
    assert settled.config.augment.cutout == (0.25 if measured[-1] == "fast-deep" else 0)
    assert settled.measured.model.name.replace("_", "-") == measured[-1]


@pytest.mark.parametrize(
    ("settings", "refit", "epochs"),
    # Of a minute 0.8 s are for files. A view of a judged image takes 3/4 of an image of an epoch,
    # and of 718 images to learn from there are 719 + 360 to judge: 1.13 epochs for each view, which
    # are two (mirrored), and for 15 in 100 images two more of each (shifted).
    [
        ({"mirror": False, "shift": 0}, False, 58),
        ({"mirror": True, "shift": 0}, False, 56),
        ({"mirror": False, "shift": 0.03}, False, 57),
        # Eight views: eight times as much to judge.
        ({"mirror": True, "turn": True, "shift": 0}, False, 50),
        # An epoch costs another of 718 + 719 images, and 2 s are for compiling again.
        ({"mirror": False, "shift": 0}, True, 18),
    ],
)
def test_judging_and_a_refit_have_their_share_of_the_minutes(monkeypatch, settings, refit, epochs):
    monkeypatch.setattr(budgets, "_speed", lambda *_: budgets._Speed(1.0, 1.0, 2.0))
    monkeypatch.setattr(Deadline, "left", lambda self: 60.0)
    dataset = convscope.load("digits", split={"val_fraction": 0.5}, progress=Progress())
    assert (len(dataset.train), len(dataset.val), len(dataset.test)) == (718, 719, 360)
    tta = {f"tta.{key}": value for key, value in settings.items()}
    wish = {"model": "fast-small", "refit": refit, **tta}
    settled = planned(budgets.Budget(1.0, None), dataset, **wish)
    assert settled.config.epochs == epochs


def test_the_time_of_a_plan_is_that_of_both_sizes(monkeypatch):
    monkeypatch.setattr(budgets, "_speed", lambda *_: budgets._Speed(1.0, 0.6, 0.0))
    monkeypatch.setattr(Deadline, "left", lambda self: 60.0)
    dataset = convscope.load("digits", progress=Progress())
    wish = {"model": "fast-small", "tta.mirror": False, "tta.shift": 0}
    settled = planned(budgets.Budget(1.0, None), dataset, **wish, **{"progressive.scale": 0.75})
    # 0.8 s are for files, and 288 and 360 images are judged beside 1,149 to learn from. Half of
    # the epochs take 0.6 s, the others one.
    epochs = int((60 - 0.8 - 0.75 * (288 + 360) / 1149) / 0.8)
    assert settled.config.epochs == epochs == 73
    assert settled.of_smaller == 0.6


def test_the_measured_time_of_smaller_images_is_kept_where_there_is_no_pace(monkeypatch):
    monkeypatch.setattr(budgets, "_speed", lambda *_: budgets._Speed(1.0, 0.6, 0.0))
    dataset = convscope.load("digits", progress=Progress())
    monkeypatch.setattr(budgets, "CURVE_IMAGES", len(dataset.train))
    wanted = budgets.Budget(None, 90)
    settled = planned(wanted, dataset, model="fast-small", **{"progressive.scale": 0.75})
    assert settled.pace is None
    assert settled.of_smaller == 0.6


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"minutes": 1, "target": 90}, "not both"),
        ({"minutes": 0}, "above 0"),
        ({"minutes": float("nan")}, "above 0"),
        ({"target": 92}, "measurements on cifar10, not on digits"),
        ({"target": 99.5, "data": "cifar10"}, r"reached 99\.5 % \(the best is"),
        ({"target": 0.92}, "percentage"),
        ({"target": 192}, "percentage"),
        ({"minutes": 1, "epochs": 3}, "omit --epochs"),
        (
            {"minutes": 1, "recipe": "tutorial"},
            "need measured .*, and there are none for the recipe 'tutorial'; use one of: fast",
        ),
        ({"minutes": 1, "model": "cnn-functional"}, "choose --epochs, or"),
    ],
)
def test_an_aim_that_cannot_be_is_refused_in_one_line(tmp_path, wrong, says):
    with pytest.raises(ConfigError, match=says) as caught:
        aimed(tmp_path / "run", **wrong)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_started_again_it_goes_on_to_the_epochs_that_were_chosen(tmp_path, killed, uninterrupted):
    out = shutil.copytree(killed, tmp_path / "run")
    # The script that was begun with --minutes is started once more.
    again = aimed(out, model="fast-small", minutes=0.01, resume=True)
    assert_same(again, uninterrupted)
