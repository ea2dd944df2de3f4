"""Inference of a frozen network over many images, by the quickest engine at hand.

On a CPU, ONNX Runtime gives the same float32 features 1.3 to 3.3 times as fast as TensorFlow. It is
taken where the network is large enough that converting it pays, and checked on the first images.
"""

import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from convscope.engines.conversion import PACKAGES
from convscope.errors import FailureError
from convscope.machine import module_version
from convscope.progress import Progress
from convscope.training.precision import accelerator, machine

_PACKAGES = ("onnxruntime", *PACKAGES)
_MANY_WEIGHTS = 1_000_000
"""Weights from which a network is converted, which takes about 2 seconds and more."""

_N_CHECKED = 8
_SAME = 1e-4
"""Largest difference from Keras' outputs, relative to the largest of these."""

Outputs = npt.NDArray[np.float32]
Run = Callable[[npt.NDArray[Any]], Outputs]


_KEPT_WEIGHTS = 100_000_000
"""Weights of converted networks that are kept, 400 MB of them."""

_prepared: dict[str, tuple[Run, int]] = {}
"""Networks that were converted, with their numbers of weights, by their keys, the one used last at
the end: parts of a dataset come one after another, and the test images of a study's runs after all
of these were trained."""


def engine_of(network: keras.Model) -> str:
    """Return what decides how a network's outputs are rounded: libraries, versions, the machine."""
    engines = [f"keras {keras.__version__}", machine()]
    if _is_convertible(network):
        engines += [f"{name} {module_version(name)}" for name in _PACKAGES]
    return ", ".join(engines)


class FrozenInference:
    """Runs a network on batches; prepared by the first one.

    Args:
        network: Network with one input and one output; it is not changed.
        key: Hash of the function that it computes, by which it is converted only once.
        batch_size: Images per batch, at most.
        progress: Told if ONNX Runtime cannot run it.
    """

    def __init__(self, network: keras.Model, key: str, batch_size: int, progress: Progress) -> None:
        self._network = network
        self._key = key
        self._batch_size = batch_size
        self._progress = progress
        self._run: Run | None = None

    def __call__(self, batch: npt.NDArray[Any]) -> Outputs:
        """Return the outputs of the network, shape (len(batch), ...), float32."""
        batch = np.ascontiguousarray(batch)
        if self._run is None:
            key = f"{self._key} {batch.dtype} {batch.shape[1:]}"
            if key not in _prepared and not _is_convertible(self._network):
                self._run = self._by_keras
            else:
                kept = _prepared.pop(key, None)
                if kept is None:
                    n_weights = self._network.count_params()
                    _make_room(n_weights)
                    kept = self._by_onnxruntime(batch), n_weights
                _prepared[key] = kept
                self._run = kept[0]
        return self._run(batch)

    def _by_keras(self, batch: npt.NDArray[Any]) -> Outputs:
        rows = len(batch)
        if rows < self._batch_size:
            # One batch size: the network is compiled once.
            filler = np.zeros((self._batch_size - rows, *batch.shape[1:]), batch.dtype)
            batch = np.concatenate([batch, filler])
        return np.asarray(self._network.predict_on_batch(batch), np.float32)[:rows]

    def _by_onnxruntime(self, batch: npt.NDArray[Any]) -> Run:
        """Return the network in ONNX Runtime; in Keras if its outputs there would be others."""
        import tensorflow as tf

        from convscope.engines import INPUT
        from convscope.engines.conversion import to_onnx
        from convscope.engines.onnxruntime import OnnxRuntimeSession

        network, output = self._network, "features"

        def features(images: Any) -> dict[str, Any]:
            found = network(tf.cast(images, tf.float32), training=False)
            return {output: tf.identity(found, name=output)}

        signature = [tf.TensorSpec((None, *batch.shape[1:]), batch.dtype, name=INPUT)]
        function = tf.function(features, input_signature=signature)
        try:
            session = OnnxRuntimeSession(to_onnx(function, simplified=False))
        except FailureError as error:
            self._progress.say(f"Features are computed in Keras: {error}")
            return self._by_keras

        def run(images: Any) -> Outputs:
            return session.outputs(images, [output])[output]

        few = batch[:_N_CHECKED]
        expected = function(few)[output].numpy()
        gap, largest = (float(np.abs(x).max()) for x in (run(few) - expected, expected))
        if not gap <= _SAME * largest:
            self._progress.say(
                "Features are computed in Keras: those of ONNX Runtime differ by up to "
                f"{gap:.2g} (largest feature: {largest:.3g})"
            )
            return self._by_keras
        return run


def _make_room(n_weights: int) -> None:
    """Drop the networks used longest ago, so that one with so many weights can be kept too."""
    while _prepared and n_weights + sum(each for _, each in _prepared.values()) > _KEPT_WEIGHTS:
        del _prepared[next(iter(_prepared))]


def can_convert() -> bool:
    """Return whether large networks run in ONNX Runtime here. Keras must be configured."""
    return (
        keras.config.backend() == "tensorflow"
        and accelerator() is None
        and all(importlib.util.find_spec(name) is not None for name in _PACKAGES)
    )


def _is_convertible(network: keras.Model) -> bool:
    return (
        can_convert()
        and network.count_params() >= _MANY_WEIGHTS
        and all(layer.compute_dtype == "float32" for layer in _all_layers(network))
    )


def _all_layers(network: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in network.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _all_layers(layer)
