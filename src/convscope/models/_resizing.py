"""Resizing at the start of a model: plain operations in its file, and no work where none is needed.

Keras' own Resizing layer is not used. It takes a plain call, `model(x)`, for training and says so
to all layers behind it: BatchNorm would then answer by the statistics of the batch, and change its
own. Nor can its operation (TensorFlow's ScaleAndTranslate) be converted to other engines.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from convscope.models.structure import RESIZE


def build_resizing(height: int, width: int, channels: int) -> keras.Model:
    """Return a model that resizes images; in another model, it is one step of it.

    It is bilinear and antialiased. As a graph it is two products with matrices, of rows and of
    columns, made by plain operations from the size of the images; so any Keras loads its file, and
    other engines can run it. Where the size is known when the graph is traced, as in training and
    prediction, the shorter ways of `with_shortcuts` are taken.

    Args:
        height: Rows that come out.
        width: Columns that come out.
        channels: Of the images.

    Returns:
        A model from pixels (batch, any height, any width, channels), uint8 or float, to float32
        images (batch, height, width, channels) in the same range.
    """
    pixels = keras.Input((None, None, channels), dtype="float32", name="raw")
    # Slices, not indices: a batch without images passes too.
    rows = _weights(ops.sum(ops.ones_like(pixels[:1, :, :1, :1]), axis=(0, 2, 3)), height)
    columns = _weights(ops.sum(ops.ones_like(pixels[:1, :1, :, :1]), axis=(0, 1, 3)), width)
    # By `dot`, which lays out all lines as one matrix. For `matmul` they are a stack of them, and
    # TensorFlow's product of a stack and a matrix writes past its memory on CPUs (2.20 and 2.21,
    # with oneDNN).
    lines = ops.transpose(pixels, (0, 3, 2, 1))  # (batch, channels, columns, rows)
    lines = ops.dot(lines, rows)  # (batch, channels, columns, height)
    lines = ops.transpose(lines, (0, 1, 3, 2))  # (batch, channels, height, columns)
    planes = ops.dot(lines, columns)  # (batch, channels, height, width)
    images = ops.transpose(planes, (0, 2, 3, 1))  # (batch, height, width, channels)
    return with_shortcuts(keras.Model(pixels, images, name=RESIZE))


def with_shortcuts(resizing: keras.Model) -> keras.Model:
    """Let a resizing model do no more than it must where the size of the images is known.

    Its graph, and so what is saved of it, stays as it is.

    Args:
        resizing: As `build_resizing` returns it, perhaps reloaded from a file; changed in place.
    """
    whole = resizing.call
    height, width = resizing.output_shape[1:3]

    def call(images: Any, **context: Any) -> Any:
        # A side that is not known while tracing is None in TensorFlow and a symbol in JAX.
        known = isinstance(images.shape[1], int) and isinstance(images.shape[2], int)
        return _resized(images, height, width) if known else whole(images, **context)

    resizing.call = call
    return resizing


def _resized(images: Any, height: int, width: int) -> Any:
    # Integer pixels are cast first: resized values are fractions and must not be rounded.
    images = ops.cast(images, "float32")
    rows, columns = images.shape[1], images.shape[2]
    if (rows, columns) == (height, width):
        return images
    # Where an image grows, the filter against aliasing changes nothing and would take time.
    growing = rows <= height and columns <= width
    return ops.image.resize(
        images,
        (height, width),
        interpolation="bilinear",
        antialias=not growing,
        data_format="channels_last",
    )


def _weights(ones: Any, n_out: int) -> Any:
    """Return what each pixel of a line that comes out takes of those that go in.

    Args:
        ones: A one for each pixel that goes in, shape (n_in,); n_in need not be known yet.
        n_out: Pixels that come out.

    Returns:
        Shape (n_in, n_out), columns sum to 1: a triangle around the place of each pixel, one pixel
        wide to either side; where the line shrinks, one pixel of what comes out.
    """
    # In this order of divisions the places are those of TensorFlow's antialiased resizing.
    step = 1.0 / (n_out / ops.sum(ones))
    centres = ops.multiply(np.arange(n_out, dtype="float32") + 0.5, step) - 0.5
    places = ops.expand_dims(ops.cumsum(ones) - 1.0, axis=1)
    distances = ops.abs(centres - places)  # (n_in, n_out)
    weights = ops.relu(1.0 - distances / ops.maximum(step, 1.0))
    return weights / ops.sum(weights, axis=0, keepdims=True)
