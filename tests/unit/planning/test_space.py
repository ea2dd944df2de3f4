"""Search spaces: what a text means, and that the recipes' own hold their own settings."""

import pytest

from convscope.effects import idle_settings
from convscope.errors import ConfigError
from convscope.planning.space import Choice, Interval, parse_values, settings_at, space_of
from convscope.recipe import resolve
from convscope.recipes import RECIPES

SEARCHED = [entry.name for entry in RECIPES.entries() if entry.info.get("space")]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.001..0.1:log", Interval(0.001, 0.1, log=True)),
        ("1e-4..1e-2", Interval(1e-4, 1e-2)),
        ("8..64", Interval(8, 64, whole=True)),
        ("8..64.0", Interval(8, 64)),
        ("32,64", Choice((32, 64))),
        ("[128],[256,64]", Choice(([128], [256, 64]))),
    ],
)
def test_a_text_names_values(text, values):
    assert parse_values("batch_size", text) == values


@pytest.mark.parametrize(
    ("key", "text", "said"),
    [
        ("batchsize", "1..2", "there is no such setting"),
        ("batch_size", "64", "name two or more different values"),
        ("batch_size", "64,64", "name two or more different values"),
        ("batch_size", "64..32", "first bound must be below"),
        ("batch_size", "a..b", "give LOW..HIGH"),
        ("batch_size", "1..2:exp", "'exp' is no scale"),
        ("label_smoothing", "0..0.1:log", "bounds on a log scale must be above 0"),
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


def test_a_recipe_without_a_space_says_how_to_name_one():
    with pytest.raises(ConfigError, match="'logistic' has no search space; name settings"):
        space_of("logistic", {})


def test_settings_outside_a_space_are_not_in_it():
    space = {"batch_size": Choice((32, 64)), "label_smoothing": Interval(0, 0.1)}
    assert settings_at(space, {"batch_size": 64, "label_smoothing": 0.1}) == {
        "batch_size": 64,
        "label_smoothing": 0.1,
    }
    assert settings_at(space, {"batch_size": 65, "label_smoothing": 0.1}) is None
