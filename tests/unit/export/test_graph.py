"""The graph of an exported classifier gives the answers of the classifier that it stands for."""

import importlib.util
import io

import keras
import numpy as np
import pytest
from PIL import Image

from convscope.classifier.classify import Classifier
from convscope.classifier.spec import STEPS, ClassifierSpec, Views
from convscope.engines.conversion import to_onnx
from convscope.export.graph import build_function
from convscope.images.decode import decode_image
from convscope.images.fit import resize

pytestmark = pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="exports are made with TensorFlow"
)

HEIGHT, WIDTH = 24, 32
NAMES = ("a", "b", "c")


def spec(**settings):
    return ClassifierSpec(NAMES, HEIGHT, WIDTH, 3, **settings)


def photo(height, width, seed=0):
    """Return a smooth picture: in noise every pixel would depend on the rounding."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    picture = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(picture)


def as_png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def network():
    """A small network with BatchNorm, whose answers differ from image to image."""
    keras.utils.set_random_seed(5)
    layers = keras.layers
    pixels = keras.Input((HEIGHT, WIDTH, 3))
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(pixels)
    x = layers.BatchNormalization()(layers.Conv2D(8, 3, strides=2, activation="relu")(x))
    x = layers.Dense(6, activation="relu", name="hidden")(layers.Flatten()(x))
    return keras.Model(pixels, layers.Dense(len(NAMES), activation="softmax")(x))


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
def test_images_of_any_size_are_resized_as_the_decoder_does(fit):
    import tensorflow as tf

    from convscope.export.graph import _resized

    resize = tf.function(
        lambda images: _resized(images, spec(fit=fit)),
        input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32)],
    )
    # Shrunk, enlarged, of another aspect ratio either way, as they are, a single pixel.
    sizes = ((48, 64), (31, 77), (90, 33), (96, 24), (11, 13), (200, 7), (HEIGHT, WIDTH), (1, 1))
    for size in sizes:
        pixels = photo(*size)
        expected = decode_image(as_png(pixels), channels=3, size=(HEIGHT, WIDTH), fit=fit)
        found = resize(pixels[np.newaxis].astype(np.float32))[0].numpy()
        np.testing.assert_array_equal(found, expected, err_msg=str(size))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": 0.4},
        {"views": Views(mirror=True)},
        {"views": Views(mirror=True, shift=0.125), "temperature": 2.0},
        {"views": Views(shift=0.1)},
    ],
    ids=str,
)
def test_views_and_temperature_are_inside(settings, network):
    classifier = Classifier(network, spec(**settings))
    images = np.stack([photo(HEIGHT, WIDTH, seed) for seed in range(9)])
    outputs = build_function(network, classifier.spec)(images)
    np.testing.assert_allclose(
        outputs["probs"].numpy(), classifier.predict_on_batch(images), atol=1e-5
    )
    # They are not applied twice by whoever reads the spec.
    assert outputs["logits"].shape == outputs["probs"].shape
    assert len(outputs["features"]) == len(images)


@pytest.mark.parametrize(
    "views", [Views(turn=True), Views(mirror=True, turn=True, shift=0.125)], ids=str
)
def test_turned_views_are_inside(views):
    keras.utils.set_random_seed(7)
    pixels = keras.Input((HEIGHT, HEIGHT, 3))
    scaled = keras.layers.Flatten()(keras.layers.Rescaling(1 / 1275)(pixels))
    network = keras.Model(pixels, keras.layers.Dense(len(NAMES), activation="softmax")(scaled))
    square = ClassifierSpec(NAMES, HEIGHT, HEIGHT, 3, views=views)
    classifier = Classifier(network, square)
    images = np.stack([photo(HEIGHT, HEIGHT, seed) for seed in range(9)])
    wanted = classifier.predict_on_batch(images)
    assert np.abs(wanted - network.predict_on_batch(images)).max() > 0.01
    function = build_function(network, square)
    np.testing.assert_allclose(function(images)["probs"].numpy(), wanted, atol=1e-5)
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(to_onnx(function))
    (probs,) = session.run(["probs"], {"pixels": images})
    np.testing.assert_allclose(probs, wanted, atol=1e-5)


def test_convolutions_for_images_in_doubt_are_converted_too(network):
    onnxruntime = pytest.importorskip("onnxruntime")
    classifier = Classifier(network, spec(views=Views(mirror=True, shift=0.125)))
    images = np.stack([photo(HEIGHT, WIDTH, seed) for seed in range(9)])
    content = to_onnx(build_function(network, classifier.spec))
    session = onnxruntime.InferenceSession(content)
    for some in (images, images[:1]):
        (probs,) = session.run(["probs"], {"pixels": some})
        np.testing.assert_allclose(probs, classifier.predict_on_batch(some), atol=1e-5)


@pytest.fixture(scope="module")
def several(network):
    """The same network with a probability of its own for each class."""
    from convscope.models.sigmoid import with_sigmoid

    twin = keras.models.clone_model(network)
    twin.set_weights(network.get_weights())
    return with_sigmoid(twin)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": 0.4},
        {"views": Views(mirror=True, shift=0.125), "temperature": 2.0},
    ],
    ids=str,
)
def test_a_probability_of_its_own_for_each_class_is_inside(settings, several):
    made = spec(multi_label=True, thresholds=(0.5, 0.5, 0.5), **settings)
    classifier = Classifier(several, made)
    images = np.stack([photo(HEIGHT, WIDTH, seed) for seed in range(9)])
    outputs = build_function(several, made)(images)
    probs, temperature = outputs["probs"].numpy(), settings.get("temperature", 1.0)
    np.testing.assert_allclose(probs, classifier.predict_on_batch(images), atol=1e-5)
    logits = outputs["logits"].numpy().astype(np.float64)
    np.testing.assert_allclose(probs, 1 / (1 + np.exp(-logits / temperature)), atol=1e-5)


def test_logits_are_those_of_the_network_and_features_the_input_of_its_last_layer(network):
    images = np.stack([photo(HEIGHT, WIDTH, seed) for seed in range(3)])
    outputs = build_function(network, spec(temperature=3.0), any_size=False)(images)
    last = network.layers[-1]
    before = keras.Model(network.inputs[0], last.input)(images).numpy()
    np.testing.assert_allclose(outputs["features"].numpy(), before, atol=1e-5)
    logits = before @ last.kernel.numpy() + last.bias.numpy()
    np.testing.assert_allclose(outputs["logits"].numpy(), logits, atol=1e-5)


def test_steps_in_the_graph_are_not_done_again():
    class Fixed:
        calls = 0

        def predict_on_batch(self, images):
            self.calls += 1
            return np.tile(np.float32([0.5, 0.3, 0.2]), (len(images), 1))

    network = Fixed()
    inside = spec(views=Views(mirror=True), temperature=2.0, fit="crop", in_graph=STEPS)
    probs = Classifier(network, inside).predict_on_batch(np.zeros((2, 90, 20, 3), np.uint8))
    np.testing.assert_array_equal(probs[0], np.float32([0.5, 0.3, 0.2]))
    assert network.calls == 1


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.Normalization(mean=[3.0, 4, 5, 6], variance=[4.0, 9, 1, 0]),
        keras.layers.Normalization(mean=[3.0, 4, 5, 6], variance=[4.0, 9, 1, 2], invert=True),
        keras.layers.Conv2D(4, 3, groups=4, padding="same", bias_initializer="ones"),
        keras.layers.Conv2D(8, 3, groups=2, strides=2, use_bias=False, activation="relu"),
        keras.layers.Activation("gelu"),
    ],
    ids=["normalization", "inverse", "depthwise", "grouped", "gelu"],
)
def test_layers_in_plain_operations_are_those_of_keras(layer):
    from convscope.export._operations import plain_operation

    values = np.random.default_rng(3).normal(size=(2, 9, 8, 4)).astype(np.float32)
    expected = keras.ops.convert_to_numpy(layer(values))
    plain = plain_operation(layer)
    assert plain is not None
    np.testing.assert_allclose(plain(layer, values), expected, rtol=1e-5, atol=1e-5)
    assert plain_operation(keras.layers.Activation("relu")) is None


def test_the_distance_from_the_training_images_is_that_of_the_run():
    from convscope.classifier.familiarity import Familiarity
    from convscope.models.transfer import POOL

    keras.utils.set_random_seed(5)
    pixels = keras.Input((HEIGHT, WIDTH, 3))
    maps = keras.layers.Conv2D(24, 5, strides=3, activation="relu")(pixels / 255)
    pooled = keras.layers.GlobalAveragePooling2D(name=POOL)(maps)
    network = keras.Model(pixels, keras.layers.Dense(len(NAMES), activation="softmax")(pooled))
    images = np.stack([photo(HEIGHT, WIDTH, seed) for seed in range(60)])
    features = np.asarray(keras.Model(pixels, pooled)(images))
    known = Familiarity.of(features[:50])
    function = build_function(network, spec(), familiarity=known)
    found = function(images)["distance"].numpy()
    np.testing.assert_allclose(found, known.distances(features), rtol=1e-3)
    assert found.std() > 0.1
    assert "distance" not in build_function(network, spec())(images[:1])


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
@pytest.mark.parametrize("size", [(30, 200), (19, 23), (48, 64)])
def test_resized_pixels_are_rounded_as_the_decoder_rounds_them(fit, size):
    from convscope.export.graph import _resized

    # Noise: without rounding in between, every fifth pixel of it would be another; with weights in
    # float32, every fiftieth.
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    expected = np.asarray(resize(Image.fromarray(pixels), (HEIGHT, WIDTH), fit), dtype=np.float32)
    found = np.asarray(_resized(pixels[np.newaxis].astype(np.float32), spec(fit=fit)))[0]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("side", "sizes"), [(224, [(392, 512), (1050, 1920), (1024, 528)]), (96, [(273, 448)])]
)
def test_every_engine_pads_half_a_pixel_as_the_decoder_does(side, sizes):
    import tensorflow as tf

    from convscope.engines.onnxruntime import OnnxRuntimeSession
    from convscope.engines.openvino import OpenVinoSession
    from convscope.export.graph import _resized

    made = ClassifierSpec(NAMES, side, side, 1, fit="pad")
    resize = tf.function(
        lambda pixels: {"probs": tf.identity(_resized(tf.cast(pixels, tf.float32), made), "probs")},
        input_signature=[tf.TensorSpec((None, None, None, 1), tf.uint8, name="pixels")],
    )
    content = to_onnx(resize)
    engines = {"TensorFlow": lambda images: resize(images)["probs"].numpy()}
    if importlib.util.find_spec("onnxruntime") is not None:
        engines["ONNX Runtime"] = OnnxRuntimeSession(content).predict_on_batch
    if importlib.util.find_spec("openvino") is not None:
        engines["OpenVINO"] = OpenVinoSession(content).predict_on_batch
    for size in sizes:
        pixels = np.random.default_rng(0).integers(0, 256, (*size, 1), dtype=np.uint8)
        expected = decode_image(as_png(pixels[..., 0]), channels=1, size=(side, side), fit="pad")
        for name, engine in engines.items():
            found = engine(pixels[np.newaxis])[0]
            np.testing.assert_array_equal(found, expected, err_msg=f"{name}, {size}")
