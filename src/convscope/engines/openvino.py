"""OpenVINO, an optional engine: often the quickest for large batches on Intel's CPUs."""

import io
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

from convscope.engines import ENGINES, INPUT, OUTPUTS
from convscope.errors import FailureError, MissingExtraError
from convscope.machine import usable_cores
from convscope.types import FloatArray, UInt8Array
from convscope.wording import first_line

_TELEMETRY = "openvino_telemetry"


def import_openvino() -> Any:
    """Import OpenVINO without its telemetry, and return it.

    It would report each import to Google Analytics, with an identifier that it keeps in the home
    folder. It has no variable against that, but does without where the package for it is missing.

    Raises:
        MissingExtraError: If OpenVINO is not installed.
    """
    modules: dict[str, Any] = sys.modules
    hidden = _TELEMETRY not in modules
    if hidden:
        modules[_TELEMETRY] = None  # what Python takes for a package that is not installed
    try:
        import openvino
    except ImportError:
        raise MissingExtraError("openvino", "openvino") from None
    finally:
        if hidden:
            modules.pop(_TELEMETRY, None)
    return openvino


@ENGINES.register("openvino", package="openvino")
def open_openvino(
    model: bytes, threads: int | None = None, *, shared: bool = False
) -> "OpenVinoSession":
    """OpenVINO on the CPU, in float32."""
    del shared  # it has no such setting
    return OpenVinoSession(model, threads)


class OpenVinoSession:
    """A model in OpenVINO, in float32: by itself it takes bfloat16 on some CPUs.

    Args:
        model: Bytes of an ONNX file, or path of a file of OpenVINO's own format.
        threads: Number of threads; None takes all usable cores.
        precision: Precision of the arithmetic, "f32" or "bf16".

    Raises:
        MissingExtraError: If OpenVINO is not installed.
        FailureError: If it cannot load the model.
    """

    def __init__(
        self, model: bytes | Path, threads: int | None = None, precision: str = "f32"
    ) -> None:
        core = import_openvino().Core()
        self._local = threading.local()
        settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": threads or usable_cores(),
        }
        try:
            source = model if isinstance(model, Path) else io.BytesIO(model)
            self._model = core.compile_model(core.read_model(source), "CPU", settings)
        except Exception as error:  # any RuntimeError of its readers and compilers
            raise FailureError(f"OpenVINO cannot load the model: {first_line(error)}") from None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its outputs, of `engines.OUTPUTS`."""
        present = {name for each in self._model.outputs for name in each.get_names()}
        return tuple(name for name in OUTPUTS if name in present)

    def predict_on_batch(self, images: UInt8Array, /) -> FloatArray:
        """Return the probabilities, shape (batch, n_classes), float32."""
        return self.outputs(images, ["probs"])["probs"]

    def outputs(self, images: UInt8Array, names: list[str], /) -> dict[str, FloatArray]:
        """Return outputs of the model by name; see `engines.OUTPUTS`."""
        # Each thread has a request, and so memory, of its own.
        if not hasattr(self._local, "request"):
            self._local.request = self._model.create_infer_request()
        found = self._local.request.infer({INPUT: np.ascontiguousarray(images)})
        return {name: np.array(found[name], dtype=np.float32) for name in names}
