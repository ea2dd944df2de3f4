import pytest
import yaml

from convscope.errors import ConfigError, UnknownNameError
from convscope.recipe import (
    FORMAT,
    HeadSettings,
    Recipe,
    dump_config,
    flat,
    parse_setting,
    read_config,
    require_effect,
    require_effect_somewhere,
    resolve,
    resolve_resumed,
)
from convscope.recipes import RECIPES


def test_later_layers_are_stronger():
    config = resolve(Recipe(), {"epochs": 3, "seed": 1}, {"epochs": 5})
    assert (config.epochs, config.seed) == (5, 1)


def test_dotted_and_nested_keys_mean_the_same():
    dotted = resolve(Recipe(), {"optimizer.name": "sgd", "optimizer.momentum": 0.9})
    nested = resolve(Recipe(), {"optimizer": {"name": "sgd", "momentum": 0.9}})
    assert dotted == nested
    assert dotted.optimizer.momentum == 0.9
    assert dotted.optimizer.learning_rate == Recipe().optimizer.learning_rate


def test_tutorial_is_the_tutorials_config():
    config = resolve(RECIPES.get("tutorial")())
    assert config.optimizer.name == "adam"
    assert config.optimizer.learning_rate == 0.001
    assert config.loss == "sparse_categorical_crossentropy"
    assert (config.batch_size, config.epochs, config.seed) == (128, 20, 83)
    assert config.early_stop_patience is None
    assert config.judge == "last"


def test_saved_configuration_reads_back_equal(tmp_path):
    config = resolve(Recipe(), {"optimizer.learning_rate": 0.02, "data": "digits"})
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config))
    assert resolve(Recipe(), read_config(path)) == config


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        ("epoch", "epochs"),
        ("optimiser.momentum", "optimizer.momentum"),
        ("momentum", "optimizer.momentum"),
        ("lr", "optimizer.learning_rate"),
        ("batchsize", "batch_size"),
    ],
)
def test_unknown_key_suggests_the_nearest(key, suggestion):
    with pytest.raises((UnknownNameError, ConfigError), match=f"did you mean '{suggestion}'"):
        resolve(Recipe(), {key: 1})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", 0),
        ("optimizer.learning_rate", -1),
        ("optimizer.learning_rate", float("nan")),
        ("optimizer.name", "adagrad"),
        ("split.val_fraction", 1.5),
        ("precision", "float16"),
        ("seed", -1),
        ("optimizer", 3),
        ("optimizer.ema", 1.0),
        ("optimizer.layer_decay", 0),
        ("schedule.name", "zigzag"),
        ("augment.mixup", -0.1),
        ("head.hidden", [0]),
        ("head.dropout", 1.0),
        ("backbone.views", 0),
        ("backbone.storage", "int8"),
        ("backbone.scaling", "imagenet"),
    ],
)
def test_a_value_that_is_not_allowed_is_named_in_one_line(key, value):
    with pytest.raises(ConfigError) as caught:
        resolve(Recipe(), {key: value})
    assert key in str(caught.value)
    assert "\n" not in str(caught.value)


def test_configuration_of_a_newer_version_is_refused_before_its_keys_are_read():
    with pytest.raises(ConfigError, match="newer convscope"):
        resolve(Recipe(), {"format": FORMAT + 1, "warp_factor": 9})


def test_settings_of_an_older_version_are_read_by_the_names_of_today():
    config = resolve(Recipe(), {"format": 1, "mirror": True, "epochs": 3})
    assert config.tta.mirror
    assert config.epochs == 3
    assert config.format == FORMAT
    # In a file of today it is a slip.
    with pytest.raises(ConfigError, match=r"did you mean 'tta\.mirror'"):
        resolve(Recipe(), {"mirror": True})


@pytest.mark.parametrize("layer", [{}, {"split": {"seed": 5}}, {"split.seed": 5}])
def test_a_run_of_an_older_version_keeps_the_split_that_it_had(layer):
    assert resolve(Recipe(), {"format": 2, **layer}).split.version == 1
    assert resolve(Recipe(), {"format": 2, **layer}).split.seed == (5 if layer else 83)
    # Whoever gives no format means what is so today.
    assert resolve(Recipe(), layer).split.version == 2
    again = resolve(Recipe(), yaml.safe_load(dump_config(resolve(Recipe(), {"format": 2}))))
    assert again.split.version == 1


def test_what_a_fold_is_for_needs_folds():
    assert resolve(Recipe(), {"split.folds": 3, "split.fold_as": "test"}).split.fold_as == "test"
    with pytest.raises(ConfigError, match=r"^split\.fold_as .* set split\.folds too"):
        resolve(Recipe(), {"split.fold_as": "test"})


@pytest.mark.parametrize("content", ["- a\n- b\n", "epochs: [1\n", "3", "1: 2\n", "\x00"])
def test_a_file_that_is_no_configuration_is_refused(tmp_path, content):
    path = tmp_path / "config.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        read_config(path)


def test_yaml_tags_do_not_run_code(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("epochs: !!python/object/apply:os.system ['touch pwned']\n")
    with pytest.raises(ConfigError):
        read_config(path)


def test_missing_file_and_empty_file(tmp_path):
    with pytest.raises(ConfigError, match="no configuration file"):
        read_config(tmp_path / "none.yaml")
    (tmp_path / "empty.yaml").write_text("")
    assert read_config(tmp_path / "empty.yaml") == {}


def test_resume_lets_epochs_grow_and_nothing_else_change():
    saved = resolve(Recipe(), {"epochs": 3, "seed": 5})
    assert resolve_resumed(saved, {"epochs": 9}).epochs == 9
    assert resolve_resumed(saved, {"seed": 5}) == saved
    with pytest.raises(ConfigError, match="seed 5, not 6"):
        resolve_resumed(saved, {"seed": 6})


def test_a_file_of_weights_may_lie_elsewhere_when_a_run_goes_on():
    saved = resolve(Recipe(), {"weights": "/old/w.h5"})
    assert resolve_resumed(saved, {"weights": "/new/w.h5"}).weights == "/new/w.h5"
    with pytest.raises(ConfigError, match="not 'random'"):
        resolve_resumed(saved, {"weights": "random"})


def test_what_a_search_would_replace_cannot_be_set_beside_it():
    searched = Recipe(head=HeadSettings(search=True))
    for own in ({"head.hidden": [256]}, {"head.dropout": 0.2}):
        with pytest.raises(ConfigError, match=r"^head\.hidden and head\.dropout are what"):
            resolve(searched, own)
        resolve(searched, {**own, "head.search": False})


def test_set_values_are_yaml():
    assert parse_setting("a.b=1e-3") == ("a.b", "1e-3")
    assert resolve(Recipe(), dict([parse_setting("optimizer.learning_rate=1e-3")]))
    assert parse_setting("split.stratify=false") == ("split.stratify", False)
    assert parse_setting("image_size=null") == ("image_size", None)
    with pytest.raises(ConfigError, match="key=value"):
        parse_setting("epochs")


def test_config_is_plain_yaml_in_a_stable_order():
    text = dump_config(resolve(Recipe()))
    assert next(iter(yaml.safe_load(text))) == "optimizer"
    assert text == dump_config(resolve(Recipe()))


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
        ("backbone.views", 2, {"augment.crop": 0.1}, True),
        ("backbone.views", 2, {"augment.randaugment": 2}, True),
        ("backbone.head_epochs", 2, TUNED, True),
        ("backbone.head_learning_rate", 0.1, TUNED, True),
        ("split.val_fraction", 0.1, {"split.folds": None}, False),
        ("data_path", "/pets", {"data": "folder"}, False),
    ],
)
def test_a_setting_without_effect_is_refused_until_it_counts(key, value, remedy, backbone):
    usual = Recipe()
    beside = {"split.folds": 3} if key == "split.val_fraction" else {}
    with pytest.raises(ConfigError) as caught:
        require_effect(resolve(usual, beside, {key: value}), usual, backbone=backbone)
    said = str(caught.value)
    told = "true" if value is True else value
    assert said.startswith(f"{key} {told} has no effect here: it counts with ")
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
    with pytest.raises(ConfigError, match=r"as model only; set that too"):
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
