"""`convscope datasets`, `recipes` and `runs`."""

import shutil

import pytest

from convscope.datasets import DATASETS
from convscope.recipe import Recipe, read_config, resolve
from convscope.recipes import RECIPES
from convscope.run import Run


def test_all_datasets_are_listed(cli):
    done = cli("datasets")
    assert done.code == 0
    names = {line.split()[0] for line in done.out.splitlines()[1:]}
    # A folder and shards are given by their place, not by the name of the loader.
    assert set(DATASETS.names()) - {"folder", "shards"} | {"PATH", "PLACE"} <= names
    assert "folder" not in names
    for entry in DATASETS.entries():
        assert entry.summary.split()[0] in done.out


def test_all_recipes_are_listed(cli):
    done = cli("recipes")
    assert done.code == 0
    for entry in RECIPES.entries():
        assert entry.name in done.out
        assert entry.summary in " ".join(done.out.split())
    lines = {line.split()[0]: line for line in done.out.splitlines()[1:]}
    assert "a network from scratch" in lines["tutorial"]
    assert "a pretrained backbone" in lines["finetune"]


@pytest.mark.parametrize("entry", RECIPES.entries(), ids=lambda entry: entry.name)
def test_a_recipe_is_shown_as_a_configuration(cli, tmp_path, entry):
    done = cli("recipes", "show", entry.name)
    assert done.code == 0
    words = " ".join(done.out.replace("#", " ").split())
    assert " ".join(entry.doc.split()) in words
    file = tmp_path / "mine.yaml"
    file.write_text(done.out)
    settings = read_config(file)
    assert settings["recipe"] == entry.name
    assert resolve(Recipe(), settings) == resolve(entry.value(), {"recipe": entry.name})


def test_a_recipe_says_which_model_has_settings_of_its_own(cli):
    lines = cli("recipes", "show", "fast").out.splitlines()
    own = RECIPES.entry("fast").info["of_models"]["fast-deep"]["augment.cutout"]
    assert f"# With --model fast-deep by default: augment.cutout={own}" in lines


def test_a_recipe_explains_its_settings_and_says_what_tune_varies(cli):
    shown = cli("recipes", "show", "finetune").out
    assert "  dropout: 0.3  # dropout rate before each dense layer\n" in shown
    assert "#   stratify: true  # keep the share of each class equal in all parts\n" in shown
    assert "# 'convscope tune' varies:\n#   optimizer.learning_rate=0.0001..0.01:log\n" in shown
    assert "has nothing to vary" in cli("recipes", "show", "logistic").out


def test_an_unknown_recipe_is_not_shown(fails):
    line = fails(2, "recipes", "show", "prob")
    assert "unknown recipe 'prob'; did you mean 'probe'?" in line


def test_runs_are_listed_oldest_first_with_their_state(cli, digits_run, tmp_path):
    for name, created in (("b", "2026-01-01T10:00:00"), ("a", "2026-02-01T11:30:00")):
        shutil.copytree(digits_run, tmp_path / "runs" / name)
        Run(tmp_path / "runs" / name).record(created=created)
    unjudged = Run.create(tmp_path / "runs" / "[c]", "")
    unjudged.record(status="training", created="2026-03-01T00:00:00")
    (tmp_path / "runs" / "not a run").mkdir()
    done = cli("runs")
    assert done.code == 0
    rows = [line.split() for line in done.out.splitlines()[1:]]
    metrics = Run.open(digits_run).metrics
    numbers = [f"{metrics[part]['accuracy']:.4f}" for part in ("val", "test")]
    assert rows == [
        ["b", "finished", "2026-01-01", "10:00", *numbers, "1"],
        ["a", "finished", "2026-02-01", "11:30", *numbers, "1"],
        ["[c]", "killed", "2026-03-01", "00:00", "0"],
    ]
    assert cli("runs", tmp_path / "runs").out == done.out


def test_runs_while_one_is_being_trained(cli, tmp_path):
    run = Run.create(tmp_path / "runs" / "busy", "")
    run.record(status="training")
    with run.training_lock():
        assert "training" in cli("runs").out
    assert "killed" in cli("runs").out


def test_no_runs_yet(fails):
    assert "there is no folder runs; runs appear there after 'convscope train'" in fails(2, "runs")


def test_a_damaged_run_does_not_hide_the_others(cli, digits_run, tmp_path):
    shutil.copytree(digits_run, tmp_path / "runs" / "whole")
    shutil.copytree(digits_run, tmp_path / "runs" / "broken")
    (tmp_path / "runs" / "broken" / "run.json").write_text("{")
    done = cli("runs")
    assert done.code == 0
    rows = {line.split()[0]: line.split()[1] for line in done.out.splitlines()[1:]}
    assert rows == {"broken": "damaged", "whole": "finished"}
