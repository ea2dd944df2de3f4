"""What every registered model keeps, found by the registry."""

import keras
import numpy as np
import pytest

from convscope.models import MODELS
from convscope.models.geometry import geometry
from convscope.models.saving import PortableModel
from convscope.models.structure import layer_table
from convscope.types import InputSpec

CASES = [pytest.param(name, channels) for name in MODELS.names() for channels in (1, 3)]
SIZE, N_CLASSES = 32, 5


def build(name, channels=3):
    return MODELS.get(name)(InputSpec(SIZE, SIZE, channels), N_CLASSES)


def with_strong_weights(model):
    """Double the kernels: with those of a fresh deep network all images look nearly alike."""
    model.set_weights([2 * w if w.ndim > 1 else w for w in model.get_weights()])
    return model


def images(n, height, width, channels):
    return np.random.default_rng(0).integers(0, 256, (n, height, width, channels), dtype="uint8")


def answer(model, x):
    return keras.ops.convert_to_numpy(model(x))


@pytest.fixture
def mixed_precision():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("entry", MODELS.entries(), ids=lambda entry: entry.name)
def test_says_what_it_is_in_one_line(entry):
    assert 10 < len(entry.summary) < 90
    assert "Args:" in entry.doc
    assert entry.name == entry.name.lower()


@pytest.mark.parametrize(("name", "channels"), CASES)
def test_gives_probabilities_for_raw_pixels_of_any_size(name, channels):
    model = build(name, channels)
    for height, width in [(SIZE, SIZE), (SIZE + 9, SIZE - 5)]:
        x = images(3, height, width, channels)
        probs = answer(model, x)
        assert probs.shape == (3, N_CLASSES)
        assert probs.dtype == np.float32
        np.testing.assert_allclose(probs.sum(axis=1), 1.0, atol=1e-5)
        assert (probs >= 0).all()
        np.testing.assert_array_equal(answer(model, x.astype("float32")), probs)


@pytest.mark.parametrize(("name", "channels"), CASES)
def test_depends_on_the_image(name, channels):
    probs = answer(with_strong_weights(build(name, channels)), images(4, SIZE, SIZE, channels))
    assert np.abs(probs - probs[0]).max() > 1e-3


@pytest.mark.parametrize(("name", "channels"), CASES)
def test_saved_and_reloaded_it_gives_the_same_answers(name, channels, tmp_path):
    model = with_strong_weights(build(name, channels))
    spec = InputSpec(SIZE, SIZE, channels)
    path = tmp_path / "model.keras"
    PortableModel.of(name, spec, N_CLASSES).save(model.get_weights(), path)
    again = keras.saving.load_model(path)
    assert getattr(again, "optimizer", None) is None
    for x in (images(2, SIZE, SIZE, channels), images(2, SIZE + 9, SIZE - 5, channels)):
        np.testing.assert_allclose(answer(again, x), answer(model, x), atol=1e-5)


@pytest.mark.parametrize("name", MODELS.names())
def test_shows_its_layers(name):
    model = build(name)
    rows, sheet = layer_table(model), geometry(model)
    assert model.count_params() > 0
    assert sum(row.params for row in rows) == model.count_params()
    assert sum(layer.params for layer in sheet) == model.count_params()
    assert rows[-1].output_shape == sheet[-1].output_shape == (N_CLASSES,)
    assert sum(layer.multiply_adds for layer in sheet) > 0


@pytest.mark.parametrize("name", MODELS.names())
def test_the_same_seed_gives_the_same_weights(name):
    weights = []
    for _ in range(2):
        keras.utils.set_random_seed(5)
        weights.append(build(name).get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", MODELS.names())
def test_mixed_precision_changes_no_shape_and_answers_in_float32(name, mixed_precision):
    mixed = build(name)
    keras.config.set_dtype_policy("float32")
    plain = build(name)
    assert mixed.count_params() == plain.count_params()
    assert [w.shape for w in mixed.weights] == [w.shape for w in plain.weights]
    mixed.set_weights(plain.get_weights())
    x = images(4, SIZE, SIZE, 3)
    probs = answer(mixed, x)
    assert probs.dtype == np.float32
    # bfloat16 keeps 8 bits: near, and not the same.
    np.testing.assert_allclose(probs, answer(plain, x), atol=0.03)
