"""Layers whose computation in Keras no converter knows, in plain operations of TensorFlow."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

Tensor = Any
"""Tensor of TensorFlow."""


def plain_operation(operation: Any) -> Callable[[Any, Tensor], Tensor] | None:
    """Return a function of a layer and its input that stands for the layer; None if none has to.

    Args:
        operation: Layer or operation of a graph.
    """
    import keras

    if isinstance(operation, keras.layers.Normalization):
        return _normalized
    if isinstance(operation, keras.layers.Conv2D) and operation.groups > 1:
        return _grouped
    if getattr(operation, "activation", None) is keras.activations.gelu and isinstance(
        operation, keras.layers.Activation
    ):
        return _gelu
    return None


def _normalized(layer: Any, images: Tensor) -> Tensor:
    """Standardise by statistics that become constants of the graph.

    Keras holds them as tensors outside of the layer's weights, which converters take for further
    inputs.
    """
    import keras
    import tensorflow as tf

    mean, variance = map(keras.ops.convert_to_numpy, (layer.mean, layer.variance))
    deviation = np.maximum(np.sqrt(variance), keras.config.epsilon())
    if layer.invert:
        return tf.constant(mean) + images * tf.constant(deviation)
    return (images - tf.constant(mean)) / tf.constant(deviation)


def _grouped(layer: Any, images: Tensor) -> Tensor:
    """Convolve groups of channels apart: where each channel is a group, depthwise.

    Keras compiles it by XLA, which converters do not look into.
    """
    import tensorflow as tf

    kernel, channels = tf.convert_to_tensor(layer.kernel), images.shape[-1]
    padding, strides, rates = layer.padding.upper(), layer.strides, layer.dilation_rate
    if layer.groups == channels == layer.filters:
        kernel = tf.transpose(kernel, (0, 1, 3, 2))  # (height, width, channels, 1)
        maps = tf.nn.depthwise_conv2d(images, kernel, (1, *strides, 1), padding, dilations=rates)
    else:
        parts = zip(
            tf.split(images, layer.groups, axis=-1),
            tf.split(kernel, layer.groups, axis=-1),
            strict=True,
        )
        maps = tf.concat(
            [tf.nn.conv2d(part, some, strides, padding, dilations=rates) for part, some in parts],
            axis=-1,
        )
    if layer.use_bias:
        maps = maps + layer.bias
    return layer.activation(maps)


def _gelu(layer: Any, values: Tensor) -> Tensor:
    """Gaussian error linear unit by the error function, which converters know; not its complement.

    References:
        Hendrycks and Gimpel, "Gaussian Error Linear Units (GELUs)", 2016.
    """
    import tensorflow as tf

    del layer
    return values * (1 + tf.math.erf(values / math.sqrt(2))) / 2
