import pytest

from convscope.effects import require_effect, require_effect_somewhere
from convscope.errors import ConfigError
from convscope.recipe import Recipe, flat, resolve
from convscope.recipes import RECIPES

TUNED = {"backbone.cut": "before-last"}


@pytest.mark.parametrize(
    ("key", "value", "remedy", "backbone"),
    [
        ("optimizer.momentum", 0.9, {"optimizer.name": "sgd"}, False),
        ("optimizer.momentum", 0.9, {"optimizer.name": "muon"}, False),
        (
            "optimizer.nesterov",
            True,
            {"optimizer.name": "sgd", "optimizer.momentum": 0.9},
            False,
        ),
        ("optimizer.layer_decay", 0.7, TUNED, True),
        ("schedule.warmup_epochs", 1.0, {"schedule.name": "linear"}, False),
        ("augment.randaugment_factor", 0.5, {"augment.randaugment": 2}, False),
        ("augment.cutmix", 1.0, TUNED, True),
        ("filter.start", 0.3, {"filter.share": 0.7}, False),
        ("backbone.views", 2, {"augment.flip": True}, True),
        ("backbone.views", 2, {"augment.turn": True}, True),
        ("backbone.views", 2, {"augment.crop": 0.1}, True),
        ("backbone.views", 2, {"augment.randaugment": 2}, True),
        ("backbone.views", 2, {"augment.cutout": 0.3}, True),
        ("backbone.head_epochs", 2, TUNED, True),
        ("backbone.head_learning_rate", 0.1, TUNED, True),
        ("split.val_fraction", 0.1, {"split.folds": None}, False),
        ("data_path", "/pets", {"data": "folder"}, False),
        ("data_path", "/pets", {"data": "shards"}, False),
        ("labels", "/pets.csv", {"data": "folder"}, False),
    ],
)
def test_a_setting_without_effect_is_refused_until_it_counts(key, value, remedy, backbone):
    usual = Recipe()
    beside = {"split.folds": 3} if key == "split.val_fraction" else {}
    with pytest.raises(ConfigError) as caught:
        require_effect(resolve(usual, beside, {key: value}), usual, backbone=backbone)
    said = str(caught.value)
    told = "true" if value is True else value
    assert said.startswith(f"{key} {told} has no effect here: it needs ")
    assert "\n" not in said
    default = str(flat(resolve(usual).model_dump())[key])
    assert said.endswith(
        f"or leave {key} at {default.replace('False', 'false').replace('None', 'null')}"
    )
    # What it says is what helps.
    for other in remedy:
        assert other.partition(".")[2] in said or other in said
    require_effect(resolve(usual, beside, {key: value}, remedy), usual, backbone=backbone)


@pytest.mark.parametrize(
    ("given", "backbone"),
    [
        ({"head.hidden": [64]}, True),
        ({"head.standardise": True}, True),
        ({"backbone.scaling": "unit"}, True),
        ({"backbone.storage": "float16"}, True),
        ({**TUNED, "optimizer.layer_decay": 0.5}, True),
        ({"weights_sha256": "0" * 64}, True),
        ({"start.whiten": True}, False),
        ({"start.dirac": True}, False),
    ],
    ids=str,
)
def test_settings_of_backbones_and_of_networks_count_with_those_only(given, backbone):
    config = resolve(Recipe(), given)
    require_effect(config, Recipe(), backbone=backbone)
    with pytest.raises(ConfigError, match="as model; set that too"):
        require_effect(config, Recipe(), backbone=not backbone)


@pytest.mark.parametrize(
    "given",
    [
        {**TUNED, "backbone.head_epochs": 0, "backbone.head_learning_rate": 0.1},
        {"backbone.cut": "start", "backbone.views": 2, "augment.flip": True},
        {"optimizer.name": "sgd", "optimizer.nesterov": True},
        {"weights": "random", "weights_sha256": "0" * 64},
    ],
    ids=str,
)
def test_a_setting_that_another_one_makes_idle_is_refused(given):
    backbone = "optimizer.name" not in given
    with pytest.raises(ConfigError, match="has no effect here"):
        require_effect(resolve(Recipe(), given), Recipe(), backbone=backbone)


def test_what_a_recipe_brings_along_may_be_idle_and_so_may_a_default_that_is_given():
    fast = RECIPES.get("fast")()
    adam = {"optimizer.name": "adam"}
    require_effect(resolve(fast, adam), fast, backbone=False)
    require_effect(
        resolve(fast, adam, {"optimizer.momentum": 0.0, "optimizer.nesterov": False}),
        fast,
        backbone=False,
    )
    # The whole recipe as a file, and one setting of it changed.
    require_effect(resolve(fast, fast.model_dump(), adam), fast, backbone=False)
    with pytest.raises(ConfigError, match=r"^optimizer\.momentum 0\.7 has no effect"):
        require_effect(resolve(fast, adam, {"optimizer.momentum": 0.7}), fast, backbone=False)


def test_where_a_fold_is_tested_the_share_of_validation_counts_and_that_of_the_test_does_not():
    folds = {"split.folds": 5, "split.fold_as": "test"}
    require_effect(resolve(Recipe(), folds, {"split.val_fraction": 0.1}), Recipe(), backbone=False)
    with pytest.raises(ConfigError, match=r"^split\.test_fraction 0\.1 has no effect"):
        require_effect(
            resolve(Recipe(), folds, {"split.test_fraction": 0.1}), Recipe(), backbone=False
        )


@pytest.mark.parametrize("entry", RECIPES.entries(), ids=lambda entry: entry.name)
def test_no_recipe_has_settings_without_effect(entry):
    backbone = entry.info["trains"] == "backbone"
    require_effect(resolve(entry.value()), Recipe(), backbone=backbone)


@pytest.mark.parametrize(
    ("recipe", "given"),
    [
        ("finetune-photos", {"backbone.head_epochs": 3}),
        ("finetune-photos", {"backbone.head_learning_rate": 0.1}),
        ("logistic", {"least_steps": 5}),
        ("logistic", {"full_batches": True}),
    ],
)
def test_a_logistic_head_takes_no_epochs_of_its_own(recipe, given):
    usual = RECIPES.get(recipe)()
    with pytest.raises(ConfigError, match=f"^{next(iter(given))} .* has no effect here"):
        require_effect(resolve(usual, given), usual, backbone=True)
    require_effect(resolve(usual, {"batch_size": 16}), usual, backbone=True)


def test_all_settings_without_effect_are_named_at_once():
    usual = RECIPES.get("logistic")()
    given = {"optimizer.learning_rate": 0.1, "label_smoothing": 0.1, "epochs": 3}
    with pytest.raises(ConfigError, match=r"^optimizer\.learning_rate 0\.1 has") as told:
        require_effect(resolve(usual, given), usual, backbone=True)
    assert str(told.value).endswith(" (no effect either: label_smoothing, epochs)")


def test_muon_is_refused_for_a_backbone():
    config = resolve(Recipe(), {"optimizer.name": "muon"})
    require_effect(config, Recipe(), backbone=False)
    with pytest.raises(ConfigError, match=r"^optimizer\.name muon .*use adamw or sgd$"):
        require_effect(config, Recipe(), backbone=True)


def test_a_setting_of_several_runs_has_to_count_in_one_of_them():
    settings = {"head.hidden": [64], "epochs": 3}
    idle = [{"head.hidden": "a pretrained backbone as model"}, {}]
    require_effect_somewhere(settings, idle)
    with pytest.raises(ConfigError, match=r"^head\.hidden \[64\] has no effect here"):
        require_effect_somewhere(settings, idle[:1] * 2)


@pytest.mark.parametrize(("schedule", "epochs"), [("cosine", 5), ("linear", 4)])
def test_a_learning_rate_that_would_never_fall_is_refused(schedule, epochs):
    wish = {"schedule.name": schedule, "schedule.warmup_epochs": 5.0, "epochs": epochs}
    with pytest.raises(ConfigError, match=f"leaves no epoch of {epochs}"):
        require_effect(resolve(Recipe(), wish), Recipe(), backbone=False)
    require_effect(resolve(Recipe(), {**wish, "epochs": 6}), Recipe(), backbone=False)
