"""What every saved network keeps in the hands of plain Keras, found by the registries.

However it is asked, it answers as the network that was trained, and asking changes nothing in it.
"""

import inspect

import keras
import numpy as np
import pytest

from convscope.models import MODELS
from convscope.models.backbones import BACKBONES
from convscope.models.saving import PortableModel
from convscope.models.transfer import START, TransferModel
from convscope.recipe import HeadSettings
from convscope.types import InputSpec

SIZE, N_IMAGES, N_CLASSES = 32, 3, 5
HEAD = HeadSettings(dropout=0.5)

# BatchNorm, which differs in training, is in a small one too.
BACKBONE_CASES = [
    "tiny",
    *(pytest.param(name, marks=pytest.mark.slow) for name in BACKBONES.names()),
]
# They differ from "fast-small" in width and depth alone.
LIKE_OTHERS = {"fast-medium", "fast-large"}


def networks(*slow: str) -> list[object]:
    return [
        pytest.param(name, marks=pytest.mark.slow if name in {*LIKE_OTHERS, *slow} else ())
        for name in MODELS.names()
    ]


def images(height, width, channels=3):
    shape = (N_IMAGES, height, width, channels)
    return np.random.default_rng(0).integers(0, 256, shape, dtype="uint8")


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


def one_at_a_time(ask, pixels):
    return np.concatenate([ask(pixels[i : i + 1]) for i in range(len(pixels))])


def assert_answers_alike_however_it_is_asked(model, pixels, expected, atol=1e-5):
    """Ask in every way, and check that it left the model as it was."""
    ways = {
        "predict": lambda: model.predict(pixels, verbose=0),
        "predict, each": lambda: model.predict(pixels, batch_size=1, verbose=0),
        "a call": lambda: array(model(pixels)),
        "a call, each": lambda: one_at_a_time(lambda one: array(model(one)), pixels),
        "a call for inference": lambda: array(model(pixels, training=False)),
        "a call with floats": lambda: array(model(pixels.astype("float32"))),
    }
    weights = model.get_weights()
    first = ways["predict"]()
    for way, ask in ways.items():
        np.testing.assert_allclose(ask(), expected, atol=atol, err_msg=way)
        for before, after in zip(weights, model.get_weights(), strict=True):
            np.testing.assert_array_equal(before, after, err_msg=way)
    np.testing.assert_array_equal(ways["predict"](), first)


def saved(name, spec, folder):
    """Save a registered network with random weights; return it and the path of its file."""
    network = MODELS.get(name)(spec, N_CLASSES)
    # With the kernels of a fresh deep network all images look nearly alike.
    network.set_weights([2 * w if w.ndim > 1 else w for w in network.get_weights()])
    path = folder / "last.keras"
    PortableModel.of(name, spec, N_CLASSES).save(network.get_weights(), path)
    return network, path


# The shortcuts of "fast-deep" are in the test with grey images.
@pytest.mark.parametrize("name", networks("fast-deep"))
def test_plain_keras_gives_the_answers_of_a_network(name, tmp_path):
    network, path = saved(name, InputSpec(SIZE, SIZE, 3), tmp_path)
    model = keras.saving.load_model(path)
    exact, other = images(SIZE, SIZE), images(SIZE + 9, SIZE - 5)
    assert_answers_alike_however_it_is_asked(model, exact, array(network(exact, training=False)))
    expected = array(network(other, training=False))
    np.testing.assert_allclose(array(model(other)), expected, atol=1e-5)
    np.testing.assert_allclose(model.predict_on_batch(other), expected, atol=1e-5)
    # The network as it is trained takes a plain call for inference too.
    np.testing.assert_allclose(array(network(other)), expected, atol=1e-5)


@pytest.mark.parametrize("name", networks())
def test_plain_keras_gives_the_answers_of_a_network_for_grey_images(name, tmp_path):
    network, path = saved(name, InputSpec(SIZE, SIZE, 1), tmp_path)
    model = keras.saving.load_model(path)
    pixels = images(SIZE + 9, SIZE - 5, 1)
    expected = array(network(pixels, training=False))
    found = one_at_a_time(lambda one: array(model(one)), pixels)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_in_training_the_answers_would_be_others_and_the_statistics_change(tmp_path):
    # Else the tests above could not fail.
    _, path = saved("fast-small", InputSpec(SIZE, SIZE, 3), tmp_path)
    model, pixels = keras.saving.load_model(path), images(SIZE, SIZE)
    inferred, weights = array(model(pixels)), model.get_weights()
    assert np.abs(array(model(pixels, training=True)) - inferred).max() > 1e-3
    assert any(not np.array_equal(a, b) for a, b in zip(weights, model.get_weights(), strict=True))


@pytest.mark.parametrize("name", BACKBONE_CASES)
def test_plain_keras_gives_the_answers_of_a_classifier_on_a_backbone(name, tmp_path, tiny_backbone):
    backbone = BACKBONES.get(name)
    side = backbone.smallest_size
    spec = InputSpec(side, side, 3, backbone.scaling)
    keras.utils.set_random_seed(83)
    network = TransferModel(name, spec, N_CLASSES, HEAD, START)
    pixels = images(side, side)
    let_images_through(network, side)
    expected = array(network.whole(pixels, training=False))
    assert np.abs(array(network.whole(pixels, training=True)) - expected).max() > 1e-3
    path = tmp_path / "last.keras"
    PortableModel(lambda: (network.whole, network.whole)).save(network.whole.get_weights(), path)
    model = keras.saving.load_model(path)
    # Rounding grows in a deep trunk with random weights.
    assert_answers_alike_however_it_is_asked(model, pixels, expected, atol=3e-4)


def let_images_through(network, side):
    """Give a random trunk statistics that fit its inputs, or it hardly tells images apart."""
    pixels = np.random.default_rng(1).integers(0, 256, (32, side, side, 3), dtype="uint8")
    norms = [each for each in network.trunk.layers if type(each).__name__ == "BatchNormalization"]
    momentum = [each.momentum for each in norms]
    for each in norms:
        each.momentum, each.trainable = 0.0, True
    network.whole(pixels, training=True)
    for each, before in zip(norms, momentum, strict=True):
        each.momentum, each.trainable = before, False


@pytest.mark.parametrize("name", networks())
def test_no_layer_takes_a_call_for_training_unasked(name):
    model = PortableModel.of(name, InputSpec(SIZE, SIZE, 3), N_CLASSES).model
    for layer in model._flatten_layers():
        training = inspect.signature(layer.call).parameters.get("training")
        assert training is None or training.default is not True, layer.name
