"""What the features of every registered network are, found by the registries."""

import keras
import numpy as np
import pytest

from convscope.models import MODELS
from convscope.models.backbones import BACKBONES
from convscope.models.features import split_at_features
from convscope.models.folding import fold_batch_norm
from convscope.models.transfer import TransferModel
from convscope.recipe import HeadSettings
from convscope.types import InputSpec

SMALLEST = {
    backbone.family: backbone
    for backbone in sorted(
        (BACKBONES.get(name) for name in BACKBONES.names()), key=lambda each: -each.n_params
    )
}
"""The smallest backbone of each family; one of them stands for the others in every run."""


def images(side):
    return np.random.default_rng(5).integers(0, 256, (2, side, side, 3), dtype=np.uint8)


def assert_pieces_are_the_whole(model, side, *, backbone):
    lower, head = split_at_features(model, backbone=backbone)
    pixels = images(side)
    features = fold_batch_norm(lower).predict_on_batch(pixels)
    np.testing.assert_allclose(
        head.predict_on_batch(features), model.predict_on_batch(pixels), atol=1e-5
    )
    assert features.ndim == 2
    return features


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=pytest.mark.slow if name in ("fast-medium", "fast-large", "fast-deep") else (),
        )
        for name in MODELS.names()
    ],
)
def test_features_of_a_network_are_what_its_last_dense_layer_gets(name):
    model = MODELS.get(name)(InputSpec(32, 32, 3), 3)
    features = assert_pieces_are_the_whole(model, 32, backbone=False)
    dense = [each for each in model.layers if isinstance(each, keras.layers.Dense)][-1]
    assert features.shape == (2, dense.kernel.shape[0])
    assert (features[0] != features[1]).any()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(each.name, marks=() if each.name == "mobilenet_v2" else pytest.mark.slow)
        for each in SMALLEST.values()
    ],
)
def test_features_of_a_backbone_are_its_pooled_ones_whatever_the_head(name):
    backbone = BACKBONES.get(name)
    side = max(64, backbone.smallest_size)
    spec = InputSpec(side, side, 3, backbone.scaling)
    model = TransferModel(name, spec, 3, HeadSettings(standardise=True, hidden=(7,))).whole
    features = assert_pieces_are_the_whole(model, side, backbone=True)
    assert features.shape == (2, backbone.n_features)


def test_a_dense_layer_in_a_model_inside_the_network_is_found():
    keras.utils.set_random_seed(1)
    inner = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(5), keras.layers.Dense(3)])
    pixels = keras.Input((4, 4, 3))
    model = keras.Model(pixels, keras.layers.Softmax()(inner(pixels)))
    assert assert_pieces_are_the_whole(model, 4, backbone=False).shape == (2, 5)


def test_without_a_dense_layer_features_are_what_the_last_weights_get():
    pixels = keras.Input((4, 4, 3))
    maps = keras.layers.Conv2D(3, 1)(keras.layers.MaxPooling2D(4)(pixels))
    model = keras.Model(pixels, keras.layers.Softmax()(keras.layers.Flatten()(maps)))
    lower, head = split_at_features(model, backbone=False)
    assert lower.output.shape[1:] == (1, 1, 3)
    wanted = model.predict_on_batch(images(4))
    np.testing.assert_allclose(
        head.predict_on_batch(lower.predict_on_batch(images(4))), wanted, atol=1e-6
    )
