"""Which steps of a LiteRT file become int8, and which stay in float32."""

from collections import Counter

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")
from tensorflow.lite.tools import flatbuffer_utils  # noqa: E402

from convscope.export.litert import _LiteRtSession  # noqa: E402
from convscope.export.litert_int8 import float_steps, quantized  # noqa: E402
from convscope.progress import Progress  # noqa: E402

SIZE = 8


def converter_of(tmp_path, kinds):
    """Return the converter of a network with such layers, classes, and a distance."""
    rng = np.random.default_rng(0)

    def weights(*shape):
        return tf.constant(rng.normal(size=shape).astype(np.float32))

    def classify(pixels):
        maps, before = tf.cast(pixels, tf.float32) / 255, None
        for kind in kinds:
            n = maps.shape[-1]
            if kind == "depthwise":
                maps = tf.nn.depthwise_conv2d(maps, weights(3, 3, n, 1), (1, 1, 1, 1), "SAME")
            else:
                maps = tf.nn.conv2d(maps, weights(3, 3, n, 4), 1, "SAME")
            before, maps = maps, tf.nn.relu(maps if before is None else maps + before)
        features = tf.reduce_mean(maps, axis=(1, 2))
        hidden = tf.nn.relu(tf.matmul(features, weights(4, 5)))
        along = tf.square(tf.matmul(features - 0.5, weights(4, 3)))
        return {
            "probs": tf.nn.softmax(tf.matmul(hidden, weights(5, 2)) / 1.5),
            "distance": tf.reduce_sum(along, axis=1),
        }

    signature = [tf.TensorSpec((None, SIZE, SIZE, 4), tf.uint8, name="pixels")]
    module = tf.Module()
    module.classify = tf.function(classify, input_signature=signature)
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": module.classify})
    return tf.lite.TFLiteConverter.from_saved_model(str(tmp_path))


def kinds_in(model, wanted):
    """Return how many steps of each kind have a result that `wanted(tensor)` is true of."""
    parsed = flatbuffer_utils.convert_bytearray_to_object(bytearray(model))
    (graph,) = parsed.subgraphs
    return Counter(
        flatbuffer_utils.opcode_to_name(parsed, step.opcodeIndex)
        for step in graph.operators
        if wanted(graph.tensors[step.outputs[0]])
    )


@pytest.mark.parametrize(
    ("kinds", "convolutions"),
    [
        (["full", "full", "full", "full"], {}),
        (["full", "depthwise", "full", "full"], {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 1}),
    ],
)
def test_layers_become_int8_but_for_those_of_classes_and_a_fragile_start(
    tmp_path, kinds, convolutions
):
    model = converter_of(tmp_path, kinds).convert()
    names = float_steps(model)
    stay = kinds_in(model, lambda tensor: tensor.name.decode() in names)
    layers = {kind: n for kind, n in stay.items() if "CONV" in kind}
    assert layers == convolutions
    assert stay["FULLY_CONNECTED"] == 1  # of the classes; not the hidden one, nor of the distance
    assert stay["SOFTMAX"] == stay["SQUARE"] == stay["CAST"] == 1
    between = len(kinds) - 1 - (2 if convolutions else 0)
    assert kinds_in(model, lambda tensor: True)["ADD"] - stay["ADD"] == between


def test_a_branch_may_only_hand_something_on(tmp_path):
    def classify(pixels):
        means = tf.reduce_mean(tf.cast(pixels, tf.float32), axis=(1, 2))
        doubtful = tf.reduce_min(means) < 9
        return {"probs": tf.cond(doubtful, lambda: tf.nn.softmax(means), lambda: means)}

    signature = [tf.TensorSpec((None, SIZE, SIZE, 4), tf.uint8, name="pixels")]
    module = tf.Module()
    module.classify = tf.function(classify, input_signature=signature)
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": module.classify})
    model = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path)).convert()
    parsed = flatbuffer_utils.convert_bytearray_to_object(bytearray(model))
    n_steps = [len(graph.operators or ()) for graph in parsed.subgraphs]
    assert min(n_steps) == 0
    assert len(float_steps(model)) == sum(n_steps)


@pytest.mark.filterwarnings(r"ignore:\s+Warning. tf.lite.Interpreter is deprecated")
def test_a_file_in_int8_answers_nearly_as_in_float32(tmp_path):
    images = np.random.default_rng(1).integers(0, 256, (64, SIZE, SIZE, 4), np.uint8)
    models = [
        converter_of(tmp_path, ["full"] * 4).convert(),
        quantized(converter_of(tmp_path, ["full"] * 4), images, Progress()),
    ]
    int8 = kinds_in(models[1], lambda tensor: tensor.type == 9)  # of the schema's TensorType
    assert int8["CONV_2D"] == 4
    assert int8["FULLY_CONNECTED"] == 2
    whole, small = (_LiteRtSession(each).outputs(images, ["probs", "distance"]) for each in models)
    assert 0 < np.abs(whole["probs"] - small["probs"]).mean() < 0.05
    np.testing.assert_allclose(small["distance"].mean(), whole["distance"].mean(), rtol=0.1)
