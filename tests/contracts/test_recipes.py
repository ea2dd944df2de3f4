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
from convscope.recipe import Recipe, RunConfig, dump_config, flat, resolve
from convscope.recipes import (
    RECIPES,
    default_recipe,
    recipe_made_for,
    require_fitting,
    usual_model,
)

ENTRIES = RECIPES.entries()


def by_name(entry) -> str:
    return entry.name


def commands(doc) -> list[str]:
    """The commands that a docstring names after "Command:"."""
    return re.findall(r"Command:\s+`([^`]+)`", doc)


def test_there_are_some():
    assert "tutorial" in RECIPES.names()


def test_a_network_may_have_a_recipe_that_was_made_for_it():
    names = ("fast-small", "fast-deep", "cnn-functional", "mobilenet_v2")
    assert [recipe_made_for(name) for name in names] == ["fast", "fast", None, None]


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


@pytest.mark.parametrize("entry", ENTRIES, ids=by_name)
def test_it_has_a_model_if_none_is_named_or_asks_for_one(entry):
    usual = "cnn-sequential"
    if entry.info["trains"] == "network" or "model" in entry.info:
        assert usual_model(entry.name) == entry.info.get("model", usual)
        return
    with pytest.raises(ConfigError, match=f"'{entry.name}' needs a .* --models, .* --models effic"):
        usual_model(entry.name, "--models")
    with pytest.raises(ConfigError, match=f"'{entry.name}' needs a pretrained.* --model") as caught:
        usual_model(entry.name)
    assert usual not in str(caught.value)


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


@pytest.mark.parametrize(
    ("entry", "model"),
    [
        pytest.param(entry, model, id=f"{entry.name}-{model}")
        for entry in ENTRIES
        for model in entry.info.get("of_models", {})
    ],
)
def test_what_it_has_for_one_model_alone_are_settings_and_the_model_is_another(entry, model):
    assert model in MODELS.names()
    # Those of its usual model are the recipe's.
    assert model != entry.info["model"]
    recipe = entry.value()
    own = entry.info["of_models"][model]
    changed = flat(resolve(recipe, {"recipe": entry.name, "model": model}, own).model_dump())
    usual = flat(recipe.model_dump())
    assert own == {key: changed[key] for key in usual if changed[key] != usual[key]}


# What the figures of the docstrings were measured with; whoever changes it measures anew.
PINNED = {
    "tutorial": {
        "optimizer": {"name": "adam", "learning_rate": 1e-3},
        "batch_size": 128,
        "epochs": 20,
        "judge": "last",
    },
    "tutorial-transfer": {
        "optimizer": {"name": "adam", "learning_rate": 1e-3},
        "head": {"pooling": "flatten", "hidden": (128, 64)},
        "backbone": {"scaling": "unit"},
        "batch_size": 128,
        "epochs": 20,
        "image_size": 32,
        "precision": "float32",
        "judge": "last",
    },
    "probe": {
        "optimizer": {"name": "adamw", "learning_rate": 1e-3, "weight_decay": 0.01},
        "schedule": {"name": "cosine"},
        "head": {"standardise": True, "search": True},
        "batch_size": 256,
        "epochs": 20,
        "image_size": 160,
        "precision": "float32",
        "judge": "last",
    },
    "finetune": {
        "optimizer": {
            "name": "adamw",
            "learning_rate": 1e-3,
            "weight_decay": 0.05,
            "layer_decay": 0.5,
        },
        "schedule": {"name": "cosine", "warmup_epochs": 1},
        "augment": {"flip": True},
        "head": {"standardise": True, "dropout": 0.3},
        "backbone": {"cut": "before-last", "views": 2, "head_epochs": 4},
        "label_smoothing": 0.1,
        "batch_size": 128,
        "epochs": 10,
        "image_size": 160,
        "precision": "float32",
        "judge": "last",
    },
    "logistic": {
        "head": {"pooling": "stages", "standardise": True, "logistic": True},
        "epochs": 1,
        "image_size": 224,
        "precision": "float32",
        "judge": "last",
    },
    "finetune-photos": {
        "optimizer": {"name": "adamw", "learning_rate": 1e-4, "weight_decay": 0.05, "ema": 0.97},
        "schedule": {"name": "cosine", "warmup_epochs": 1},
        "augment": {"flip": True, "crop": 0.08},
        "head": {"pooling": "stages", "standardise": True, "logistic": True},
        "backbone": {"cut": "before-last", "views": 4, "head_epochs": 0},
        "batch_size": 32,
        "epochs": 6,
        "image_size": 224,
        "precision": "float32",
        "judge": "last",
    },
    "fast": {
        "optimizer": {
            "name": "muon",
            "learning_rate": 0.12,
            "momentum": 0.6,
            "nesterov": True,
            "bias_rate": 400,
            "head_rate": 10,
        },
        "schedule": {"name": "linear"},
        "start": {"whiten": True, "dirac": True},
        "augment": {"flip": True, "crop": 2 / 32},
        "progressive": {"scale": 0.75, "until": 0.5},
        "label_smoothing": 0.2,
        "batch_size": 500,
        "least_steps": 5,
        "full_batches": True,
        "epochs": 8,
        "tta": {"mirror": True, "shift": 1 / 32},
        "judge": "last",
    },
}


@pytest.mark.parametrize("name", PINNED)
def test_its_settings_are_those_that_its_figures_were_measured_with(name):
    assert RECIPES.get(name)() == Recipe.model_validate(PINNED[name])
