"""Static quantisation of an ONNX file to 8-bit integers, by ONNX Runtime's own tools."""

import contextlib
import importlib.util
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from convscope.engines import INPUT
from convscope.errors import FailureError, MissingExtraError
from convscope.export.calibration import calibration_batches
from convscope.progress import Progress
from convscope.types import Images
from convscope.wording import first_line

_KINDS = ["Conv"]
"""Kinds of node whose arithmetic becomes int8: nearly all of a convolutional network's. With the
dense layers of the head too, fewer images kept their class, and little time was gained."""


def quantized(model: bytes, images: Images, progress: Progress) -> bytes:
    """Return an ONNX file with int8 arithmetic: activations unsigned, weights signed, by channel.

    The first convolution stays as it is: of its few weights, whose input are pixels, too much would
    depend on the rounding. (On EfficientNet-Lite0 and 160 photos, 95 % kept their class with it in
    int8 and 99 % without. With signed activations the same networks were
    slower than float32 on two AMX cores, and 1.4 to 2.1 times as fast as it with unsigned ones.)

    Args:
        model: ONNX file in float32, without metadata.
        images: Training images, of the model's size, which show the ranges of its values.
        progress: Called with each batch.

    Raises:
        MissingExtraError: If the package onnx is not installed.
        FailureError: If the tools cannot quantise it.
    """
    if importlib.util.find_spec("onnx") is None:
        raise MissingExtraError("onnx", "train")
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    batches = calibration_batches(images, progress)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Batches of training images."""

        def get_next(self) -> dict[str, Any] | None:
            """Return the next batch; None at the end."""
            batch = next(batches, None)
            return None if batch is None else {INPUT: batch}

    parsed = onnx.load_from_string(model)
    convolutions = [node.name for node in parsed.graph.node if node.op_type in _KINDS]
    with tempfile.TemporaryDirectory() as folder, _quiet():
        target = Path(folder) / "int8.onnx"
        try:
            quantize_static(
                parsed,
                target,
                Reader(),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
                op_types_to_quantize=_KINDS,
                nodes_to_exclude=convolutions[:1],
            )
        except Exception as error:  # any exception of the tools
            reason = first_line(error)
            raise FailureError(f"this network cannot be quantised to int8: {reason}") from error
        return target.read_bytes()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leave out the tools' advice to prepare the file first, which shapes of any size preclude."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
