"""What every registered recipe says and settles, found by the registry."""

import re
import shlex

import pytest
import typer

from convscope.cli._main import app
from convscope.datasets import DATASETS
from convscope.models import MODELS
from convscope.recipe import Recipe, dump_config, resolve
from convscope.recipes import RECIPES

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
