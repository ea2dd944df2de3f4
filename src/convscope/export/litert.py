"""LiteRT (TensorFlow Lite): one file, for phones and small computers."""

import contextlib
import importlib.util
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from convscope.classifier.classify import Classifier
from convscope.classifier.exported import read_sealed, with_spec
from convscope.classifier.spec import ClassifierSpec
from convscope.engines import INPUT
from convscope.errors import ConvscopeError, FailureError
from convscope.export import FORMATS, Format, Int8
from convscope.export._folder import code_with
from convscope.export.litert_int8 import quantized
from convscope.export.savedmodel import save_function
from convscope.machine import usable_cores
from convscope.progress import Progress
from convscope.storage import storage_errors
from convscope.types import FloatArray, Images, UInt8Array
from convscope.wording import first_line

_HALF = 0.5
"""Share of the float32 file that int8 may take at most; a quarter where all layers become int8."""


@FORMATS.register("litert")
def litert() -> Format:
    """LiteRT (TensorFlow Lite): for phones and small computers."""
    # Not by its speed here: the files are for the arithmetic of phones.
    int8 = Int8(_quantize, largest_share=_HALF)
    packages = (("tensorflow", "train"),)
    return Format(_write, _open, ".tflite", False, packages, usage=_usage, int8=int8)


def _write(function: Any, spec: ClassifierSpec, path: Path) -> None:
    with _converter(function) as converter:
        content: bytes = converter.convert()
    # What follows the model in the file is not read by LiteRT, whose own metadata lie there too.
    path.write_bytes(with_spec(content, spec))


def _quantize(function: Any, images: Images, progress: Progress) -> tuple[bytes, bytes]:
    with _converter(function) as converter:
        return converter.convert(), quantized(converter, images, progress)


@contextlib.contextmanager
def _converter(function: Any) -> Iterator[Any]:
    """Yield the converter of a function; its kinds of exception become one."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Only from such a folder does the converter keep the names of inputs and outputs.
        with storage_errors(Path(folder)):
            save_function(function, Path(folder))
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        try:
            yield converter
        except ConvscopeError:  # of the images that it is calibrated on
            raise
        except Exception as error:  # its own kinds of exception
            reason = first_line(error)
            raise FailureError(f"this network cannot be converted to LiteRT: {reason}") from None


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
        return self.outputs(images, ["probs"])["probs"]

    def outputs(self, images: UInt8Array, names: list[str], /) -> dict[str, FloatArray]:
        """Return outputs by name, of `engines.OUTPUTS`."""
        found = self._runner(**{INPUT: np.ascontiguousarray(images)})
        return {name: np.array(found[name]) for name in names}
