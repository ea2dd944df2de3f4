"""Faster layers for training; the saved model has Keras' own."""

import functools
from collections.abc import Callable
from typing import Any

import keras

from convscope.machine import AVX512_BF16, bfloat16_units
from convscope.models.structure import as_functional, is_resizing, sole_readers
from convscope.training.precision import accelerator

_FEWEST_CHANNELS = {4: 128, 8: 256}
"""Least number of input channels from which the gradient of a kernel is quicker as products of
matrices, by the largest side of a map; on larger maps it is not."""


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


class FusedConv2D(keras.layers.Conv2D):
    """A 3 x 3 convolution whose kernel's gradient is three products of large matrices.

    On CPUs with AVX512-BF16 and without AMX, oneDNN computes that gradient in bfloat16 at 27 to
    57 % of the rate of such products if maps are small (7 x 7 and 3 x 3 with 256 and 384 channels);
    this at 70 to 78 %.
    """

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Convolve; Keras' own layer does the rest."""
        import tensorflow as tf

        # A function with its own gradient takes no variables.
        return _convolution()(inputs, tf.convert_to_tensor(keras.ops.convert_to_tensor(kernel)))


@functools.cache
def _convolution() -> Callable[[Any, Any], Any]:
    """Return a 3 x 3 convolution of stride 1 and padding "same", with its gradients."""
    import tensorflow as tf

    same: dict[str, Any] = {"strides": [1, 1, 1, 1], "padding": "SAME"}

    @tf.custom_gradient  # type: ignore[untyped-decorator, unused-ignore]
    def convolution(x: Any, kernel: Any) -> tuple[Any, Callable[[Any], tuple[Any, Any]]]:
        def gradients(upstream: Any) -> tuple[Any, Any]:
            of_inputs = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(x), filter=kernel, out_backprop=upstream, **same
            )
            rows, columns, n_inputs = x.shape[1:]
            padded = tf.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
            # (batch, rows + 2, columns, 3 * n_inputs): the columns of each patch side by side.
            beside = tf.concat([padded[:, :, left : left + columns] for left in range(3)], -1)
            flat = tf.reshape(upstream, (-1, kernel.shape[-1]))
            of_kernel = [
                tf.matmul(
                    tf.reshape(beside[:, top : top + rows], (-1, 3 * n_inputs)),
                    flat,
                    transpose_a=True,
                )
                for top in range(3)
            ]
            return of_inputs, tf.reshape(tf.stack(of_kernel), kernel.shape)

        return tf.nn.conv2d(x, kernel, **same), gradients

    return convolution  # type: ignore[no-any-return, unused-ignore]


class PooledRelu(keras.layers.MaxPooling2D):
    """Pooling, then the ReLU of the convolution before it, on a quarter of the values.

    The largest of some values is the same before ReLU as after it, and so are the gradients.
    TensorFlow takes 0.3 ns per bfloat16 value for the gradient of ReLU, on a CPU 5 % of a step of
    the tutorial's CNN; in float32 there is nothing to gain.
    """

    def call(self, inputs: Any) -> Any:
        """Pool, then apply ReLU."""
        return keras.ops.relu(super().call(inputs))


def with_fused_layers(model: keras.Model) -> keras.Model:
    """Return the same network with faster layers, and weights of its own in the same order.

    Args:
        model: Functional or Sequential model; any other model, any backend but TensorFlow, and a
            model in which no layer would be faster is returned as it is.
    """
    subclassed = not (hasattr(model, "operations") or isinstance(model, keras.Sequential))
    if keras.config.backend() != "tensorflow" or subclassed:
        return model
    graph = as_functional(model)
    pools = _with_relu_before(graph)
    if not pools and not any(map(_fusable, graph.layers)):
        return model

    def clone(layer: Any) -> Any:
        if is_resizing(layer):
            return layer  # it has no weights, and a clone would not know the shortcuts
        kind, settings = type(layer), layer.get_config()
        if _fusable(layer):
            kind = FusedBatchNormalization
        elif kind is keras.layers.Activation and layer.activation is keras.activations.silu:
            kind = FusedSilu
        elif _kernel_by_products(layer):
            kind = FusedConv2D
        elif layer in pools:
            kind = PooledRelu
        elif layer in pools.values():
            settings["activation"] = "linear"
        return kind.from_config(settings)

    fast = keras.models.clone_model(graph, clone_function=clone)
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


def _with_relu_before(graph: keras.Model) -> dict[Any, Any]:
    """Return the poolings that alone read ReLU of a convolution, with these, if that pays here."""
    if accelerator() is not None:
        return {}
    return {
        pool: layer
        for layer, pool in sole_readers(graph).items()
        if type(layer) is keras.layers.Conv2D
        and type(pool) is keras.layers.MaxPooling2D
        and layer.activation is keras.activations.relu
        and layer.compute_dtype == pool.compute_dtype == "bfloat16"
    }


def _kernel_by_products(layer: Any) -> bool:
    """Return whether the gradient of a layer's kernel is quicker as products of matrices here."""
    if type(layer) is not keras.layers.Conv2D or layer.compute_dtype != "bfloat16":
        return False
    if accelerator() is not None or bfloat16_units() != AVX512_BF16:
        return False
    plain = {
        "kernel_size": (3, 3),
        "strides": (1, 1),
        "dilation_rate": (1, 1),
        "padding": "same",
        "groups": 1,
        "data_format": "channels_last",
    }
    if any(getattr(layer, name) != value for name, value in plain.items()) or not layer.trainable:
        return False
    rows, columns, n_inputs = layer.input.shape[1:]
    if rows is None or columns is None:
        return False
    side = max(rows, columns)
    return any(side <= most and n_inputs >= few for most, few in _FEWEST_CHANNELS.items())
