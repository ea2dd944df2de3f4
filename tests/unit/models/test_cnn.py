import subprocess
import sys

import keras
import numpy as np
import pytest

from convscope.errors import ConfigError
from convscope.models import MODELS
from convscope.models.structure import layer_table
from convscope.types import InputSpec

STYLES = ["cnn-sequential", "cnn-functional", "cnn-subclassing"]

# The table printed in the tutorial, for 32x32x3 and 10 classes.
TUTORIAL = [
    ("Conv2D", (32, 32, 32), 896),
    ("MaxPooling2D", (16, 16, 32), 0),
    ("Conv2D", (16, 16, 64), 18_496),
    ("MaxPooling2D", (8, 8, 64), 0),
    ("Conv2D", (8, 8, 64), 36_928),
    ("Flatten", (4096,), 0),
    ("Dense", (128,), 524_416),
    ("Dense", (10,), 1_290),
]


def build(name, height=32, width=32, channels=3, n_classes=10):
    return MODELS.get(name)(InputSpec(height, width, channels), n_classes)


def images(*shape):
    return np.random.default_rng(1).integers(0, 256, shape, dtype="uint8")


@pytest.fixture
def mixed_precision():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(before)


def test_the_three_styles_are_registered():
    assert set(STYLES) <= set(MODELS.names())


@pytest.mark.parametrize("name", STYLES)
def test_is_the_tutorials_network_layer_by_layer(name):
    model = build(name)
    assert model.count_params() == 582_026
    rows = layer_table(model)
    assert [row.kind for row in rows[:2]] == ["Resizing", "Rescaling"]
    assert [(row.kind, row.output_shape, row.params) for row in rows[2:]] == TUTORIAL


def test_layers_have_the_settings_of_the_tutorial():
    for name in STYLES:
        layers = {layer.name: layer for layer in build(name)._flatten_layers()}
        for conv in ("conv1", "conv2", "conv3"):
            assert layers[conv].kernel_size == (3, 3)
            assert layers[conv].padding == "same"
            assert layers[conv].activation is keras.activations.relu
        assert layers["dense"].activation is keras.activations.relu
        assert layers["probs"].activation is keras.activations.softmax


def test_the_same_seed_gives_the_three_styles_the_same_weights():
    weights = []
    for name in STYLES:
        keras.utils.set_random_seed(7)
        weights.append(build(name, 8, 8).get_weights())
    for other in weights[1:]:
        for a, b in zip(weights[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("size", [(32, 32), (45, 20)])
def test_the_three_styles_agree_given_the_same_weights(size):
    models = [build(name) for name in STYLES]
    for model in models[1:]:
        model.set_weights(models[0].get_weights())
    x = images(5, *size, 3)
    outputs = [keras.ops.convert_to_numpy(model(x)) for model in models]
    assert outputs[0].std() > 1e-3
    for output in outputs[1:]:
        np.testing.assert_allclose(output, outputs[0], atol=1e-6)


@pytest.mark.parametrize("name", STYLES)
@pytest.mark.parametrize(
    ("height", "width", "channels", "n_classes"), [(4, 4, 1, 2), (5, 7, 3, 3), (33, 50, 3, 101)]
)
def test_any_size_and_number_of_classes(name, height, width, channels, n_classes):
    model = build(name, height, width, channels, n_classes)
    flat = (height // 4) * (width // 4) * 64
    convolutions = (9 * channels + 1) * 32 + 18_496 + 36_928
    assert model.count_params() == convolutions + (flat + 1) * 128 + 129 * n_classes
    probs = keras.ops.convert_to_numpy(model(images(2, height, width, channels)))
    assert probs.shape == (2, n_classes)
    np.testing.assert_allclose(probs.sum(axis=1), 1.0, atol=1e-5)


@pytest.mark.parametrize("name", STYLES)
@pytest.mark.parametrize("size", [(3, 32), (32, 3), (1, 1), (0, 0)])
def test_a_size_too_small_for_the_poolings_is_refused_in_one_line(name, size):
    with pytest.raises(ConfigError, match=rf"{size[0]}x{size[1]}.*at least 4x4") as caught:
        build(name, *size)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", STYLES)
def test_one_class_is_refused(name):
    with pytest.raises(ConfigError, match="at least 2 classes, not 1"):
        build(name, n_classes=1)


@pytest.mark.parametrize("name", STYLES)
@pytest.mark.usefixtures("mixed_precision")
def test_mixed_precision_keeps_the_probabilities_in_float32(name):
    model = build(name)
    layers = {layer.name: layer for layer in model._flatten_layers()}
    assert layers["conv1"].compute_dtype == "bfloat16"
    assert layers["probs"].compute_dtype == "float32"
    assert {str(w.dtype) for w in model.weights} == {"float32"}
    assert model(images(1, 32, 32, 3)).dtype == keras.ops.ones((), "float32").dtype


@pytest.mark.usefixtures("mixed_precision")
def test_mixed_precision_does_not_round_pixels_on_the_way_in():
    # Fractions that bfloat16 would round to whole levels must still make a difference.
    x = images(4, 32, 32, 3).astype("float32")
    outputs = []
    for name in STYLES:
        keras.utils.set_random_seed(7)
        outputs.append(keras.ops.convert_to_numpy(build(name)(x * 0.997)))
    np.testing.assert_array_equal(outputs[0], outputs[1])
    np.testing.assert_array_equal(outputs[0], outputs[2])


@pytest.mark.parametrize("name", STYLES)
def test_learns(name):
    keras.utils.set_random_seed(0)
    model = build(name, 8, 8, 1, 2)
    labels = np.arange(64) % 2
    x = (labels[:, None, None, None] * 200 + images(64, 8, 8, 1) // 8).astype("uint8")
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(x, labels, epochs=8, batch_size=32, verbose=0).history
    assert history["accuracy"][-1] > 0.9
    assert history["loss"][-1] < history["loss"][0]


def test_names_are_known_without_importing_keras():
    code = (
        "import sys\n"
        "from convscope.models import MODELS\n"
        "print(*MODELS.names())\n"
        "print(*{'keras', 'tensorflow', 'matplotlib', 'jax', 'torch'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names, heavy = done.stdout.split("\n")[:2]
    assert set(STYLES) <= set(names.split())
    assert heavy == ""
