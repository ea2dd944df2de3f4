"""What explanations say of networks whose inside is known, in every style."""

import re

import keras
import numpy as np
import pytest
from keras import layers

from convscope.errors import ShapeError, UnknownNameError
from convscope.explain.filters import first_filters
from convscope.explain.forward import activations, score_and_gradient
from convscope.explain.gradcam import gradcam, last_map, map_layers
from convscope.explain.occlusion import occlusion
from convscope.models import MODELS
from convscope.models.geometry import geometry
from convscope.models.transfer import TransferModel
from convscope.recipe import HeadSettings
from convscope.types import InputSpec

STYLES = ["cnn-sequential", "cnn-functional", "cnn-subclassing"]


def network(name: str) -> keras.Model:
    keras.utils.set_random_seed(83)
    if name in STYLES or name == "fast-small":
        return MODELS.get(name)(InputSpec(32, 32, 3, "unit"), 10)
    head = HeadSettings(hidden=(8,))
    return TransferModel(name, InputSpec(64, 64, 3, "tf"), 10, head).whole


def images(n: int = 2, side: int = 32) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", [*STYLES, "fast-small", "mobilenet_v2"])
def test_layer_by_layer_gives_what_the_network_gives(name):
    model = network(name)
    found = activations(model, images())
    *_, last = found.values()
    np.testing.assert_allclose(last, model.predict_on_batch(images()), atol=1e-5)
    sheet = [row.name for row in geometry(model)]
    assert list(found) == [name for name in found if name in sheet]
    for row in geometry(model):
        if row.name in found and None not in row.output_shape:
            assert found[row.name].shape[1:] == row.output_shape


def by_hand(x: object) -> object:
    """A softmax that nobody recognises."""
    powers = keras.ops.exp(x - keras.ops.max(x, axis=-1, keepdims=True))
    return powers / keras.ops.sum(powers, axis=-1, keepdims=True)


ENDINGS = {
    "dense with softmax": lambda x, dense: dense("softmax")(x),
    "without bias": lambda x, dense: dense("softmax", use_bias=False)(x),
    "softmax layer": lambda x, dense: layers.Softmax()(dense(None)(x)),
    "activation layer": lambda x, dense: layers.Activation("softmax")(dense(None)(x)),
    "softmax operation": lambda x, dense: keras.ops.softmax(dense(None)(x)),
    "logits": lambda x, dense: dense(None)(x),
    "by hand": lambda x, dense: by_hand(dense(None)(x)),
    "by hand in a layer": lambda x, dense: dense(by_hand)(x),
    "mean after softmax": lambda x, dense: layers.Average()([dense("softmax")(x)] * 2),
}
"""Ways to come from the pooled map to probabilities."""


def colours(ending: str = "dense with softmax", gain: float = 1.0) -> keras.Model:
    """A network that adds up red for class 0 and green for class 1, times a gain."""

    def dense(activation: object, use_bias: bool = True) -> layers.Layer:
        start = keras.initializers.Identity(gain)
        return layers.Dense(2, activation, use_bias, kernel_initializer=start, name="dense")

    pixels = keras.Input((16, 16, 3), name="pixels")
    scaled = layers.Rescaling(1 / 255)(pixels)
    x = layers.Conv2D(2, 1, use_bias=False, name="conv")(scaled)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(pixels, ENDINGS[ending](x, dense))
    model.get_layer("conv").set_weights([np.eye(3, 2, dtype=np.float32)[None, None]])
    return model


@pytest.fixture
def red_and_green() -> np.ndarray:
    image = np.zeros((16, 16, 3), np.uint8)
    image[2:5, 2:5, 0] = 255
    image[10:14, 9:12, 1] = 255
    return image


def test_grad_cam_lights_up_what_the_class_is_made_of_and_nothing_else(red_and_green):
    for index in (0, 1):
        heat = gradcam(colours(), red_and_green, index, layer="conv")
        np.testing.assert_allclose(heat, red_and_green[..., index] / 255, atol=1e-6)


UNRECOGNISED = ["by hand", "by hand in a layer", "mean after softmax"]


# With a gain of 1,000 the probability of green is 1 in float32: it depends on nothing.
@pytest.mark.parametrize("gain", [1, 1_000])
@pytest.mark.parametrize("ending", [name for name in ENDINGS if name not in UNRECOGNISED])
def test_the_gradient_is_that_of_the_logit(red_and_green, ending, gain):
    model = colours(ending, gain)
    values, gradient = score_and_gradient(model, red_and_green[None], "conv", 1)
    np.testing.assert_allclose(values[0, ..., 0], red_and_green[..., 0] / 255, atol=1e-6)
    # The mean over 256 places of the second channel; the first does not count.
    np.testing.assert_allclose(gradient[0, ..., 1], gain / 256, rtol=1e-5)
    np.testing.assert_allclose(gradient[0, ..., 0], 0, atol=1e-7)


@pytest.mark.parametrize("gain", [1, 1_000])
@pytest.mark.parametrize("ending", UNRECOGNISED)
def test_other_ways_to_probabilities_give_the_logit_less_the_mean_logit(
    red_and_green, ending, gain
):
    _, gradient = score_and_gradient(colours(ending, gain), red_and_green[None], "conv", 1)
    np.testing.assert_allclose(gradient[0, ..., 1], gain / 512, rtol=1e-4)
    np.testing.assert_allclose(gradient[0, ..., 0], -gain / 512, rtol=1e-4)


@pytest.mark.parametrize("name", [*STYLES, "mobilenet_v2"])
def test_the_gradient_tells_what_a_small_change_does(name):
    model, pixels = network(name), images(1)
    layer = last_map(model, pixels)
    values, gradient = score_and_gradient(model, pixels, layer, 3)
    assert values.shape == gradient.shape
    assert np.abs(gradient).max() > 0
    rng = np.random.default_rng(1)
    step = rng.normal(size=values.shape).astype(np.float32)
    # The layers behind the map, run on it: a network of their own.
    from convscope.explain.forward import run_layers

    def logit(at: np.ndarray) -> float:
        def swap(name: str, operation: object, output: object) -> object:
            del operation
            return keras.ops.convert_to_tensor(at) if name == layer else output

        probs_layer = list(activations(model, pixels))[-1]
        out = run_layers(model, pixels, swap, logits_of=probs_layer)
        return float(keras.ops.convert_to_numpy(out)[0, 3])

    size = 1e-3 * np.abs(values).max() / np.abs(step).max()
    slope = (logit(values + size * step) - logit(values - size * step)) / (2 * size)
    assert slope == pytest.approx(float((gradient * step).sum()), rel=0.05, abs=1e-3)


def test_grad_cam_is_about_the_weights(digits_run):
    """Adebayo et al., "Sanity Checks for Saliency Maps": with other weights, another map."""
    model = keras.saving.load_model(digits_run / "weights/last.keras")
    pixels = np.random.default_rng(3).integers(0, 256, (12, 8, 8, 1), dtype=np.uint8)
    trained = [gradcam(model, image, 3, layer="conv1") for image in pixels]
    same = [gradcam(model, image, 3, layer="conv1") for image in pixels]
    np.testing.assert_array_equal(trained, same)
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(0, 0.1, w.shape).astype(np.float32) for w in model.get_weights()])
    random = [gradcam(model, image, 3, layer="conv1") for image in pixels]
    alike = [
        np.corrcoef(a.ravel(), b.ravel())[0, 1]
        for a, b in zip(trained, random, strict=True)
        if a.std() and b.std()
    ]
    assert len(alike) >= 6
    assert np.mean(alike) < 0.5


def test_the_last_map_is_one_that_has_a_where():
    assert last_map(network("cnn-functional"), images()) == "conv3"
    # At 32 px the trunk's last map is a point: one inside it is taken.
    head = HeadSettings(hidden=(8,))
    model = TransferModel("mobilenet_v2", InputSpec(32, 32, 3, "tf"), 10, head).whole
    name = last_map(model, images())
    assert activations(model, images(1))[name].shape[1:3] == (2, 2)


def test_occlusion_shows_what_is_lost(red_and_green):
    lost = occlusion(colours(), red_and_green, 0, n_across=8)
    top = np.unravel_index(int(lost.argmax()), lost.shape)
    assert top[0] <= 2
    assert top[1] <= 2
    # Covering the green makes red more probable.
    assert lost[6, 5] < 0


def test_the_filters_are_those_of_the_first_convolution_wherever_it_is():
    name, filters = first_filters(network("cnn-sequential"), images())
    assert name == "conv1"
    assert filters.shape == (32, 3, 3, 3)
    assert filters.min() >= 0
    assert filters.max() <= 1
    np.testing.assert_allclose(np.abs(filters - 0.5).max(axis=(1, 2, 3)), 0.5, atol=1e-6)
    name, filters = first_filters(network("mobilenet_v2"), images())
    assert name.endswith("/Conv1")
    assert filters.shape == (32, 3, 3, 3)


@pytest.mark.parametrize(("layer", "numbers"), [("flatten", 4096), ("dense", 128), ("probs", 10)])
def test_a_layer_without_a_map_is_refused_with_those_that_have_one(layer, numbers):
    model = network("cnn-sequential")
    maps = "resize, rescale, conv1, pool1, conv2, pool2, conv3"
    assert map_layers(model, images()) == maps.split(", ")
    message = f"layer '{layer}' gives {numbers} numbers, not a map; choose one of {maps}"
    with pytest.raises(ShapeError, match=f"^{message}$"):
        gradcam(model, images()[0], 0, layer=layer)
    for name in maps.split(", "):
        assert gradcam(model, images()[0], 0, layer=name).ndim == 2


def test_a_map_of_a_single_point_is_no_map_and_a_long_list_is_cut():
    head = HeadSettings(hidden=(8,))
    model = TransferModel("mobilenet_v2", InputSpec(32, 32, 3, "tf"), 10, head).whole
    with pytest.raises(ShapeError, match="gives a map of a single point; choose one of") as error:
        gradcam(model, images()[0], 0, layer="mobilenetv2_1.00_32/out_relu")
    assert last_map(model, images()) in str(error.value)
    assert re.search(r" or one of \d+ before them$", str(error.value))
    assert len(str(error.value)) < 1_500


def test_what_cannot_be_explained_is_refused():
    with pytest.raises(UnknownNameError, match="layer 'conv9'; did you mean 'conv"):
        gradcam(network("cnn-sequential"), images()[0], 0, layer="conv9")
    # Only what can be chosen is suggested.
    with pytest.raises(UnknownNameError, match="choose one of: conv1, .*, resize$") as error:
        gradcam(network("cnn-sequential"), images()[0], 0, layer="xyz")
    assert "flatten" not in str(error.value)
    with pytest.raises(ShapeError, match="not \\(32, 32, 3\\)"):
        activations(network("cnn-sequential"), images()[0])
    pixels = keras.Input((32, 32, 3))
    dense = keras.Model(pixels, layers.Dense(2)(layers.Flatten()(pixels)))
    with pytest.raises(ShapeError, match="no feature map"):
        last_map(dense, images())
