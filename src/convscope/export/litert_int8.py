"""Static quantisation of a LiteRT file to 8-bit integers, by TensorFlow's own tools.

Integers are the network's layers, convolutions and hidden dense ones, and all between them. What
comes before and after stays in float32: the scaling of pixels, statistics of feature maps, the
layer of the classes, softmax, views and temperature. TensorFlow would quantise those too, and so
round probabilities to multiples of 1/256, and distances from the training images to noise.

Where the second layer is depthwise, the first three stay in float32 too. With MobileNetV2 and 240
photos, 94 % kept their class with all in int8, 96 % with two in float32 and 99 % with three; with
EfficientNet-Lite0 95 % with none and 96 % with three, and probabilities moved half as far.
"""

from typing import Any

from convscope.backend import stderr_held_back
from convscope.engines import INPUT
from convscope.export.calibration import calibration_batches
from convscope.progress import Progress
from convscope.types import Images

_DENSE, _DEPTHWISE = "FULLY_CONNECTED", "DEPTHWISE_CONV_2D"
_LAYERS = ("CONV_2D", _DEPTHWISE, _DENSE)


def quantized(converter: Any, images: Images, progress: Progress) -> bytes:
    """Return a LiteRT file with int8 arithmetic, weights by channel.

    Args:
        converter: `tf.lite.TFLiteConverter` of the function.
        images: Training images, of the model's size.
        progress: Called with each batch.
    """
    import tensorflow as tf
    from tensorflow.lite.python.convert import mlir_quantize

    batches = calibration_batches(images, progress)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ({INPUT: batch} for batch in batches)
    # Calibrated and quantised apart: only so can steps be left out by name.
    converter._experimental_calibrate_only = True
    calibrated = converter.convert()
    with stderr_held_back():  # it prints its settings
        small: bytes = mlir_quantize(calibrated, denylisted_nodes=float_steps(calibrated))
    return small


def float_steps(model: bytes) -> list[str]:
    """Return the steps of a LiteRT file that stay in float32, by the names of their results.

    A dense layer that no other layer follows is that of the classes, and stays. Another such one,
    whose result is squared for the distance from the training images, holds a third of the weights
    of a frozen backbone, and becomes int8 by itself.

    Args:
        model: LiteRT file in float32.
    """
    from tensorflow.lite.tools import flatbuffer_utils

    parsed = flatbuffer_utils.convert_bytearray_to_object(bytearray(model))
    found = []
    for graph in parsed.subgraphs:  # the main one, and branches of conditions
        steps = list(graph.operators or ())  # a branch may only hand something on
        kinds = [flatbuffer_utils.opcode_to_name(parsed, step.opcodeIndex) for step in steps]
        makers = _makers(steps)
        before = _steps_before(makers)
        layers = [index for index, kind in enumerate(kinds) if kind in _LAYERS]
        fragile = layers[:3] if [kinds[index] for index in layers[1:2]] == [_DEPTHWISE] else []
        followed = set().union(*(before[index] for index in layers))
        inner = {index for index in layers if kinds[index] != _DENSE or index in followed}
        inner -= set(fragile)
        leading = set().union(*(before[index] for index in inner))
        between = {index for index in leading if before[index] & inner}
        squared = set().union(*(makers[i] for i, kind in enumerate(kinds) if kind == "SQUARE"))
        alone = {index for index in squared if kinds[index] == _DENSE}
        found += [
            graph.tensors[step.outputs[0]].name.decode()
            for index, step in enumerate(steps)
            if index not in inner | between | alone and _given(step.outputs)
        ]
    return found


def _makers(steps: list[Any]) -> list[set[int]]:
    """Return for each step of a graph those whose results it takes."""
    maker = {result: index for index, step in enumerate(steps) for result in _given(step.outputs)}
    return [{maker[each] for each in _given(step.inputs) if each in maker} for step in steps]


def _given(places: Any) -> list[int]:
    return [] if places is None else list(places)


def _steps_before(makers: list[set[int]]) -> list[set[int]]:
    """Return for each step of a graph those that it depends on, directly or not."""
    before: list[set[int]] = []
    for direct in makers:
        before.append(direct.union(*(before[index] for index in direct)))
    return before
