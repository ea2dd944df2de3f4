import gc
import io
import json
import os
import random
import subprocess
import sys
import zipfile

import h5py
import keras
import numpy as np
import pytest

from convscope.classifier.keras_model import load_model
from convscope.errors import ConfigError, IntegrityError, RunError, UnknownNameError
from convscope.models import MODELS
from convscope.models._checksum import require_whole
from convscope.models.saving import PortableModel, load_portable, resave
from convscope.types import InputSpec

STYLES = ["cnn-sequential", "cnn-functional", "cnn-subclassing"]
SPEC = InputSpec(12, 12, 3)

# A process that knows Keras and nothing else.
RELOAD = """
import sys
import keras
import numpy as np

folder, *names = sys.argv[1:]
x = np.load(f"{folder}/x.npy")
for name in names:
    model = keras.saving.load_model(f"{folder}/{name}.keras")
    assert getattr(model, "optimizer", None) is None
    assert {str(w.dtype) for w in model.weights} == {"float32"}
    assert all(type(layer).__module__.startswith("keras.") for layer in model.layers)
    np.save(f"{folder}/{name}.npy", keras.ops.convert_to_numpy(model(x)))
assert not [module for module in sys.modules if module.startswith("convscope")]
"""


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


@pytest.fixture
def mixed_precision():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(before)


def test_a_fresh_process_with_keras_alone_gives_the_same_answers(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (6, 20, 15, 3), dtype="uint8")
    np.save(tmp_path / "x.npy", x)
    expected = {}
    for name in STYLES:
        model = MODELS.get(name)(SPEC, 4)
        PortableModel.of(name, SPEC, 4).save(model.get_weights(), tmp_path / f"{name}.keras")
        expected[name] = keras.ops.convert_to_numpy(model(x))
    environment = {**os.environ, "KERAS_BACKEND": keras.backend.backend()}
    command = [sys.executable, "-c", RELOAD, str(tmp_path), *STYLES]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in STYLES:
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), expected[name], atol=1e-6)
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".keras"] * 3 + [".npy"] * 4


@pytest.mark.parametrize("name", STYLES)
def test_the_file_holds_what_is_keras_own_and_no_resizing_layer(name, tmp_path):
    path = tmp_path / "best.keras"
    PortableModel.of(name, SPEC, 4).save(MODELS.get(name)(SPEC, 4).get_weights(), path)
    with zipfile.ZipFile(path) as file:
        config = json.loads(file.read("config.json"))
    assert config["class_name"] == "Functional"
    assert not config["compile_config"]
    resize, *others = (each for each in layers_of(config) if each["class_name"] != "InputLayer")
    assert (resize["class_name"], resize["config"]["name"]) == ("Functional", "resize")
    assert {layer["module"] for layer in others} == {"keras.layers"}
    assert {each["module"].partition(".")[0] for each in layers_of(resize)} == {"keras"}
    assert "Resizing" not in json.dumps(config)
    assert '"training": true' not in json.dumps(config)


def layers_of(config):
    return config["config"]["layers"]


@pytest.mark.usefixtures("mixed_precision")
@pytest.mark.parametrize("name", STYLES)
def test_a_model_trained_in_mixed_precision_is_saved_in_float32(name, tmp_path):
    model = MODELS.get(name)(SPEC, 4)
    path = tmp_path / "best.keras"
    PortableModel.of(name, SPEC, 4).save(model.get_weights(), path)
    assert keras.config.dtype_policy().name == "mixed_bfloat16"
    again = keras.saving.load_model(path)
    # The input and the resizing, which is a model, take pixels as they are and have no weights.
    assert {layer.compute_dtype for layer in again.layers[2:]} == {"float32"}
    assert again.get_layer("resize").output.dtype == "float32"
    assert again.inputs[0].dtype == "float32"
    for a, b in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("size", [(12, 12), (9, 7), (12, 20), (30, 30)])
def test_it_answers_as_what_plain_keras_loads(tmp_path, size):
    path = tmp_path / "last.keras"
    weights = MODELS.get("cnn-functional")(SPEC, 4).get_weights()
    PortableModel.of("cnn-functional", SPEC, 4).save(weights, path)
    ours, plain = load_portable(path), keras.saving.load_model(path)
    x = np.random.default_rng(0).integers(0, 256, (6, *size, 3), dtype="uint8")
    np.testing.assert_allclose(ours.predict_on_batch(x), plain.predict_on_batch(x), atol=1e-6)


def test_what_is_loaded_resizes_nothing_that_has_the_right_size(tmp_path, monkeypatch):
    path = tmp_path / "last.keras"
    weights = MODELS.get("cnn-functional")(SPEC, 4).get_weights()
    PortableModel.of("cnn-functional", SPEC, 4).save(weights, path)
    resize = load_portable(path).get_layer("resize")

    def refuse(*args, **kwargs):
        raise AssertionError("it resizes")

    monkeypatch.setattr(keras.ops.image, "resize", refuse)
    monkeypatch.setattr(resize, "_run_through_graph", refuse)
    x = np.random.default_rng(0).integers(0, 256, (2, 12, 12, 3), dtype="uint8")
    np.testing.assert_array_equal(array(resize(x)), x)
    with pytest.raises(AssertionError, match="it resizes"):
        resize(x[:, :9])


def test_what_is_loaded_can_be_saved_again(tmp_path):
    network = MODELS.get("fast-small")(SPEC, 4)
    PortableModel.of("fast-small", SPEC, 4).save(network.get_weights(), tmp_path / "last.keras")
    load_portable(tmp_path / "last.keras").save(tmp_path / "again.keras")
    again = keras.saving.load_model(tmp_path / "again.keras")
    x = np.random.default_rng(0).integers(0, 256, (6, 20, 9, 3), dtype="uint8")
    np.testing.assert_allclose(array(again(x)), array(network(x)), atol=1e-5)


@pytest.fixture
def earlier_file(tmp_path):
    """A model as earlier versions saved it: Keras' Resizing before a BatchNorm and a backbone."""
    layers = keras.layers
    keras.utils.set_random_seed(83)
    # They registered the layer under its own name, which plain Keras leaves out.
    resizing = type("Resizing", (layers.Resizing,), {"__module__": "keras.layers"})
    inside = keras.Sequential([keras.Input((12, 12, 4)), layers.Conv2D(5, 3)], name="inside")
    pixels = keras.Input((None, None, 3), name="pixels")
    x = resizing(12, 12, antialias=True, dtype="float32", name="resize")(pixels)
    x = layers.Rescaling(1 / 255, dtype="float32", name="rescale")(x)
    x = layers.Conv2D(4, 1, name="conv")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(inside(x))
    model = keras.Model(pixels, layers.Dense(4, "softmax", name="probs")(x), name="earlier")
    rng = np.random.default_rng(0)
    model.set_weights([w + rng.uniform(0, 0.1, w.shape) for w in model.get_weights()])
    model.save(tmp_path / "earlier.keras")
    return tmp_path / "earlier.keras"


def test_files_of_earlier_versions_answer_right_here_and_once_saved_anew(earlier_file, tmp_path):
    resave(earlier_file, tmp_path / "anew.keras")
    rng = np.random.default_rng(1)
    for size in [(12, 12), (20, 9)]:
        pixels = rng.integers(0, 256, (4, *size, 3), dtype="uint8")
        expected = keras.saving.load_model(earlier_file).predict_on_batch(pixels)
        for model in (
            load_portable(earlier_file),
            keras.saving.load_model(tmp_path / "anew.keras"),
        ):
            weights = model.get_weights()
            np.testing.assert_allclose(array(model(pixels)), expected, atol=1e-5)
            for i in range(4):
                np.testing.assert_allclose(
                    array(model(pixels[i : i + 1])), expected[i : i + 1], atol=1e-5
                )
            np.testing.assert_allclose(model.predict_on_batch(pixels), expected, atol=1e-5)
            for before, after in zip(weights, model.get_weights(), strict=True):
                np.testing.assert_array_equal(before, after)


def test_a_file_that_an_earlier_version_wrote_gives_the_same_answers_saved_anew(
    older_run, tmp_path
):
    file = older_run / "weights" / "last.keras"
    resave(file, tmp_path / "anew.keras")
    old, anew = keras.saving.load_model(file), keras.saving.load_model(tmp_path / "anew.keras")
    assert isinstance(old.get_layer("resize"), keras.layers.Resizing)
    channels = old.inputs[0].shape[-1]
    pixels = np.random.default_rng(1).integers(0, 256, (4, 11, 14, channels), dtype="uint8")
    expected = old.predict_on_batch(pixels)
    assert np.ptp(expected, axis=0).max() > 0.01
    for model in (anew, load_portable(file)):
        np.testing.assert_allclose(array(model(pixels)), expected, atol=1e-5)


def test_files_of_earlier_versions_in_plain_keras_do_what_the_changelog_says(earlier_file):
    model = keras.saving.load_model(earlier_file)
    pixels = np.random.default_rng(1).integers(0, 256, (4, 12, 12, 3), dtype="uint8")
    expected = model.predict_on_batch(pixels)
    np.testing.assert_allclose(array(model(pixels, training=False)), expected, atol=1e-5)
    assert np.abs(array(model(pixels)) - expected).max() > 1e-3
    # The call moved the statistics too.
    again = keras.saving.load_model(earlier_file).get_weights()
    assert any(not np.array_equal(a, b) for a, b in zip(model.get_weights(), again, strict=True))


def test_saved_anew_nothing_of_the_earlier_layer_is_left(earlier_file, tmp_path):
    resave(earlier_file, tmp_path / "anew.keras")
    with zipfile.ZipFile(tmp_path / "anew.keras") as file:
        config = file.read("config.json")
    assert b"Resizing" not in config
    assert b'"training": true' not in config
    layers = [layer.name for layer in keras.saving.load_model(tmp_path / "anew.keras").layers]
    assert layers == ["pixels", "resize", "rescale", "conv", "norm", "inside", "pool", "probs"]


def test_building_the_twin_draws_no_random_numbers():
    random.seed(3)
    expected = random.random()
    random.seed(3)
    PortableModel.of("cnn-subclassing", SPEC, 4)
    assert random.random() == expected


def test_saving_again_and_again_keeps_nothing(tmp_path):
    model = MODELS.get("cnn-subclassing")(SPEC, 4)
    portable = PortableModel.of("cnn-subclassing", SPEC, 4)
    graph = portable.model
    counts = []
    for _ in range(3):
        for _ in range(3):
            portable.save(model.get_weights(), tmp_path / "last.keras")
        gc.collect()
        counts.append(len(gc.get_objects()))
    assert portable.model is graph
    assert counts[2] - counts[1] < 50


def test_each_save_holds_the_weights_of_that_moment(tmp_path):
    model = MODELS.get("cnn-functional")(SPEC, 4)
    portable = PortableModel.of("cnn-functional", SPEC, 4)
    first = model.get_weights()
    portable.save(first, tmp_path / "a.keras")
    portable.save([w + 1 for w in first], tmp_path / "b.keras")
    a = keras.saving.load_model(tmp_path / "a.keras").get_weights()
    b = keras.saving.load_model(tmp_path / "b.keras").get_weights()
    for before, after, given in zip(a, b, first, strict=True):
        np.testing.assert_array_equal(before, given)
        np.testing.assert_array_equal(after, given + 1)


def test_weights_of_another_model_are_refused_and_nothing_is_written(tmp_path):
    weights = MODELS.get("cnn-functional")(InputSpec(16, 16, 3), 4).get_weights()
    with pytest.raises(ConfigError, match="do not match the model 'cnn_functional'"):
        PortableModel.of("cnn-functional", SPEC, 4).save(weights, tmp_path / "best.keras")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_name_is_refused():
    with pytest.raises(UnknownNameError, match="cnn-sequential"):
        PortableModel.of("cnn-sequental", SPEC, 4)
    assert keras.config.dtype_policy().name == "float32"


def changed_bytes(path, places):
    """Yield the damage of one byte at each place, with the file as it is in between."""
    content = path.read_bytes()
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        yield place
    path.write_bytes(content)


def test_a_file_in_which_a_byte_changed_is_refused(tmp_path):
    path = tmp_path / "last.keras"
    model = MODELS.get("cnn-sequential")(SPEC, 4)
    PortableModel.of("cnn-sequential", SPEC, 4).save(model.get_weights(), path)
    require_whole(path)
    size = path.stat().st_size
    # 1,000 at random, and all of the archive's last headers.
    places = {*random.Random(4).sample(range(size), 1_000), *range(size - 700, size)}
    for _ in changed_bytes(path, sorted(places)):
        with pytest.raises((IntegrityError, zipfile.BadZipFile, ValueError, NotImplementedError)):
            require_whole(path)
    require_whole(path)
    for _ in changed_bytes(path, [size // 3, size - 3]):
        with pytest.raises(RunError, match=r"last\.keras is damaged"):
            load_model(path)


@pytest.mark.parametrize("kind", ["external", "virtual", "link", "soft link", "group"])
def test_a_file_whose_weights_are_in_another_file_is_refused(kind, tmp_path):
    name = "cnn-functional"
    path = tmp_path / "model.keras"
    PortableModel.of(name, SPEC, 4).save(MODELS.get(name)(SPEC, 4).get_weights(), path)
    with zipfile.ZipFile(path) as archive:
        parts = {part: archive.read(part) for part in archive.namelist()}
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["0"] = np.zeros(4, np.float32)
    weights = io.BytesIO(parts["model.weights.h5"])
    with h5py.File(weights, "r+") as file:
        group = next(
            each.parent
            for each in datasets_in(file)
            if each.shape == (4,) and each.name.startswith("/layers/") and each.name.endswith("/1")
        )
        if kind == "group":
            del file["layers"]
            file["layers"] = h5py.ExternalLink(secret, "/")
        else:
            del group["1"]
        if kind == "external":
            group.create_dataset("1", (4,), "f4", external=[(str(secret), 0, 16)])
        elif kind == "virtual":
            layout = h5py.VirtualLayout((4,), "f4")
            layout[:] = h5py.VirtualSource(secret, "0", (4,))
            group.create_virtual_dataset("1", layout)
        elif kind == "link":
            group["1"] = h5py.ExternalLink(secret, "0")
        elif kind == "soft link":
            group["1"] = h5py.SoftLink("/elsewhere")
    parts["model.weights.h5"] = weights.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        for part, content in parts.items():
            archive.writestr(part, content)
    with pytest.raises(RunError, match="its weights are in another file, which could be any"):
        load_portable(path)


def datasets_in(file):
    found = []
    file.visititems(lambda _, each: found.append(each) if isinstance(each, h5py.Dataset) else None)
    return found


def test_files_of_earlier_versions_have_no_checksum_and_open(tmp_path):
    path = tmp_path / "last.keras"
    MODELS.get("cnn-functional")(SPEC, 4).save(path)
    assert load_portable(path).output_shape == (None, 4)
