"""Faster layers for training; the saved model has Keras' own."""

import functools
from collections.abc import Callable
from typing import Any

import keras

from convscope.models.structure import is_resizing


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Keras' BatchNormalization as one operation of TensorFlow, which also reads bfloat16.

    Keras' own takes some ten passes over the data and, under bfloat16, converts it to float32
    first: forward and backward take five times as long on a CPU. Both keep statistics in float32.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise; in training with the statistics of the batch, which update the averages."""
        del mask
        import tensorflow as tf

        learning = bool(training and self.trainable)
        n_features = inputs.shape[-1]
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs,
            scale=tf.ones(n_features) if self.gamma is None else self.gamma.value,
            offset=tf.zeros(n_features) if self.beta is None else self.beta.value,
            mean=None if learning else self.moving_mean.value,
            variance=None if learning else self.moving_variance.value,
            epsilon=self.epsilon,
            is_training=learning,
        )
        if learning:
            n_values = tf.cast(tf.size(inputs) // n_features, tf.float32)
            kept = self.momentum
            self.moving_mean.assign(self.moving_mean * kept + mean * (1 - kept))
            # TensorFlow returns the unbiased variance, Keras keeps the biased one.
            variance *= (n_values - 1) / n_values
            self.moving_variance.assign(self.moving_variance * kept + variance * (1 - kept))
        return outputs


class FusedSilu(keras.layers.Activation):
    """SiLU, x * sigmoid(x), in one pass over the data in training, and one for its gradient.

    TensorFlow's own takes some passes for either, each rounded to the precision of the data: on a
    CPU 3.5 ns per bfloat16 value, forward and backward; this takes 1.4 (XLA, measured on two AMD
    cores with AVX512-BF16, 500 x 15 x 15 x 64 values).
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Apply it; outside of training as Keras does, which compiles nothing for a few batches."""
        return _silu()(inputs) if training else super().call(inputs)


@functools.cache
def _silu() -> Callable[[Any], Any]:
    """Return SiLU with its gradient, each compiled by XLA."""
    import tensorflow as tf

    # By x * sigmoid(x) = h * (1 + tanh(h)) with h = x / 2: a tanh is cheaper than a quotient.
    @tf.function(jit_compile=True)  # type: ignore[untyped-decorator, unused-ignore]
    def outputs(x: Any) -> Any:
        h = 0.5 * tf.cast(x, tf.float32)
        return tf.cast(h * (1 + tf.tanh(h)), x.dtype)

    @tf.function(jit_compile=True)  # type: ignore[untyped-decorator, unused-ignore]
    def gradient(x: Any, upstream: Any) -> Any:
        h = 0.5 * tf.cast(x, tf.float32)
        t = tf.tanh(h)
        slope = 0.5 * (1 + t) * (1 + h * (1 - t))
        return tf.cast(tf.cast(upstream, tf.float32) * slope, x.dtype)

    @tf.custom_gradient  # type: ignore[untyped-decorator, unused-ignore]
    def silu(x: Any) -> tuple[Any, Callable[[Any], Any]]:
        return outputs(x), lambda upstream: gradient(x, upstream)

    return silu  # type: ignore[no-any-return, unused-ignore]


def with_fused_layers(model: keras.Model) -> keras.Model:
    """Return the same network with faster layers, and weights of its own in the same order.

    Args:
        model: Functional model; any other model, any backend but TensorFlow, and a model without
            BatchNormalization over the last of four axes is returned as it is.
    """
    functional = hasattr(model, "operations")  # a Sequential or subclassed one has none
    if keras.config.backend() != "tensorflow" or not functional:
        return model
    if not any(map(_fusable, model.layers)):
        return model

    def clone(layer: Any) -> Any:
        if is_resizing(layer):
            return layer  # it has no weights, and a clone would not know the shortcuts
        kind = type(layer)
        if _fusable(layer):
            kind = FusedBatchNormalization
        elif kind is keras.layers.Activation and layer.activation is keras.activations.silu:
            kind = FusedSilu
        return kind.from_config(layer.get_config())

    fast = keras.models.clone_model(model, clone_function=clone)
    fast.set_weights(model.get_weights())
    return fast


def _fusable(layer: Any) -> bool:
    # The operation takes maps, with their channels last. Older Keras has no renorm.
    return (
        type(layer) is keras.layers.BatchNormalization
        and layer.input_spec.ndim == 4
        and layer.axis in (-1, 3)
        and not getattr(layer, "renorm", False)
    )
