"""ONNX Runtime: the engine of the base installation."""

import os
from typing import Any

import numpy as np

from convscope.engines import ENGINES, INPUT, OUTPUTS
from convscope.errors import FailureError
from convscope.machine import usable_cores
from convscope.types import FloatArray, UInt8Array
from convscope.wording import first_line

# It would send facts about the machine and the model to its maker, and keep a file for that among
# the temporary ones; it looks once, when it is imported. Who wants that sets it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


@ENGINES.register("onnxruntime", package="onnxruntime")
def open_onnxruntime(
    model: bytes, threads: int | None = None, *, shared: bool = False
) -> "OnnxRuntimeSession":
    """ONNX Runtime on the CPU, in float32."""
    return OnnxRuntimeSession(model, threads, shared=shared)


class OnnxRuntimeSession:
    """A model in ONNX Runtime.

    Args:
        model: Bytes of the ONNX file.
        threads: Number of threads; None takes all usable cores.
        shared: Whether others need the cores between batches. The threads then sleep until the next
            one; otherwise they look for it in a loop for about a millisecond, which takes as much
            from decoders and event loop as a small model itself. Within a batch they always look
            in a loop: to be woken for each layer takes half as long again as the layers.

    Raises:
        FailureError: If it cannot load the model.
    """

    def __init__(self, model: bytes, threads: int | None = None, *, shared: bool = False) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or usable_cores()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        if shared:
            options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            self._session = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its own kinds of exception, which share no base
            raise FailureError(f"ONNX Runtime cannot load the model: {first_line(error)}") from None

    @property
    def facts(self) -> dict[str, str]:
        """Metadata of the file by key."""
        facts: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        return facts

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its outputs, of `engines.OUTPUTS`."""
        present = {each.name for each in self._session.get_outputs()}
        return tuple(name for name in OUTPUTS if name in present)

    def predict_on_batch(self, images: UInt8Array, /) -> FloatArray:
        """Return the probabilities, shape (batch, n_classes), float32."""
        probs: FloatArray = self._session.run(["probs"], {INPUT: images})[0]
        return probs

    def outputs(self, images: UInt8Array, names: list[str], /) -> dict[str, FloatArray]:
        """Return outputs of the model by name; see `engines.OUTPUTS`."""
        values: list[Any] = self._session.run(names, {INPUT: np.ascontiguousarray(images)})
        return dict(zip(names, values, strict=True))
