import gc
import json
import os
import random
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest

from convscope.errors import ConfigError, UnknownNameError
from convscope.models import MODELS
from convscope.models.saving import PortableModel, load_portable
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
def test_the_file_holds_keras_own_layers_only(name, tmp_path):
    path = tmp_path / "best.keras"
    PortableModel.of(name, SPEC, 4).save(MODELS.get(name)(SPEC, 4).get_weights(), path)
    with zipfile.ZipFile(path) as file:
        config = json.loads(file.read("config.json"))
    assert config["class_name"] == "Functional"
    assert not config["compile_config"]
    assert {layer["module"] for layer in config["config"]["layers"]} == {"keras.layers"}


@pytest.mark.usefixtures("mixed_precision")
@pytest.mark.parametrize("name", STYLES)
def test_a_model_trained_in_mixed_precision_is_saved_in_float32(name, tmp_path):
    model = MODELS.get(name)(SPEC, 4)
    path = tmp_path / "best.keras"
    PortableModel.of(name, SPEC, 4).save(model.get_weights(), path)
    assert keras.config.dtype_policy().name == "mixed_bfloat16"
    again = keras.saving.load_model(path)
    # layers[0] is the input, which computes nothing.
    assert {layer.compute_dtype for layer in again.layers[1:]} == {"float32"}
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
    model = load_portable(path)
    resized = []
    image_operations = model.get_layer("resize").backend.image
    resize = image_operations.resize

    def counting(images, *args, **kwargs):
        resized.append(images.shape[1:3])
        return resize(images, *args, **kwargs)

    monkeypatch.setattr(image_operations, "resize", counting)
    model.predict_on_batch(np.zeros((1, 12, 12, 3), "uint8"))
    assert not resized
    model.predict_on_batch(np.zeros((1, 20, 12, 3), "uint8"))
    assert resized
    # Saved once more, it holds Keras' own layer.
    model.save(tmp_path / "again.keras")
    again = keras.saving.load_model(tmp_path / "again.keras")
    assert type(again.get_layer("resize")) is keras.layers.Resizing


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
    with pytest.raises(ConfigError, match="do not fit the model 'cnn_functional'"):
        PortableModel.of("cnn-functional", SPEC, 4).save(weights, tmp_path / "best.keras")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_name_is_refused():
    with pytest.raises(UnknownNameError, match="cnn-sequential"):
        PortableModel.of("cnn-sequental", SPEC, 4)
    assert keras.config.dtype_policy().name == "float32"
