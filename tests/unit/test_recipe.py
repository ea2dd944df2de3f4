import pytest
import yaml

from convscope.errors import ConfigError, UnknownNameError
from convscope.recipe import (
    FORMAT,
    HeadSettings,
    Recipe,
    dump_config,
    parse_setting,
    read_config,
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
    with pytest.raises(ConfigError, match=r"^split\.fold_as needs split\.folds"):
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
        with pytest.raises(ConfigError, match=r"^head\.hidden and head\.dropout are chosen"):
            resolve(searched, own)
        resolve(searched, {**own, "head.search": False})


def test_a_logistic_head_needs_standardised_features():
    with pytest.raises(ConfigError, match=r"needs them standardised: --set head\.standardise=true"):
        resolve(Recipe(), {"head.logistic": True})
    resolve(Recipe(), {"head.logistic": True, "head.standardise": True})


def test_unequal_classes_are_made_up_for_in_one_way():
    with pytest.raises(ConfigError, match=r"^balance and class_weights both make up for unequal"):
        resolve(Recipe(), {"balance": True, "class_weights": "sqrt"})
    assert resolve(Recipe(), {"class_weights": "sqrt"}).class_weights == "sqrt"


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
