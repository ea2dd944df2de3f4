"""A folded network gives the same answers with fewer layers, and its original stays as it was."""

import keras
import numpy as np
import pytest
from keras import layers

from convscope.models.folding import fold_batch_norm

PIXELS = np.random.default_rng(0).normal(size=(3, 9, 9, 4)).astype("float32")


def conv(**options) -> layers.Conv2D:
    return layers.Conv2D(4, 3, padding="same", **options)


def norm() -> layers.BatchNormalization:
    """With statistics, scale and shift that are not those of the beginning."""
    rng = np.random.default_rng(1)
    layer = layers.BatchNormalization()
    layer.build((None, 9, 9, 4))
    layer.set_weights([rng.uniform(0.5, 2, 4) for _ in range(4)])
    return layer


def plain(x):
    return norm()(conv()(x))


def without_bias(x):
    return norm()(conv(use_bias=False)(x))


def depthwise(x):
    return norm()(layers.Conv2D(4, 1)(norm()(layers.DepthwiseConv2D(3, depth_multiplier=1)(x))))


def separable(x):
    return norm()(layers.SeparableConv2D(4, 3, padding="same")(x))


def inner_model(x):
    pixels = keras.Input(x.shape[1:])
    return keras.Model(pixels, plain(pixels), name="inner")(x)


def inner_sequential(x):
    return keras.Sequential([keras.Input(x.shape[1:]), conv(), norm()], name="inner")(x)


def after_relu(x):
    return norm()(conv(activation="relu")(x))


def seen_twice(x):
    y = conv()(x)
    return layers.Add()([y, norm()(y)])


def shared_convolution(x):
    shared = conv()
    return norm()(shared(layers.ReLU()(norm()(shared(x)))))


def shared_norm(x):
    shared = norm()
    return shared(layers.ReLU()(shared(conv()(x))))


def shared_model(x):
    pixels = keras.Input(x.shape[1:])
    shared = keras.Model(pixels, plain(pixels), name="inner")
    return shared(shared(x))


def norms_in(model) -> int:
    found = 0
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found += norms_in(layer)
        found += isinstance(layer, layers.BatchNormalization)
    return found


@pytest.mark.parametrize(
    ("part", "left"),
    [
        (plain, 0),
        (without_bias, 0),
        (depthwise, 0),
        (separable, 0),
        (inner_model, 0),
        (inner_sequential, 0),
        (after_relu, 1),
        (seen_twice, 1),
        (shared_convolution, 2),
        (shared_norm, 1),
        (shared_model, 0),
    ],
)
def test_answers_stay_and_norms_go_where_they_can(part, left):
    keras.utils.set_random_seed(83)
    pixels = keras.Input((9, 9, 4))
    model = keras.Model(pixels, part(pixels))
    before = model.get_weights()
    wanted = model.predict_on_batch(PIXELS)
    folded = fold_batch_norm(model)
    np.testing.assert_allclose(folded.predict_on_batch(PIXELS), wanted, rtol=1e-4, atol=1e-4)
    assert norms_in(folded) == left
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
