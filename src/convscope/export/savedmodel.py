"""TensorFlow's SavedModel: a folder for TensorFlow Serving and programs with TensorFlow."""

from pathlib import Path
from typing import Any

import numpy as np

from convscope.classifier.classify import Classifier
from convscope.classifier.spec import ClassifierSpec
from convscope.engines import INPUT
from convscope.export import FORMATS, Format
from convscope.export._folder import SPEC_FILE, code_with, open_folder, write_sums
from convscope.types import FloatArray, UInt8Array


@FORMATS.register("savedmodel")
def savedmodel() -> Format:
    """SavedModel: a folder for TensorFlow Serving and programs with TensorFlow."""
    return Format(_write, _open, "_savedmodel", True, (("tensorflow", "train"),), usage=_usage)


def _write(function: Any, spec: ClassifierSpec, path: Path) -> None:
    save_function(function, path)
    write_sums(path, spec)


def save_function(function: Any, path: Path) -> None:
    """Write a function of TensorFlow as a SavedModel with one signature, "serving_default"."""
    import tensorflow as tf

    module = tf.Module()
    module.classify = function
    # What the function uses has to hang on what is saved.
    module.used = list(function.get_concrete_function().variables)
    tf.saved_model.save(module, str(path), signatures={"serving_default": function})


def _usage(path: Path) -> str:
    return code_with(
        path / SPEC_FILE,
        "import tensorflow as tf",
        f"model = tf.saved_model.load({str(path)!r})\n"
        'classify = model.signatures["serving_default"]\n'
        f'probs = classify({INPUT}=tf.constant(pixels))["probs"].numpy()',
    )


def _open(path: Path) -> Classifier:
    spec = open_folder(path)  # before TensorFlow sees the files
    return Classifier(_Loaded(path), spec)


class _Loaded:
    """A SavedModel in TensorFlow."""

    def __init__(self, path: Path) -> None:
        import tensorflow as tf

        self._model = tf.saved_model.load(str(path))

    def predict_on_batch(self, images: UInt8Array, /) -> FloatArray:
        """Return the probabilities, shape (batch, n_classes), float32."""
        outputs = self._model.signatures["serving_default"](**{INPUT: np.asarray(images)})
        probs: FloatArray = outputs["probs"].numpy()
        return probs
