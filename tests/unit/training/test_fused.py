"""Layers for training do what Keras' own do, and leave nothing of themselves in a saved model."""

import keras
import numpy as np
import pytest

from convscope.backend import precision_policy
from convscope.models import MODELS
from convscope.models.saving import PortableModel
from convscope.training import fused as module
from convscope.training.fused import (
    FusedBatchNormalization,
    FusedConv2D,
    FusedSilu,
    PooledRelu,
    with_fused_layers,
)
from convscope.types import InputSpec

pytestmark = pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="other backends keep Keras' layers"
)
SPEC = InputSpec(16, 16, 3)


def pair(**options) -> tuple[keras.layers.Layer, keras.layers.Layer]:
    layers = [
        kind(momentum=0.6, epsilon=1e-5, **options)
        for kind in (keras.layers.BatchNormalization, FusedBatchNormalization)
    ]
    for layer in layers:
        layer.build((None, 5, 4, 7))
    return layers[0], layers[1]


@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False}], ids=str)
@pytest.mark.parametrize("training", [True, False])
def test_outputs_gradients_and_averages_are_those_of_keras(options, training):
    import tensorflow as tf

    x = tf.constant(np.random.default_rng(0).normal(2, 3, (8, 5, 4, 7)).astype("float32"))
    found = []
    for layer in pair(**options):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=training)
            loss = tf.reduce_sum(y**3)
        weights = [variable.value for variable in layer.trainable_variables]
        gradients = tape.gradient(loss, [x, *weights])
        found.append([y, *gradients, *layer.get_weights()])
    for theirs, mine in zip(*found, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-3, atol=2e-3)


def test_bfloat16_comes_out_as_bfloat16_with_statistics_in_float32():
    layer = FusedBatchNormalization(momentum=0.0, dtype="mixed_bfloat16")
    x = np.random.default_rng(0).normal(100, 1, (64, 8, 8, 2)).astype("float32")
    y = layer(x, training=True)
    assert keras.backend.standardize_dtype(y.dtype) == "bfloat16"
    rounded = keras.ops.convert_to_numpy(keras.ops.cast(keras.ops.cast(x, "bfloat16"), "float32"))
    mean, variance = layer.get_weights()[2:]
    np.testing.assert_allclose(mean, rounded.mean(axis=(0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(variance, rounded.var(axis=(0, 1, 2)), rtol=1e-2)


@pytest.mark.parametrize(("dtype", "largest"), [("float32", 1e-6), ("bfloat16", 2**-7)])
@pytest.mark.parametrize("training", [True, False])
def test_silu_and_its_gradient_are_those_of_keras(dtype, largest, training):
    import tensorflow as tf

    x = tf.constant(np.random.default_rng(0).normal(0, 3, (8, 5, 4, 7)).astype("float32"))
    x = tf.concat([x, tf.constant([0.0, -80, 80, -1e-6, 30, -30, 1], tf.float32) + 0 * x[:1]], 0)
    upstream = tf.constant(np.random.default_rng(1).normal(0, 1, x.shape), dtype)
    found = []
    for layer in (keras.layers.Activation("silu"), FusedSilu("silu", dtype=dtype)):
        # Keras' in float32, so that only our own rounding is judged.
        given = x if not found else tf.cast(x, dtype)
        with tf.GradientTape() as tape:
            tape.watch(given)
            y = layer(given, training=training) if found else layer(given)
        gradient = tape.gradient(y, given, tf.cast(upstream, y.dtype))
        found.append([np.asarray(tf.cast(each, "float32")) for each in (y, gradient)])
    for theirs, mine in zip(*found, strict=True):
        if training:
            np.testing.assert_allclose(mine, theirs, rtol=largest, atol=largest)
        else:
            np.testing.assert_allclose(mine, theirs, rtol=3 * largest, atol=3 * largest)


AMD = "AVX512-BF16"


@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_and_its_gradients_are_those_of_keras(bias):
    import tensorflow as tf

    x = tf.constant(np.random.default_rng(0).normal(0, 1, (6, 5, 4, 7)).astype("float32"))
    found = []
    for kind in (keras.layers.Conv2D, FusedConv2D):
        keras.utils.set_random_seed(83)
        layer = kind(9, 3, padding="same", use_bias=bias)
        layer.build(x.shape)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            loss = tf.reduce_sum(y**3)
        weights = [variable.value for variable in layer.trainable_variables]
        found.append([y, *tape.gradient(loss, [x, *weights])])
    assert len(found[0]) == 3 + bias
    for theirs, mine in zip(*found, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("side", "channels", "dtype", "units", "fused"),
    [
        (7, 256, "mixed_bfloat16", AMD, True),
        (3, 128, "mixed_bfloat16", AMD, True),
        (7, 128, "mixed_bfloat16", AMD, False),
        (15, 256, "mixed_bfloat16", AMD, False),
        (7, 256, "float32", AMD, False),
        (7, 256, "mixed_bfloat16", "AMX", False),
        (7, 256, "mixed_bfloat16", "", False),
    ],
)
def test_it_is_taken_where_it_was_measured_to_be_quicker(
    side, channels, dtype, units, fused, monkeypatch
):
    monkeypatch.setattr(module, "bfloat16_units", lambda: units)
    monkeypatch.setattr(module, "accelerator", lambda: None)
    maps = keras.Input((side, side, channels))
    x = keras.layers.Conv2D(4, 3, padding="same", dtype=dtype, name="right")(maps)
    x = keras.layers.BatchNormalization(dtype=dtype)(x)
    others = {
        "wide": {"kernel_size": 5, "padding": "same"},
        "strided": {"kernel_size": 3, "padding": "same", "strides": 2},
        "cut": {"kernel_size": 3, "padding": "valid"},
        "still": {"kernel_size": 3, "padding": "same", "trainable": False},
    }
    outputs = [keras.layers.Conv2D(4, dtype=dtype, name=n, **o)(maps) for n, o in others.items()]
    model = keras.Model(maps, [x, *outputs])
    fast = with_fused_layers(model)
    assert isinstance(fast.get_layer("right"), FusedConv2D) == fused
    assert not any(isinstance(fast.get_layer(name), FusedConv2D) for name in others)
    monkeypatch.setattr(module, "accelerator", lambda: "NVIDIA L4")
    assert not isinstance(with_fused_layers(model).get_layer("right"), FusedConv2D)


def test_the_network_for_training_has_the_same_weights_and_answers(tmp_path):
    keras.utils.set_random_seed(83)
    model = MODELS.get("fast-small")(SPEC, 4)
    fast = with_fused_layers(model)
    for kind in (FusedBatchNormalization, FusedSilu):
        assert sum(isinstance(each, kind) for each in fast.layers) == 6
    assert [v.path for v in fast.weights] == [v.path for v in model.weights]
    x = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype="uint8")
    np.testing.assert_allclose(fast(x), model(x), atol=1e-5)
    assert [w.path for w in fast.trainable_variables] == [w.path for w in model.trainable_variables]

    fast.set_weights([w + 0.01 for w in fast.get_weights()])
    path = tmp_path / "model.keras"
    PortableModel.of("fast-small", SPEC, 4).save(fast.get_weights(), path)
    again = keras.saving.load_model(path)
    assert not any(isinstance(e, FusedBatchNormalization | FusedSilu) for e in again.layers)
    np.testing.assert_allclose(again(x), fast(x), atol=1e-5)


@pytest.mark.parametrize("name", ["cnn-sequential", "cnn-functional"])
def test_relu_comes_after_pooling_in_bfloat16_and_nothing_is_learnt_otherwise(name, monkeypatch):
    import tensorflow as tf

    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (8, 16, 16, 3), dtype="uint8"), rng.integers(0, 4, 8)
    with precision_policy("bfloat16"):
        keras.utils.set_random_seed(83)
        model = MODELS.get(name)(SPEC, 4)
        monkeypatch.setattr(module, "accelerator", lambda: None)
        fast = with_fused_layers(model)
        monkeypatch.setattr(module, "accelerator", lambda: "NVIDIA L4")
        assert with_fused_layers(model) is model
    assert [type(fast.get_layer(f"pool{i}")) for i in (1, 2)] == [PooledRelu] * 2
    activations = [fast.get_layer(f"conv{i}").activation.__name__ for i in (1, 2, 3)]
    assert activations == ["linear", "linear", "relu"]
    of_layers = [[v.path.split("/")[-2:] for v in each.weights] for each in (fast, model)]
    assert of_layers[0] == of_layers[1]
    found = []
    for each in (model, fast):
        with tf.GradientTape() as tape:
            probs = each(x, training=True)
            loss = keras.losses.sparse_categorical_crossentropy(y, probs)
        found.append([probs, *tape.gradient(loss, [v.value for v in each.trainable_variables])])
    for theirs, mine in zip(*found, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("name", ["cnn-sequential", "cnn-functional", "cnn-subclassing"])
def test_a_network_without_normalisation_stays_as_it_is(name):
    model = MODELS.get(name)(SPEC, 4)
    assert with_fused_layers(model) is model


def mixed() -> keras.Model:
    """A network with normalisations over maps, over their rows, over vectors, and with renorm."""
    keras.utils.set_random_seed(83)
    layers = keras.layers
    pixels = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same")(pixels)
    x = layers.BatchNormalization(name="maps")(x)
    x = layers.BatchNormalization(axis=3, name="maps_too")(x)
    x = layers.BatchNormalization(axis=1, name="rows")(x)
    x = layers.Dense(6)(layers.Flatten()(x))
    x = layers.BatchNormalization(name="vectors")(x)
    return keras.Model(pixels, layers.Dense(3, activation="softmax")(x))


def test_only_normalisations_over_the_channels_of_maps_are_replaced_and_all_learn_as_before():
    fast, plain = with_fused_layers(mixed()), mixed()
    fused = [each.name for each in fast.layers if isinstance(each, FusedBatchNormalization)]
    assert fused == ["maps", "maps_too"]
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(16, 8, 8, 3)).astype("float32"), rng.integers(0, 3, 16)
    before = plain.get_weights()
    for model in (fast, plain):
        model.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy")
        for _ in range(3):
            model.train_on_batch(x, y)
    for mine, theirs, old in zip(fast.get_weights(), plain.get_weights(), before, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-4)
        assert not np.array_equal(theirs, old)


def test_a_network_whose_normalisations_are_all_of_other_kinds_stays_as_it_is():
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3), layers.BatchNormalization(), layers.Dense(2)]
    )
    functional = keras.Model(model.inputs, model.outputs)
    assert with_fused_layers(functional) is functional


@pytest.mark.skipif(
    not hasattr(keras.layers.BatchNormalization(), "renorm"), reason="this Keras has no renorm"
)
def test_a_normalisation_with_renorm_is_not_replaced():
    pixels = keras.Input((8, 8, 3))
    model = keras.Model(pixels, keras.layers.BatchNormalization(renorm=True)(pixels))
    assert with_fused_layers(model) is model
