"""Search spaces: what a text means, and that the recipes' own hold their own settings."""

import numpy as np
import pytest

from convscope.effects import idle_settings
from convscope.errors import ConfigError
from convscope.planning.space import Choice, Interval, parse_values, settings_at, space_of
from convscope.recipe import resolve
from convscope.recipes import RECIPES

SEARCHED = [entry.name for entry in RECIPES.entries() if entry.info.get("space")]


@pytest.mark.parametrize(
    ("key", "text", "values"),
    [
        ("optimizer.learning_rate", "0.001..0.1:log", Interval(0.001, 0.1, log=True)),
        ("optimizer.learning_rate", "1e-4..1e-2", Interval(1e-4, 1e-2)),
        ("optimizer.learning_rate", "1e-3,1e-2", Choice((0.001, 0.01))),
        ("batch_size", "8..64", Interval(8, 64, whole=True)),
        ("batch_size", "8..64.0", Interval(8, 64, whole=True)),
        ("batch_size", "32,64", Choice((32, 64))),
        ("batch_size", [32, np.int64(64)], Choice((32, 64))),
        ("head.hidden", ([], [128]), Choice(((), (128,)))),
        ("augment.mixup", "0..1", Interval(0, 1)),
        ("head.hidden", "[],[128],[256,64]", Choice(((), (128,), (256, 64)))),
        ("head.penalty", "null,1", Choice((None, 1.0))),
    ],
)
def test_a_text_names_values_as_the_setting_holds_them(key, text, values):
    assert parse_values(key, text) == values


def test_a_list_is_text_in_a_database():
    values = parse_values("head.hidden", "[],[128]")
    assert isinstance(values, Choice)
    stored = [values.stored(value) for value in values.values]
    assert stored == ["()", "(128,)"]
    assert [values.value_of(each) for each in stored] == [(), (128,)]
    assert Choice((None, 0.5)).stored(None) is None


@pytest.mark.parametrize(
    ("key", "text", "said"),
    [
        ("batchsize", "1..2", "there is no such setting"),
        ("batch_size", "64", "name two or more different values"),
        ("batch_size", [64], "name two or more different values"),
        ("batch_size", "64,64", "name two or more different values"),
        ("batch_size", "64..32", "first bound must be below"),
        ("batch_size", "a..b", "give LOW..HIGH"),
        ("batch_size", "1..2:exp", "'exp' is no scale"),
        ("label_smoothing", "0..0.1:log", "bounds on a log scale must be above 0"),
        ("label_smoothing", "0..1", "label_smoothing: input should be less than 1, not 1.0"),
        ("augment.flip", "0..1", "it is on or off; give false,true"),
        ("batch_size", "32.5,64", "batch_size: input should be a valid integer"),
        ("batch_size", "2024-13-45,64", "give LOW..HIGH"),
    ],
)
def test_what_is_no_range_is_refused_in_one_line(key, text, said):
    with pytest.raises(ConfigError, match=said) as refused:
        parse_values(key, text)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("recipe", SEARCHED)
def test_the_space_beside_a_recipe_holds_its_settings_and_each_has_an_effect(recipe):
    space, defaults = space_of(recipe, {}), RECIPES.get(recipe)()
    backbone = RECIPES.entry(recipe).info["trains"] == "backbone"
    known = settings_at(space, resolve(defaults, {"recipe": recipe}).model_dump())
    assert known is not None
    inside = {
        key: values.values[-1] if isinstance(values, Choice) else (values.low + values.high) / 2
        for key, values in space.items()
    }
    config = resolve(defaults, {"recipe": recipe, **inside})
    assert not idle_settings(config, defaults, backbone=backbone).keys() & space.keys()


def test_a_recipe_without_a_space_says_what_to_tune_instead():
    with pytest.raises(ConfigError, match="nothing to tune.*; use --recipe finetune-photos"):
        space_of("logistic", {})
    assert space_of("finetune-photos", {})


def test_settings_outside_a_space_are_not_in_it():
    space = {"batch_size": Choice((32, 64)), "label_smoothing": Interval(0, 0.1)}
    assert settings_at(space, {"batch_size": 64, "label_smoothing": 0.1}) == {
        "batch_size": 64,
        "label_smoothing": 0.1,
    }
    assert settings_at(space, {"batch_size": 65, "label_smoothing": 0.1}) is None
