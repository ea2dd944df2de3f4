"""Training on a backbone from end to end: probes, fine-tuning, kills, and what is refused."""

import csv
import dataclasses
import hashlib
import os
import shutil
import textwrap
from pathlib import Path

import h5py
import keras
import killing
import numpy as np
import pytest
from killing import assert_same, weights
from PIL import Image

import convscope
import tiny
from convscope.classifier import keras_model
from convscope.errors import ConfigError, RunError
from convscope.evaluation.predictions import read_predictions
from convscope.models.backbones import BACKBONES
from convscope.planning.plan import run_config
from convscope.progress import Progress
from convscope.run import Run
from convscope.storage import cache_dir
from convscope.training import heads
from convscope.training.results import read_results
from convscope.types import NO_CLASS

PROBE = {
    "model": "tiny",
    "recipe": "probe",
    "data": "digits",
    "image_size": 32,
    "epochs": 2,
}
# Before its last stage, which alone is fine-tuned.
CUT = "relu4"
FINETUNE = {
    **PROBE,
    "recipe": "finetune",
    "settings": {
        "backbone.cut": CUT,
        "backbone.head_epochs": 2,
        "head.hidden": [32],
        "optimizer.ema": 0.9,
    },
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(autouse=True)
def one_cache(shared, monkeypatch):
    """Features are computed once for all tests of this file."""
    monkeypatch.setenv("CONVSCOPE_CACHE", str(shared / "cache"))


@pytest.fixture(scope="module", autouse=True)
def trained_weights(shared, tiny_backbone):
    """In place of ImageNet's: random ones, with statistics that let an image through."""
    keras.utils.set_random_seed(0)
    trunk = BACKBONES.get("tiny").build((32, 32, 3))
    for layer in trunk.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    images = np.random.default_rng(0).uniform(-1, 1, (32, 32, 32, 3)).astype("float32")
    trunk(images, training=True)
    trunk.save_weights(shared / "tiny.weights.h5")
    before = {name: os.environ.get(name) for name in ("CONVSCOPE_CACHE", "CONVSCOPE_WEIGHTS")}
    os.environ["CONVSCOPE_CACHE"] = str(shared / "cache")
    os.environ["CONVSCOPE_WEIGHTS"] = str(shared)
    yield
    for name, value in before.items():
        os.environ.pop(name)
        if value is not None:
            os.environ[name] = value


def train(out: Path, settings=PROBE, **changes) -> Run:
    return convscope.train(out=out, progress=Progress(), **{**settings, **changes})


def train_until_killed(out: Path, options: dict, patch: str) -> None:
    killing.train_until_killed(out, options, tiny.IN_A_PROCESS + textwrap.dedent(patch))


@pytest.fixture(scope="module")
def probe(shared, trained_weights) -> Run:
    return train(shared / "probe")


@pytest.fixture(scope="module")
def finetuned(shared, trained_weights) -> Run:
    return train(shared / "finetune", FINETUNE)


# Dies when the snapshot of the Nth epoch has been written.
AFTER_EPOCH = """
    import convscope.training.fit as module
    save, seen = module.save_snapshot, []
    def dying(*arguments):
        save(*arguments)
        seen.append(arguments)
        if len(seen) == {nth}: die()
    module.save_snapshot = dying
"""
# Dies in the Nth epoch, after its second batch.
IN_EPOCH = """
    import convscope.training.fit as module
    watch, seen = module._Watch, []
    class Dying(watch):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            seen.append(self)
        def __call__(self, *arguments):
            super().__call__(*arguments)
            if len(seen) == {nth} and self._batches == 2: die()
    module._Watch = Dying
"""
# Dies when all epochs of the first phase are over, before the next begins.
BETWEEN = """
    import convscope.training.transfer as module
    fit, seen = module.fit, []
    def dying(*arguments, **options):
        if seen: die()
        seen.append(arguments)
        return fit(*arguments, **options)
    module.fit = dying
"""
# Dies among the heads that are tried, or with the table of them written and no choice recorded.
IN_SEARCH = """
    import convscope.training.heads as module
    attempt, seen = module._try, []
    def dying(*arguments):
        seen.append(arguments)
        if len(seen) == 2: die()
        return attempt(*arguments)
    module._try = dying
"""
BEFORE_CHOICE = """
    from convscope.run import Run
    record = Run.record
    def dying(run, **changes):
        if "head" in changes: die()
        record(run, **changes)
    Run.record = dying
"""


def test_a_probe_tries_heads_and_says_which_it_took(probe):
    with probe.heads_file.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["hidden"] for row in rows] == ["linear", "512", "1024"]
    best = int(np.argmax([float(row["val_accuracy"]) for row in rows]))
    chosen = probe.state["head"]
    assert chosen["search"] is False
    assert chosen["hidden"] == list(heads.CANDIDATES[best]["hidden"])
    assert chosen["dropout"] == heads.CANDIDATES[best]["dropout"]
    units = [*chosen["hidden"], 10]
    model = keras.saving.load_model(probe.weights("last"))
    dense = [layer.units for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    assert dense == units
    rows = read_results(probe.results_file)
    assert [(row["epoch"], row["phase"]) for row in rows] == [(1, "head"), (2, "head")]
    assert probe.status == "finished"
    # It learnt something, even from random features: five standard errors above chance.
    assert probe.metrics["val"]["accuracy"] > 0.19


LOGISTIC = {"model": "tiny", "recipe": "logistic", "data": "digits", "image_size": 32}
# Dies with the weights written and the snapshot not, or with the snapshot and not the table.
BEFORE_SNAPSHOT = """
    import convscope.training.logistic_head as module
    module.save_snapshot = lambda *arguments: die()
"""
BEFORE_TABLE = """
    import convscope.training.logistic_head as module
    module.write_results = lambda *arguments: die()
"""


@pytest.fixture(scope="module")
def logistic(shared, trained_weights) -> Run:
    return train(shared / "logistic", {**LOGISTIC, "settings": {"head.last_map": 3.0}})


def test_logistic_regression_takes_one_row_and_stands_at_its_optimum(logistic):
    run = logistic
    (row,) = read_results(run.results_file)
    assert (row["epoch"], row["phase"]) == (1, "head")
    with run.heads_file.open(encoding="utf-8", newline="") as file:
        tried = list(csv.DictReader(file))
    best = min(tried, key=lambda each: float(each["loss"]))
    assert run.state["penalty"] == float(best["penalty"])
    # It learnt something, even from random features: chance is 0.1.
    assert run.metrics["val"]["accuracy"] == pytest.approx(row["val_accuracy"], abs=1e-6)
    assert row["val_accuracy"] > 0.3
    # The optimum: every feature's pull on every class is what the penalty holds.
    model = keras.saving.load_model(run.weights("last"))
    train_part = convscope.load("digits", progress=Progress()).train
    behind = head_of(model)
    (features,) = [
        a
        for a in cached((len(train_part), behind.input_shape[1]))
        if (
            np.abs(behind.predict(a, verbose=0) - model.predict(train_part.images, verbose=0)).max()
            < 1e-3
        )
    ][:1]
    errors = behind.predict(features, verbose=0)
    errors[np.arange(len(errors)), train_part.labels] -= 1
    kernel, _ = behind.get_layer("probs").get_weights()
    standardised = np.asarray(behind.get_layer("standardise")(features, training=False))
    pull = standardised.T @ errors / len(errors)
    assert np.abs(pull + run.state["penalty"] * kernel).max() < 0.2 * np.abs(pull).max()


def test_the_frozen_backbone_sees_each_image_once(tmp_path, monkeypatch):
    monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path / "cache"))
    run = train(tmp_path / "run", {**LOGISTIC, "settings": {"head.penalty": 0.1}})
    sizes = [run.metrics[part]["n_images"] for part in ("val", "test")]
    n_train = len(convscope.load("digits", progress=Progress()).train)
    n_of_each = [len(np.load(path)) for path in (cache_dir() / "features").glob("*/features.npy")]
    # Training, its evaluation, and what is unlike these images.
    assert sorted(n_of_each) == sorted([n_train, *sizes])
    assert run.familiarity_file("last").exists()


def test_choices_of_a_logistic_head_can_be_set(logistic, tmp_path):
    chose = logistic
    with chose.heads_file.open(encoding="utf-8", newline="") as file:
        assert {row["last_map"] for row in csv.DictReader(file)} == {"3.0"}
    assert chose.state["last_map"] == 3
    settings = {"head.penalty": chose.state["penalty"], "head.last_map": 3.0}
    told = train(tmp_path / "again", {**LOGISTIC, "settings": settings})
    assert not told.heads_file.exists()
    said = [read_predictions(run.predictions_file)[0]["val"].probs for run in (told, chose)]
    assert np.abs(said[0] - said[1]).mean() < 1e-3
    heads = [head_of(keras.saving.load_model(run.weights("last"))) for run in (told, chose)]
    mine, theirs = (each.get_layer("standardise").get_weights() for each in heads)
    np.testing.assert_allclose(mine, theirs, rtol=1e-5)


@pytest.mark.parametrize(
    "patch",
    [
        pytest.param(BEFORE_SNAPSHOT, id="snapshot", marks=pytest.mark.slow),
        pytest.param(BEFORE_TABLE, id="table", marks=pytest.mark.slow),
    ],
)
def test_a_logistic_head_that_is_killed_ends_with_the_same_bits(tmp_path, patch):
    out, quick = tmp_path / "run", {**LOGISTIC, "settings": {"head.penalty": 0.1}}
    train_until_killed(out, quick, patch)
    assert_same(train(out, quick, resume=True), train(tmp_path / "other", quick))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 5}, "epochs 5 has no effect here"),
        ({"lr": 0.1}, "optimizer.learning_rate 0.1 has no effect here"),
        ({"settings": {"head.hidden": [32]}}, "head.logistic is a linear head"),
        (
            {"settings": {"head.last_map": 2.0, "head.pooling": "avg"}},
            "head.last_map 2.0 has no effect here",
        ),
    ],
)
def test_what_a_logistic_head_has_no_use_for_is_refused(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        convscope.train(out=tmp_path / "run", progress=Progress(), **LOGISTIC, **changes)
    assert not (tmp_path / "run").exists()


def head_of(model) -> keras.Model:
    """The layers of a saved model behind its pooling, on their own."""
    names = [layer.name for layer in model.layers]
    behind = model.layers[names.index("pool") + 1 :]
    features = keras.Input(model.get_layer("pool").output.shape[1:])
    x = features
    for layer in behind:
        x = layer(x)
    return keras.Model(features, x)


def cached(shape) -> list[np.ndarray]:
    found = (cache_dir() / "features").glob("*/features.npy")
    arrays = [np.load(path) for path in found]
    return [array for array in arrays if array.shape == shape]


def test_the_saved_model_answers_as_its_head_on_cached_features(probe):
    model = keras.saving.load_model(probe.weights("last"))
    val = convscope.load("digits", progress=Progress()).val
    whole = model.predict(val.images, verbose=0)
    head = head_of(model)
    heads_say = [head.predict(array, verbose=0) for array in cached((len(val), tiny.CHANNELS))]
    # The cache may hold the validation images of other tests too, with other weights.
    # The frozen trunk has its BatchNorm folded into convolutions, which rounds otherwise.
    assert min(np.abs(says - whole).max() for says in heads_say) < 1e-4
    assert np.ptp(whole, axis=0).max() > 0.1
    # And what the table says is true of that file.
    right = (whole.argmax(axis=1) == val.labels).mean()
    row = read_results(probe.results_file)[-1]
    assert row["val_accuracy"] == pytest.approx(right, abs=1e-6)
    own = -np.log(whole[np.arange(len(whole)), val.labels]).mean()
    assert row["val_loss"] == pytest.approx(own, rel=1e-3)


@pytest.mark.slow
def test_the_saved_model_of_a_finetuned_run_is_what_was_judged(finetuned):
    rows = read_results(finetuned.results_file)
    assert [row["phase"] for row in rows] == ["head"] * 2 + [f"after {CUT}"] * 2
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    val = convscope.load("digits", progress=Progress()).val
    model = keras.saving.load_model(finetuned.weights("last"))
    whole = model.predict(val.images, verbose=0)
    right = (whole.argmax(axis=1) == val.labels).mean()
    assert rows[-1]["val_accuracy"] == pytest.approx(right, abs=1e-6)
    own = -np.log(whole[np.arange(len(whole)), val.labels]).mean()
    assert rows[-1]["val_loss"] == pytest.approx(own, rel=1e-3)


def test_fine_tuning_that_hurts_is_undone_and_stays_undone_in_the_refit(tmp_path):
    settings = {
        "backbone.cut": CUT,
        "head.penalty": 0.1,
        "split.images": 500,
        **{"optimizer.ema": None, "augment.crop": 0.0, "augment.mixup": 0.0},
    }
    hasty = {**PROBE, "recipe": "finetune-photos", "settings": settings}
    run = train(tmp_path / "run", hasty, epochs=1, lr=0.5, refit=True)
    rows = read_results(run.results_file)
    assert rows[-1]["phase"] == f"after {CUT}"
    assert rows[-1]["val_loss"] > 2 * rows[-2]["val_loss"]
    assert run.state["rolled_back"]
    # The head alone, on the backbone as it was; the refit trained a head alone, too.
    untouched = keras.saving.load_model(run.weights("frozen")).get_weights()
    for mine, theirs in zip(weights(run, "last"), untouched, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert run.metrics["val"]["accuracy"] == pytest.approx(rows[-2]["val_accuracy"], abs=1e-6)
    trunks = [
        max(
            (each for each in keras.saving.load_model(run.weights(which)).layers
             if isinstance(each, keras.Model)),
            key=lambda each: len(each.weights),
        ).get_weights()
        for which in ("last", "refit")
    ]  # fmt: skip
    for mine, theirs in zip(*trunks, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(
    ("patch", "head_is_chosen"),
    [
        pytest.param(IN_SEARCH, False, id="search", marks=pytest.mark.slow),
        pytest.param(BEFORE_CHOICE, False, id="choice", marks=pytest.mark.slow),
        pytest.param(AFTER_EPOCH.format(nth=1), True, id="epoch", marks=pytest.mark.slow),
    ],
)
def test_a_probe_that_is_killed_ends_with_the_same_bits(
    tmp_path, probe, monkeypatch, patch, head_is_chosen
):
    out = tmp_path / "run"
    train_until_killed(out, PROBE, patch)
    assert ("head" in Run.open(out).state) == head_is_chosen
    if head_is_chosen:

        def never(*_):
            raise AssertionError("searched again")

        monkeypatch.setattr(heads, "_try", never)
    assert_same(train(out, resume=True), probe)


@pytest.mark.parametrize(
    "patch",
    [
        pytest.param(IN_EPOCH.format(nth=2), id="in-head", marks=pytest.mark.slow),
        pytest.param(AFTER_EPOCH.format(nth=2), id="after-head", marks=pytest.mark.slow),
        pytest.param(BETWEEN, id="between", marks=pytest.mark.slow),
        pytest.param(IN_EPOCH.format(nth=3), id="in-second", marks=pytest.mark.slow),
        pytest.param(AFTER_EPOCH.format(nth=3), id="second", marks=pytest.mark.slow),
    ],
)
def test_a_finetuning_that_is_killed_ends_with_the_same_bits(tmp_path, finetuned, patch):
    out = tmp_path / "run"
    train_until_killed(out, FINETUNE, patch)
    assert Run.open(out).status == "killed"
    assert_same(train(out, FINETUNE, resume=True), finetuned)


@pytest.mark.slow
def test_features_that_went_are_computed_again_to_the_same_bits(tmp_path, finetuned, monkeypatch):
    monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "run"
    train_until_killed(out, FINETUNE, AFTER_EPOCH.format(nth=3))
    monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path / "empty"))
    assert_same(train(out, FINETUNE, resume=True), finetuned)


@pytest.mark.slow
def test_the_whole_network_can_learn(tmp_path):
    settings = {
        **FINETUNE,
        # A real one, once.
        "model": "mobilenet_v2",
        "weights": "random",
        "epochs": 1,
        "settings": {
            "backbone.cut": "start",
            "backbone.head_epochs": 1,
            "augment.crop": 0.1,
            "augment.mixup": 0.2,
        },
    }
    run = train(tmp_path / "run", settings)
    rows = read_results(run.results_file)
    assert [row["phase"] for row in rows] == ["head", "whole network"]
    assert all(np.isfinite(row["val_loss"]) for row in rows)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": "tutorial"}, "'tutorial' is not for mobilenet_v2, which is a pretrained"),
        ({"model": "cnn-functional"}, "'probe' is not for cnn-functional, which is a network that"),
        ({"settings": {"backbone.cut": "block_4_expand"}}, "cannot be cut at 'block_4_expand'"),
        ({"image_size": 31}, "image size 31x31 is too small for mobilenet_v2"),
        ({"settings": {"head.hidden": [0]}}, "head.hidden"),
    ],
    ids=["recipe", "model", "cut", "size", "hidden"],
)
def test_what_does_not_fit_is_one_line_and_leaves_nothing_behind(tmp_path, changes, message):
    settings = {**PROBE, "model": "mobilenet_v2", "weights": "random", **changes}
    with pytest.raises(ConfigError, match=message) as caught:
        train(tmp_path / "run", settings)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_weights_that_changed_since_the_run_began_are_refused(tmp_path):
    backbone = BACKBONES.get("tiny")
    file = tmp_path / "mine.weights.h5"
    trunk = backbone.build((32, 32, 3))
    trunk.save_weights(file)
    run = train(tmp_path / "run", weights=file, epochs=1)
    assert run.state["weights"]["path"] == str(file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert run_config(run).weights_sha256 == digest
    # The trunk in the saved model is the one in the file.
    for mine, theirs in zip(trunk_of(run), trunk.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    moved = file.rename(tmp_path / "elsewhere.weights.h5")
    train(run.path, weights=moved, epochs=2, resume=True)
    assert run_config(run).weights == str(moved)
    file = moved
    with h5py.File(file, "r+") as content:
        groups = []
        content.visititems(
            lambda name, item: groups.append(item) if isinstance(item, h5py.Dataset) else None
        )
        groups[0][...] = groups[0][...] + 1
    changed = r"elsewhere\.weights\.h5 does not hold the weights that the run's configuration names"
    with pytest.raises(RunError, match=changed):
        train(run.path, weights=file, epochs=3, resume=True)
    # Nor does a configuration reproduce a run from other weights, unless they are asked for.
    config = tmp_path / "config.yaml"
    config.write_text(run.config_file.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(RunError, match=changed):
        convscope.train(config=config, out=tmp_path / "again", progress=Progress())
    assert not (tmp_path / "again").exists()
    other = convscope.train(
        config=config, weights=file, epochs=1, out=tmp_path / "other", progress=Progress()
    )
    assert run_config(other).weights_sha256 != digest


def trunk_of(run: Run) -> list[np.ndarray]:
    model = keras.saving.load_model(run.weights("last"))
    nested = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    return max(nested, key=lambda layer: len(layer.weights)).get_weights()


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(PROBE, id="probe", marks=pytest.mark.slow),
        pytest.param(FINETUNE, id="finetune", marks=pytest.mark.slow),
    ],
)
def test_random_weights_are_those_of_the_seed_and_of_the_saved_model(tmp_path, settings):
    run = train(tmp_path / "run", settings, weights="random", epochs=1, seed=5)
    assert "weights" not in run.state
    keras.utils.set_random_seed(5)
    drawn = BACKBONES.get("tiny").build((32, 32, 3))
    # In a finetuned run the last stage has learnt: a kernel, and four of its normalisation.
    frozen = len(drawn.weights) if settings is PROBE else len(drawn.weights) - 5
    for mine, theirs in zip(trunk_of(run)[:frozen], drawn.get_weights()[:frozen], strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="random weights of other backends are others"
)
def test_on_a_frozen_backbone_features_tell_what_is_of_no_class(probe, tmp_path):
    told = probe.metrics["rejection"]
    assert told["by"] == "distance"
    assert told["rejected"].keys() == {"val", "test"}
    assert 0 < told["rejected"]["val"] <= 0.05
    dataset = convscope.load("digits", progress=Progress())
    files = []
    for index in range(40):
        files.append(tmp_path / f"{index}.png")
        Image.fromarray(dataset.val.images[index, :, :, 0]).save(files[-1])
    stripes = np.zeros((8, 8), np.uint8)
    stripes[::2] = 255
    files += [tmp_path / "stripes.png"]
    Image.fromarray(stripes).save(files[-1])
    *digits, strange = convscope.predict(probe, files, reject=True, progress=Progress())
    assert np.mean([each.rejected for each in digits]) <= 0.15
    assert strange.answer == NO_CLASS
    # Judged by other weights, it says nothing about these.
    known = keras_model.familiarity_of(probe, "last")
    stale = dataclasses.replace(known, weights_sha256="0" * 64)
    run = Run(shutil.copytree(probe.path, tmp_path / "run"))
    stale.write(run.familiarity_file("last"))
    assert keras_model.familiarity_of(run, "last") is None
    run.familiarity_file("last").write_bytes(b"PK")
    with pytest.raises(RunError, match=r"last\.npz is damaged .*evaluate .* --fresh"):
        convscope.predict(run, files[:1], reject=True, progress=Progress())
    next(convscope.predict(run, files[:1], progress=Progress()))
