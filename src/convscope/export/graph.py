"""Graph of an exported classifier: raw pixels of any size in, final probabilities out.

Resizing, views and temperature, which in convscope are steps around the network, are inside. There
is no conditional in it around the resizing: OpenVINO 2026.4 gives wrong answers for one.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from convscope.classifier.familiarity import Familiarity
from convscope.classifier.spec import ClassifierSpec
from convscope.classifier.views import DOUBT, moved_indices, reach_of
from convscope.engines import INPUT
from convscope.export._operations import plain_operation
from convscope.images.fit import PADDING
from convscope.images.orientation import MIRRORED
from convscope.models.structure import (
    as_functional,
    ends_in_sigmoid,
    ends_in_softmax,
    inner_model,
    is_resizing,
    logits_of_softmax,
    run_graph,
)
from convscope.models.transfer import POOL

if TYPE_CHECKING:
    import keras

Tensor = Any
"""Tensor of TensorFlow."""

_TINY = np.finfo(np.float32).tiny
_HALF = 2.0**11
"""Weight of the upper half of the 22 digits that Pillow's weights have, in units of the lower."""
_MOST = np.float32(1) - np.finfo(np.float32).epsneg


def build_function(
    network: "keras.Model",
    spec: ClassifierSpec,
    *,
    any_size: bool = True,
    familiarity: Familiarity | None = None,
) -> Any:
    """Return a classifier as one function of TensorFlow.

    It takes uint8 images of shape (batch, height, width, channels) and returns a dictionary with
    the tensors of `engines.OUTPUTS`, all of float32.

    Args:
        network: Network from pixels to probabilities, on TensorFlow.
        spec: Spec of the classifier.
        any_size: Whether it takes images of any size, not only that of the spec.
        familiarity: What the features of the training images have in common, for the output
            "distance"; None for a graph without it.
    """
    import tensorflow as tf

    size = (None, None) if any_size else (spec.height, spec.width)
    signature = [tf.TensorSpec((None, *size, spec.channels), tf.uint8, name=INPUT)]

    def classify(pixels: Tensor) -> dict[str, Tensor]:
        images = tf.cast(pixels, tf.float32)
        if any_size:
            images = _resized(images, spec)
        outputs = _outputs(network, images, spec)
        probs = outputs["probs"]
        if spec.temperature != 1:
            probs = _calibrated(outputs["logits"], spec)
        # Each with a name of its own, which converters keep.
        found = {"probs": probs, "logits": outputs["logits"], "features": outputs["features"]}
        if familiarity is not None:
            found["distance"] = _distance(outputs["pooled"], familiarity)
        return {name: tf.identity(value, name=name) for name, value in found.items()}

    return tf.function(classify, input_signature=signature)


def _logits(probs: Tensor, spec: ClassifierSpec) -> Tensor:
    """Return logits of probabilities; those of a softmax up to a number for each image."""
    import tensorflow as tf

    if spec.multi_label:
        probs = tf.clip_by_value(probs, _TINY, _MOST)
        return tf.math.log(probs) - tf.math.log(1 - probs)
    return tf.math.log(tf.maximum(probs, _TINY))


def _calibrated(logits: Tensor, spec: ClassifierSpec) -> Tensor:
    """Return probabilities at the temperature, of logits in the limits that `_logits` has.

    Not by way of those at 1, which LiteRT in int8 rounds to 256 levels.
    """
    import tensorflow as tf

    lowest = np.log(_TINY)
    if spec.multi_label:
        highest = np.log(_MOST) - np.log(1 - _MOST)
        return tf.math.sigmoid(tf.clip_by_value(logits, lowest, highest) / spec.temperature)
    below = logits - tf.reduce_max(logits, axis=1, keepdims=True)
    return tf.nn.softmax(tf.maximum(below, lowest) / spec.temperature)


def _plain_probs(logits: Tensor, spec: ClassifierSpec) -> Tensor:
    """Return probabilities in plain operations, as LiteRT in int8 rounds those of its own."""
    import tensorflow as tf

    if spec.multi_label:
        return 1 / (1 + tf.exp(-logits))
    shares = tf.exp(logits - tf.reduce_max(logits, axis=1, keepdims=True))
    return shares / tf.reduce_sum(shares, axis=1, keepdims=True)


def _resized(images: Tensor, spec: ClassifierSpec) -> Tensor:
    """Return images of the size of the spec, (batch, height, width, channels), float32.

    As `images.fit.resize`: Pillow's BILINEAR, which averages when it shrinks, with weights that
    are fixed-point numbers, and rounds columns and then rows to whole numbers.
    """
    import tensorflow as tf

    height, width = spec.height, spec.width
    batch, rows, columns = (tf.shape(images)[axis] for axis in range(3))
    fits = tf.logical_and(tf.equal(rows, height), tf.equal(columns, width))
    # One of the two ways gets all images and the other an empty batch, whose arithmetic costs
    # nothing. Only the batch is empty: in ONNX, a length of 0 in a shape may mean another one.
    other = tf.cast(tf.logical_not(fits), tf.int32)
    some = images[: batch * other, : tf.maximum(rows * other, 1), : tf.maximum(columns * other, 1)]
    same = images[batch * other :]
    # Without images it may have another size.
    same = tf.reshape(same, (batch - batch * other, height, width, spec.channels))
    return tf.concat([_fitted(some, spec), same], axis=0)


def _fitted(images: Tensor, spec: ClassifierSpec) -> Tensor:
    """Return images of any size fitted to that of the spec, as `images.fit.resize` does."""
    import tensorflow as tf

    size = (spec.height, spec.width)
    lengths = [tf.cast(tf.shape(images)[axis], tf.float32) for axis in (1, 2)]
    positions = [tf.constant(np.arange(n_out, dtype=np.float32)) for n_out in size]
    if spec.fit == "squash":
        whole = map(_whole_line, lengths, positions, map(float, size))
        return _resized_by(images, *map(_fixed_point, whole), product=_fixed_point_product)
    if spec.fit == "crop":
        part = _middle(lengths, size)
        return _resized_by(images, *map(_fixed_point, part), product=_fixed_point_product)
    weights, within = [], []
    shape = tf.shape(images)
    inner_rows = _inner_length(shape[1], size[0], shape[2], size[1])
    inner_columns = _inner_length(shape[2], size[1], shape[1], size[0])
    inners = [tf.cast(inner, tf.float32) for inner in (inner_rows, inner_columns)]
    for n_in, n_out, places, inner in zip(lengths, size, positions, inners, strict=True):
        bar = tf.floor((n_out - inner) / 2)
        inside = tf.cast((places >= bar) & (places < bar + inner), tf.float32)
        weights.append(_fixed_point(_whole_line(n_in, places - bar, inner)) * inside)
        within.append(inside)
    covered = within[0][:, tf.newaxis] * within[1]  # (height, width)
    resized = _resized_by(images, *weights, product=_fixed_point_product)
    return resized + PADDING * (1 - covered)[:, :, tf.newaxis]


def _inner_length(n_in: Tensor, n_out: int, other_in: Tensor, other_out: int) -> Tensor:
    """Return the number of pixels between the bars of a padded line, as `images.fit.inner_size`.

    In whole numbers, int32: OpenVINO has no float64, and 392 x 512 pixels are 171.5 x 224.

    Args:
        n_in: Length of the input along this axis.
        n_out: Length of the output.
        other_in: Length of the input along the other axis.
        other_out: Length of the output along the other axis.
    """
    import tensorflow as tf

    wanted = n_in * other_out
    whole = wanted // other_in
    twice_rest = 2 * (wanted - whole * other_in)
    odd = whole - whole // 2 * 2
    # Halves to the even number: of those, an odd one is rounded up.
    up = tf.cast(twice_rest + odd > other_in, tf.int32)
    return tf.clip_by_value(whole + up, 1, n_out)


def _squashed(images: Tensor, height: int, width: int) -> Tensor:
    """Return images resized by a step inside the network, (batch, height, width, channels)."""
    import tensorflow as tf

    rows, columns = images.shape[1:3]
    if (rows, columns) == (height, width):
        return images
    lengths = (tf.constant(float(rows)), tf.constant(float(columns)))
    return _resized_by(images, *map(_weights, lengths, (height, width)))


def _resized_by(
    images: Tensor,
    rows: Tensor,
    columns: Tensor,
    *,
    product: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    """Return images resized by the weights of their rows and columns, in plain operations.

    Args:
        images: Shape (batch, n_rows, n_columns, channels).
        rows: Weights of the rows, shape (n_rows, height).
        columns: Weights of the columns, shape (n_columns, width).
        product: Product of lines and weights; None takes `_product`.
    """
    import tensorflow as tf

    product = product or _product
    lines = tf.transpose(images, (0, 3, 1, 2))  # (batch, channels, rows, columns)
    lines = product(lines, columns)  # (batch, channels, rows, width)
    lines = tf.transpose(lines, (0, 1, 3, 2))  # (batch, channels, width, rows)
    planes = product(lines, rows)  # (batch, channels, width, height)
    return tf.transpose(planes, (0, 3, 2, 1))


def _fixed_point_product(lines: Tensor, weights: Tensor) -> Tensor:
    """Return lines of whole numbers, 0..255, times weights of `_fixed_point`, in whole numbers.

    Float32 has every whole number to 2^24 only, so the upper and the lower half of the weights'
    digits go separate ways, one of which carries over to the other at the end.
    """
    import tensorflow as tf

    upper = tf.floor(weights / _HALF + 0.5)
    both = tf.concat([upper, weights - _HALF * upper], axis=1)
    upper, lower = tf.split(_product(lines, both), 2, axis=3)
    whole = tf.floor(upper / _HALF)
    rest = (upper - _HALF * whole) * _HALF + lower
    return whole + tf.floor(rest / _HALF**2 + 0.5)


def _fixed_point(weights: Tensor) -> Tensor:
    """Return weights as Pillow has them: multiples of 2^-22, those of an output pixel sum to 1.

    Args:
        weights: Shape (n_in, n_out), of any sum: whole numbers in float32, or float64.

    Returns:
        Whole numbers, shape (n_in, n_out), float32.

    References:
        Pillow, `src/libImaging/Resample.c`.
    """
    import tensorflow as tf

    # Outside of the input they are all 0.
    sums = tf.maximum(tf.reduce_sum(weights, axis=0, keepdims=True), _TINY)
    # In two steps, as by hand: with the digits of float32 alone, every tenth would be another.
    upper = tf.floor(weights * _HALF / sums)
    rest = weights * _HALF - upper * sums
    lower = tf.floor(rest * _HALF / sums + 0.5)
    return tf.cast(upper * _HALF + lower, tf.float32)


def _whole_line(n_in: Tensor, positions: Tensor, n_out: Tensor | float) -> Tensor:
    """Return the weights of the pixels of a line that is resized as a whole, up to a factor.

    Args:
        n_in: Number of input pixels, at least 1, as a float.
        positions: Positions of output pixels, from 0, shape (n_positions,).
        n_out: Number of output pixels of the whole line.

    Returns:
        Whole numbers, shape (n_in, n_positions), float32.
    """
    import tensorflow as tf

    # Distances of centres in units that make them whole numbers: without an error of rounding.
    centres = (2 * positions + 1) * n_in
    places = (2 * tf.range(n_in)[:, tf.newaxis] + 1) * n_out
    return tf.nn.relu(2 * tf.maximum(n_in, n_out) - tf.abs(centres - places))


def _middle(lengths: list[Tensor], size: tuple[int, int]) -> list[Tensor]:
    """Return the weights of rows and columns where only the middle of an image is resized.

    Args:
        lengths: Numbers of input rows and columns, as floats.
        size: Numbers of output rows and columns.

    Returns:
        Shape (n_in, n_out) each, float64, up to a factor.
    """
    import tensorflow as tf

    exact = [tf.cast(n_in, tf.float64) for n_in in lengths]
    scale = tf.minimum(*(n_in / n_out for n_in, n_out in zip(exact, size, strict=True)))
    found = []
    for n_in, n_out in zip(exact, size, strict=True):
        left = tf.maximum(tf.constant(0.0, tf.float64), (n_in - scale * n_out) / 2)
        # Pillow keeps both ends in float32.
        start, end = (tf.cast(tf.cast(x, tf.float32), tf.float64) for x in (left, n_in - left))
        step = (end - start) / n_out
        centres = start + tf.constant(np.arange(n_out) + 0.5) * step
        places = tf.range(n_in)[:, tf.newaxis] + 0.5
        reach = tf.maximum(step, 1.0)
        found.append(tf.nn.relu(1 - tf.abs(centres - places) / reach))
    return found


def _product(lines: Tensor, weights: Tensor) -> Tensor:
    """Return lines of shape (batch, channels, n_lines, n_in) times weights (n_in, n_out).

    As one matrix: TensorFlow's product of a stack and a matrix is wrong on CPUs; see
    `models._resizing`.
    """
    import tensorflow as tf

    batch, n_lines, n_in = (tf.shape(lines)[axis] for axis in (0, 2, 3))
    channels, n_out = lines.shape[1], weights.shape[1]
    flat = tf.matmul(tf.reshape(lines, (batch * channels * n_lines, n_in)), weights)
    return tf.reshape(flat, (batch, channels, n_lines, n_out))


def _weights(n_in: Tensor, n_out: int) -> Tensor:
    """Return the weight of each input pixel of a line in each output pixel.

    Args:
        n_in: Number of input pixels, at least 1, as a float.
        n_out: Number of output pixels.

    Returns:
        Shape (n_in, n_out), columns sum to 1; see `models._resizing`, which does the same.
    """
    import tensorflow as tf

    step = 1.0 / (n_out / n_in)
    centres = tf.constant(np.arange(n_out, dtype=np.float32) + 0.5) * step - 0.5
    places = tf.range(n_in)[:, tf.newaxis]
    weights = tf.nn.relu(1.0 - tf.abs(centres - places) / tf.maximum(step, 1.0))
    return weights / tf.reduce_sum(weights, axis=0, keepdims=True)


def _outputs(network: "keras.Model", images: Tensor, spec: ClassifierSpec) -> dict[str, Tensor]:
    """Return the outputs of a network, averaged over views as `classifier.views` does."""
    import tensorflow as tf

    views = spec.views
    if not views.several:
        return _run(network, images, spec)

    def all_ways(frames: Tensor) -> tuple[Tensor, Tensor]:
        ways = views.orientations
        if len(ways) == 1:
            found = _run(network, frames, spec)
            return _plain_probs(found["logits"], spec), found["features"]
        n_frames = tf.shape(frames)[0]
        found = _run(network, tf.concat([_turned(frames, way) for way in ways], axis=0), spec)
        probs = _plain_probs(found["logits"], spec)
        mean = tf.reduce_mean(tf.reshape(probs, (len(ways), n_frames, probs.shape[1])), axis=0)
        return mean, found["features"][:n_frames]

    probs, features = all_ways(images)
    reach = reach_of(views, (spec.height, spec.width))
    if any(reach):
        if spec.multi_label:
            doubtful = tf.reduce_min(tf.abs(2 * probs - 1), axis=1) < DOUBT
        else:
            second_and_first = tf.math.top_k(probs, 2).values
            doubtful = second_and_first[:, 0] - second_and_first[:, 1] < DOUBT

        def with_shifts() -> Tensor:
            rows = tf.where(doubtful)  # (n_doubtful, 1)
            some = tf.gather_nd(images, rows)
            some = tf.ensure_shape(some, (None, spec.height, spec.width, spec.channels))
            frames = [_moved(some, -reach[0], -reach[1]), _moved(some, *reach)]
            moved, _ = all_ways(tf.concat(frames, axis=0))
            n_doubtful = tf.shape(rows)[0]
            there, back = moved[:n_doubtful], moved[n_doubtful:]
            mean = tf.gather_nd(probs, rows) / 2 + (there + back) / 4
            return tf.tensor_scatter_nd_update(probs, rows, mean)

        probs = tf.cond(tf.reduce_any(doubtful), with_shifts, lambda: probs)
    return {
        "probs": probs,
        "logits": _logits(probs, spec),
        "features": features,
    }


def _distance(pooled: Tensor, known: Familiarity) -> Tensor:
    """Return what `Familiarity.distances` does, shape (batch,), float32."""
    import tensorflow as tf

    away = (pooled - tf.constant(known.centre)) * tf.constant(known.scale)
    along = tf.square(tf.matmul(away, tf.constant(known.axes)))
    others = tf.reduce_sum(tf.square(away), axis=1) - tf.reduce_sum(along, axis=1)
    total = tf.reduce_sum(along / tf.constant(known.variances), axis=1)
    return (total + tf.maximum(others, 0.0) / known.rest) / len(known.centre)


def _turned(images: Tensor, way: int) -> Tensor:
    """Return images in another orientation, as `images.orientation.turn` does."""
    import tensorflow as tf

    if way >= MIRRORED:
        images = tf.reverse(images, [2])
    match way % 4:
        case 1:
            return tf.transpose(tf.reverse(images, [2]), (0, 2, 1, 3))
        case 2:
            return tf.reverse(images, [1, 2])
        case 3:
            return tf.reverse(tf.transpose(images, (0, 2, 1, 3)), [2])
    return images


def _moved(images: Tensor, rows: int, columns: int) -> Tensor:
    """Return images moved by whole pixels; mirrored at the edges."""
    import tensorflow as tf

    height, width = images.shape[1:3]
    images = tf.gather(images, moved_indices(height, rows), axis=1)
    return tf.gather(images, moved_indices(width, columns), axis=2)


def _run(network: "keras.Model", images: Tensor, spec: ClassifierSpec) -> dict[str, Tensor]:
    """Run a network in inference; return the outputs of `engines.OUTPUTS` for the images."""
    import keras
    import tensorflow as tf

    found: dict[str, Tensor] = {}

    def walk(graph: "keras.Model", inputs: list[Tensor]) -> Tensor:
        def visit(operation: Any, args: Any, kwargs: Any) -> Tensor:
            inner = inner_model(operation)
            if inner is not None:
                return walk(inner, [x for x in keras.tree.flatten(args) if tf.is_tensor(x)])
            if is_resizing(operation):
                return _squashed(tf.cast(args[0], tf.float32), *operation.output.shape[1:3])
            plain = plain_operation(operation)
            if plain is not None:
                return plain(operation, args[0])
            if isinstance(operation, keras.layers.Dense):
                found["features"] = args[0]
            if ends_in_softmax(operation):
                found["logits"] = tf.cast(logits_of_softmax(operation, args[0]), tf.float32)
                return tf.nn.softmax(found["logits"])
            if spec.multi_label and ends_in_sigmoid(operation):
                # Of several, the last one is that of the classes.
                found["logits"] = tf.cast(logits_of_softmax(operation, args[0]), tf.float32)
            output = operation(*args, **kwargs)
            if operation.name == POOL:
                found["pooled"] = output
            return output

        return run_graph(graph, inputs, visit)

    probs = walk(as_functional(network), [images])
    found.setdefault("logits", _logits(probs, spec))
    return {"features": found["logits"], **found, "probs": probs}
