import json

import keras
import numpy as np
import pytest
from keras.src.applications import imagenet_utils
from PIL import Image

from convscope.errors import ConfigError
from convscope.models.preprocessing import SCALINGS, preprocessing_layers
from convscope.types import InputSpec

SIZES = [
    ((50, 37), (32, 32)),  # smaller
    ((20, 21), (32, 40)),  # larger
    ((100, 20), (32, 32)),  # smaller in one direction, larger in the other
    ((9, 300), (64, 48)),
]


def picture(height: int, width: int, channels: int = 3) -> np.ndarray:
    """Blocks of colour with sharp edges, the hardest case for resampling."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (height // 4 + 1, width // 4 + 1, channels))
    return np.kron(coarse, np.ones((4, 4, 1)))[:height, :width].astype("uint8")


def array(tensor) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor)


def run(spec: InputSpec, images: np.ndarray) -> np.ndarray:
    x = images
    for layer in preprocessing_layers(spec):
        x = layer(x)
    return array(x)


@pytest.mark.parametrize(("before", "after"), SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_resizes_like_pillow(before, after, channels):
    image = picture(*before, channels)
    ours = run(InputSpec(*after, channels, "none"), image[None])[0]
    pillow = Image.fromarray(image.squeeze()).resize(after[::-1], Image.Resampling.BILINEAR)
    # Pillow rounds twice, after the rows and after the columns; half a level each time.
    assert np.abs(ours - np.asarray(pillow).reshape(ours.shape)).max() <= 1.0


@pytest.mark.parametrize(("before", "after"), SIZES)
def test_resizes_like_keras_own_layer(before, after):
    image = picture(*before)[None]
    ours = run(InputSpec(*after, 3, "none"), image)
    stock = keras.layers.Resizing(*after, antialias=True, dtype="float32")
    theirs = keras.ops.convert_to_numpy(stock(image.astype("float32")))
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_an_image_of_the_right_size_passes_untouched(dtype):
    image = np.arange(256, dtype=dtype).reshape(1, 16, 16, 1)
    if dtype == "float32":
        image += 0.3
    seen = run(InputSpec(16, 16, 1, "none"), image)
    assert seen.dtype == np.float32
    np.testing.assert_array_equal(seen, image.astype("float32"))


def test_unit_scaling_gives_zero_to_one():
    image = np.array([0, 51, 255, 128], dtype="uint8").reshape(1, 2, 2, 1)
    seen = run(InputSpec(2, 2, 1), image).ravel()
    np.testing.assert_allclose(seen, [0.0, 0.2, 1.0, 128 / 255], rtol=1e-6)


def test_uint8_and_float_pixels_mean_the_same():
    image = picture(50, 37)[None]
    spec = InputSpec(32, 32, 3)
    np.testing.assert_array_equal(run(spec, image), run(spec, image.astype("float32")))


def test_half_precision_policy_does_not_round_the_pixels():
    image = picture(50, 37)[None]
    spec = InputSpec(32, 32, 3)
    full = run(spec, image)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = run(spec, image)
    finally:
        keras.config.set_dtype_policy(before)
    assert mixed.dtype == np.float32
    np.testing.assert_array_equal(mixed, full)


def as_plain_keras_loads_it(height, width, channels):
    """The resizing as it is in a file: operations of Keras, without the shorter ways."""
    layer = preprocessing_layers(InputSpec(height, width, channels, "none"))[0]
    config = json.dumps(keras.saving.serialize_keras_object(layer))
    return keras.saving.deserialize_keras_object(json.loads(config))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        *SIZES,
        ((32, 48), (32, 48)),  # as it is
        ((33, 31), (32, 32)),  # by a single pixel
        ((1, 1), (5, 7)),
        ((375, 500), (224, 224)),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_as_saved_it_resizes_as_in_training(before, after, channels):
    pixels = np.stack([picture(*before, channels), 255 - picture(*before, channels)])
    ours = run(InputSpec(*after, channels, "none"), pixels)
    saved = as_plain_keras_loads_it(*after, channels)
    for images in (pixels, pixels.astype("float32")):
        np.testing.assert_allclose(array(saved(images)), ours, atol=1e-2)
        np.testing.assert_allclose(saved.predict_on_batch(images), ours, atol=1e-2)
    if before == after:
        np.testing.assert_array_equal(array(saved(pixels)), pixels)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="compares with TensorFlow")
@pytest.mark.parametrize(("before", "after"), SIZES)
def test_as_saved_it_is_tensorflows_resizing_to_float_rounding(before, after):
    image = picture(*before)[None].astype("float32")
    theirs = keras.ops.image.resize(image, after, antialias=True)
    np.testing.assert_allclose(as_plain_keras_loads_it(*after, 3)(image), theirs, atol=2e-4)


def test_as_saved_it_takes_a_batch_without_images():
    assert as_plain_keras_loads_it(8, 9, 3)(np.zeros((0, 20, 5, 3), "uint8")).shape == (0, 8, 9, 3)


def test_as_saved_a_half_precision_policy_does_not_round_the_pixels():
    image = picture(50, 37)[None]
    full = array(as_plain_keras_loads_it(32, 32, 3)(image))
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = array(as_plain_keras_loads_it(32, 32, 3)(image))
    finally:
        keras.config.set_dtype_policy(before)
    assert mixed.dtype == np.float32
    np.testing.assert_array_equal(mixed, full)


def test_none_scaling_adds_no_layer():
    assert [layer.name for layer in preprocessing_layers(InputSpec(8, 8, 3, "none"))] == ["resize"]
    assert [layer.name for layer in preprocessing_layers(InputSpec(8, 8, 3, "unit"))] == [
        "resize",
        "rescale",
    ]


def test_an_unknown_scaling_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"'units'.*none, tf, torch, unit"):
        preprocessing_layers(InputSpec(8, 8, 3, "units"))
    assert sorted(SCALINGS) == ["caffe", "lite", "none", "tf", "torch", "unit"]


@pytest.mark.parametrize("name", ["tf", "torch", "caffe"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_the_scalings_of_keras_applications_are_keras_own(name, dtype):
    image = picture(24, 20)[None]
    theirs = imagenet_utils.preprocess_input(image.astype("float32"), mode=name)
    ours = run(InputSpec(24, 20, 3, name), image.astype(dtype))
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_one_pixel_by_hand():
    pixel = np.array([255, 0, 51], dtype="uint8").reshape(1, 1, 1, 3)  # red, green, blue
    expected = {
        "tf": [1.0, -1.0, -0.6],
        "torch": [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0.2 - 0.406) / 0.225],
        "caffe": [51 - 103.939, 0 - 116.779, 255 - 123.68],  # blue first
    }
    for name, seen in expected.items():
        np.testing.assert_allclose(
            run(InputSpec(1, 1, 3, name), pixel).ravel(), seen, rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("name", ["tf", "torch", "caffe"])
def test_scalings_are_resized_first_and_keep_full_precision(name):
    image = picture(50, 37)[None]
    spec = InputSpec(32, 40, 3, name)
    resized = run(InputSpec(32, 40, 3, "none"), image)
    theirs = imagenet_utils.preprocess_input(resized.copy(), mode=name)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        ours = run(spec, image)
    finally:
        keras.config.set_dtype_policy(before)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", sorted(SCALINGS))
def test_plain_keras_reloads_every_scaling(name, tmp_path):
    inputs = x = keras.Input((None, None, 3), dtype="float32")
    for layer in preprocessing_layers(InputSpec(16, 16, 3, name)):
        x = layer(x)
    model = keras.Model(inputs, x)
    model.save(tmp_path / "scaling.keras")
    again = keras.saving.load_model(tmp_path / "scaling.keras")
    image = picture(30, 20)[None].astype("float32")
    found, expected = map(array, (again(image), model(image)))
    np.testing.assert_allclose(found, expected, atol=1e-2)


@pytest.mark.parametrize("name", ["torch", "caffe"])
def test_a_scaling_by_colour_refuses_grey_images(name):
    with pytest.raises(ConfigError, match=f"'{name}' is for images with 3 channels"):
        preprocessing_layers(InputSpec(8, 8, 1, name))


def test_a_scaling_that_is_the_same_for_all_colours_takes_grey_images():
    image = np.array([0, 255], dtype="uint8").reshape(1, 1, 2, 1)
    assert run(InputSpec(1, 2, 1, "tf"), image).ravel().tolist() == [-1.0, 1.0]


def test_an_impossible_size_is_refused():
    with pytest.raises(ConfigError, match="0x8"):
        preprocessing_layers(InputSpec(0, 8, 3))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="looks at TensorFlow graphs")
class TestTensorFlowGraph:
    """What runs when the layers are traced into a graph, as in training and in an export."""

    @staticmethod
    def traced(size, spec):
        import tensorflow as tf

        layer = preprocessing_layers(spec)[0]
        signature = [tf.TensorSpec((None, *size, 3), tf.uint8)]
        function = tf.function(lambda x: layer(x), input_signature=signature)
        operations = {op.type for op in function.get_concrete_function().graph.get_operations()}
        return function, operations

    def test_the_right_size_costs_nothing(self):
        _, operations = self.traced((32, 32), InputSpec(32, 32, 3))
        assert not operations & {"ScaleAndTranslate", "ResizeBilinear", "MatMul", "Cumsum"}

    def test_enlarging_takes_the_short_way(self):
        _, operations = self.traced((16, 32), InputSpec(32, 32, 3))
        assert "ResizeBilinear" in operations
        assert "ScaleAndTranslate" not in operations

    def test_shrinking_is_antialiased(self):
        _, operations = self.traced((64, 32), InputSpec(32, 32, 3))
        assert "ScaleAndTranslate" in operations

    def test_sizes_may_be_unknown_until_it_runs(self):
        function, operations = self.traced((None, None), InputSpec(32, 32, 3))
        # Other engines have no ScaleAndTranslate; they have products of matrices.
        assert "MatMul" in operations
        # Of a stack of matrices and a matrix, the product can corrupt TensorFlow's memory.
        assert not operations & {"ScaleAndTranslate", "BatchMatMul", "BatchMatMulV2"}
        layer = preprocessing_layers(InputSpec(32, 32, 3))[0]
        for size in [(32, 32), (50, 37), (20, 21)]:
            image = picture(*size)[None]
            np.testing.assert_allclose(function(image), layer(image), atol=1e-3)
        exact = picture(32, 32)[None]
        np.testing.assert_array_equal(function(exact), exact)
