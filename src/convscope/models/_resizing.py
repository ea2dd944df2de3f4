"""Resizing at the start of a model: plain operations in its file, and no work where none is needed.

Keras' own Resizing layer is not used. It treats a plain call, `model(x)`, as training and passes
that on to all later layers: BatchNorm would then use the statistics of the batch, and update its
own. Nor can its operation (TensorFlow's ScaleAndTranslate) be converted to other engines.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops

from convscope.models.structure import RESIZE


def build_resizing(height: int, width: int, channels: int) -> keras.Model:
    """Return a model that resizes images; in another model, it is a single step.

    It is bilinear and antialiased. As a graph it is two matrix products, over rows and over
    columns, of plain operations on the size of the images; so any Keras loads its file, and other
    engines can run it. If the size is known when the graph is traced, as in training and
    prediction, the shortcuts of `with_shortcuts` are used.

    Args:
        height: Number of output rows.
        width: Number of output columns.
        channels: Channels of the images.

    Returns:
        A model from pixels (batch, any height, any width, channels), uint8 or float, to float32
        images (batch, height, width, channels) in the same range.
    """
    pixels = keras.Input((None, None, channels), dtype="float32", name="raw")
    # Slices, not indices: they also accept a batch without images.
    rows = _weights(ops.sum(ops.ones_like(pixels[:1, :, :1, :1]), axis=(0, 2, 3)), height)
    columns = _weights(ops.sum(ops.ones_like(pixels[:1, :1, :, :1]), axis=(0, 1, 3)), width)
    # With `dot`, which lays out all lines as one matrix. With `matmul` they are a stack of them,
    # and TensorFlow's product of a stack and a matrix writes past its memory on CPUs (2.20 and
    # 2.21, with oneDNN).
    lines = ops.transpose(pixels, (0, 3, 2, 1))  # (batch, channels, columns, rows)
    lines = ops.dot(lines, rows)  # (batch, channels, columns, height)
    lines = ops.transpose(lines, (0, 1, 3, 2))  # (batch, channels, height, columns)
    planes = ops.dot(lines, columns)  # (batch, channels, height, width)
    images = ops.transpose(planes, (0, 2, 3, 1))  # (batch, height, width, channels)
    return with_shortcuts(keras.Model(pixels, images, name=RESIZE))


def with_shortcuts(resizing: keras.Model) -> keras.Model:
    """Let a resizing model skip needless work where the size of the images is known.

    Its graph, and so its saved file, stays as it is.

    Args:
        resizing: Model from `build_resizing`, perhaps reloaded from a file; changed in place.
    """
    whole = resizing.call
    height, width = resizing.output_shape[1:3]

    def call(images: Any, **context: Any) -> Any:
        # A side that is unknown while tracing is None in TensorFlow and a symbol in JAX.
        known = isinstance(images.shape[1], int) and isinstance(images.shape[2], int)
        return _resized(images, height, width) if known else whole(images, **context)

    resizing.call = call
    return resizing


@contextmanager
def resizing_to(resizing: keras.Model, height: int, width: int) -> Iterator[None]:
    """Let a resizing model work at another size in what is traced meanwhile.

    Args:
        resizing: Model from `build_resizing`.
        height: Number of output rows.
        width: Number of output columns.
    """
    usual = resizing.call
    resizing.call = lambda images, **context: _resized(images, height, width)
    try:
        yield
    finally:
        resizing.call = usual


def _resized(images: Any, height: int, width: int) -> Any:
    # Integer pixels are cast first: resized values are fractions and must not be rounded.
    images = ops.cast(images, "float32")
    rows, columns = images.shape[1], images.shape[2]
    if (rows, columns) == (height, width):
        return images
    # When an image is enlarged, the antialiasing filter changes nothing and would take time.
    growing = rows <= height and columns <= width
    return ops.image.resize(
        images,
        (height, width),
        interpolation="bilinear",
        antialias=not growing,
        data_format="channels_last",
    )


def _weights(ones: Any, n_out: int) -> Any:
    """Return the weight of each input pixel of a line in each output pixel.

    Args:
        ones: A one for each input pixel, shape (n_in,); n_in may be unknown while tracing.
        n_out: Number of output pixels.

    Returns:
        Shape (n_in, n_out), columns sum to 1: a triangle around the position of each output pixel,
        one input pixel wide on either side or, where the line shrinks, one output pixel.
    """
    # In this order of divisions the positions are those of TensorFlow's antialiased resizing.
    step = 1.0 / (n_out / ops.sum(ones))
    centres = ops.multiply(np.arange(n_out, dtype="float32") + 0.5, step) - 0.5
    places = ops.expand_dims(ops.cumsum(ones) - 1.0, axis=1)
    distances = ops.abs(centres - places)  # (n_in, n_out)
    weights = ops.relu(1.0 - distances / ops.maximum(step, 1.0))
    return weights / ops.sum(weights, axis=0, keepdims=True)
