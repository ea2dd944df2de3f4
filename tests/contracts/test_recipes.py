"""What every registered recipe says and settles, found by the registry."""

import re
import shlex

import pytest
import typer

from convscope.cli._main import app
from convscope.datasets import DATASETS
from convscope.errors import ConfigError
from convscope.models import MODELS, is_backbone
from convscope.models.backbones import BACKBONES
from convscope.recipe import Recipe, RunConfig, dump_config, resolve
from convscope.recipes import RECIPES, default_recipe, require_fitting

ENTRIES = RECIPES.entries()


def by_name(entry) -> str:
    return entry.name


def commands(doc) -> list[str]:
    """The commands that a docstring names after "Command:"."""
    return re.findall(r"Command:\s+`([^`]+)`", doc)


def test_there_are_some():
    assert "tutorial" in RECIPES.names()


@pytest.mark.parametrize("entry", ENTRIES, ids=by_name)
def test_its_first_line_is_one_sentence(entry):
    first, blank, *_ = entry.doc.splitlines()
    assert not blank
    assert 20 < len(first) <= 100
    assert first.endswith(".")
    # A point within a number ("0.001") ends no sentence.
    assert not re.search(r"[.!?]\s", first)


@pytest.mark.parametrize("entry", ENTRIES, ids=by_name)
def test_its_command_is_one_that_exists_and_names_it(entry):
    found = commands(entry.doc)
    assert found, "the docstring has no line 'Command: `convscope train ...`'"
    for command in found:
        program, verb, *options = shlex.split(command)
        assert (program, verb) == ("convscope", "train")
        train = typer.main.get_command(app).commands["train"]
        # Parses without running; an unknown option or value raises.
        context = train.make_context("train", options, resilient_parsing=False)
        assert context.params["recipe"] == entry.name
        model = context.params["model"] or RunConfig.model_fields["model"].default
        assert is_backbone(model) == (entry.info["trains"] == "backbone")
        require_fitting(entry.name, model, backbone=is_backbone(model))


@pytest.mark.parametrize("entry", ENTRIES, ids=by_name)
def test_its_docstring_says_what_it_costs_and_brings(entry):
    for word in ("Cost", "Expected"):
        found = re.search(rf"^\s*{word}: (.+)$", entry.doc, re.MULTILINE)
        assert found, f"the docstring has no line '{word}: ...'"
        assert re.search(r"\d", found[1]), f"'{word}' names no figure"


@pytest.mark.parametrize("entry", ENTRIES, ids=by_name)
def test_it_is_for_networks_or_for_backbones_and_says_so_when_it_does_not_fit(entry):
    trains = entry.info["trains"]
    assert trains in ("network", "backbone")
    require_fitting(entry.name, "any", backbone=trains == "backbone")
    with pytest.raises(ConfigError, match=f"'{entry.name}' is not for any, which is") as caught:
        require_fitting(entry.name, "any", backbone=trains != "backbone")
    assert "\n" not in str(caught.value)
    advised = str(caught.value).rpartition("choose one of: ")[2].split(", ")
    assert advised
    assert all(RECIPES.entry(name).info["trains"] != trains for name in advised)


@pytest.mark.parametrize("backbone", [False, True])
def test_the_default_recipe_fits(backbone):
    name = default_recipe(backbone=backbone)
    require_fitting(name, "any", backbone=backbone)


@pytest.mark.parametrize(
    "entry", [e for e in ENTRIES if e.info["trains"] == "backbone"], ids=by_name
)
def test_a_recipe_for_backbones_can_be_cut_where_it_says(entry):
    recipe = entry.value()
    for each in BACKBONES.entries():
        places = ("start", "before-last", "end", *list(each.value.stages)[:-1])
        assert recipe.backbone.cut in places, each.name


@pytest.mark.parametrize("entry", ENTRIES, ids=by_name)
def test_it_resolves_and_reads_back(entry, tmp_path):
    recipe = entry.value()
    assert isinstance(recipe, Recipe)
    assert recipe == entry.value()
    config = resolve(recipe, {"recipe": entry.name})
    assert config.recipe == entry.name
    assert config.model in MODELS.names()
    assert config.data in DATASETS.names()
    assert resolve(Recipe(), config.model_dump()) == config
    assert f"recipe: {entry.name}" in dump_config(config)
    for field in Recipe.model_fields:
        assert getattr(config, field) == getattr(recipe, field)
