"""LiteRT (TensorFlow Lite): one file, for phones and small computers."""

import importlib.util
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from convscope.classifier.classify import Classifier
from convscope.classifier.exported import read_sealed, with_spec
from convscope.classifier.spec import ClassifierSpec
from convscope.engines import INPUT
from convscope.errors import FailureError
from convscope.export import FORMATS, Format
from convscope.export._folder import code_with
from convscope.export.savedmodel import save_function
from convscope.machine import usable_cores
from convscope.storage import storage_errors
from convscope.types import FloatArray, UInt8Array
from convscope.wording import first_line


@FORMATS.register("litert")
def litert() -> Format:
    """LiteRT (TensorFlow Lite): for phones and small computers."""
    return Format(_write, _open, ".tflite", False, (("tensorflow", "train"),), usage=_usage)


def _write(function: Any, spec: ClassifierSpec, path: Path) -> None:
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Only from such a folder does the converter keep the names of inputs and outputs.
        with storage_errors(Path(folder)):
            save_function(function, Path(folder))
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        try:
            content: bytes = converter.convert()
        except Exception as error:  # its own kinds of exception
            reason = first_line(error)
            raise FailureError(f"this network cannot be converted to LiteRT: {reason}") from None
    # What follows the model in the file is not read by LiteRT, whose own metadata lie there too.
    path.write_bytes(with_spec(content, spec))


def _usage(path: Path) -> str:
    return code_with(
        path.with_name(f"{path.name}.json"),
        "from ai_edge_litert.interpreter import Interpreter",
        f"run = Interpreter({str(path)!r}).get_signature_runner()\n"
        f'probs = run({INPUT}=pixels)["probs"]',
    )


def _open(path: Path) -> Classifier:
    content, spec = read_sealed(path)
    return Classifier(_LiteRtSession(content), spec)


class _LiteRtSession:
    """A model in LiteRT's interpreter."""

    def __init__(self, model: bytes) -> None:
        if importlib.util.find_spec("ai_edge_litert") is not None:
            from ai_edge_litert.interpreter import Interpreter
        else:
            import tensorflow as tf

            Interpreter = tf.lite.Interpreter  # noqa: N806
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TensorFlow's own is on its way out
            self._interpreter = Interpreter(model_content=model, num_threads=usable_cores())
        self._runner = self._interpreter.get_signature_runner()

    def predict_on_batch(self, images: UInt8Array, /) -> FloatArray:
        """Return the probabilities, shape (batch, n_classes), float32."""
        probs: FloatArray = self._runner(pixels=np.ascontiguousarray(images))["probs"]
        return np.array(probs)
