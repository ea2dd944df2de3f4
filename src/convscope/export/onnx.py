"""ONNX: one file, for ONNX Runtime, OpenVINO and most other engines."""

from pathlib import Path
from typing import Any

from convscope.classifier.exported import Classifier, with_spec
from convscope.classifier.spec import ClassifierSpec
from convscope.engines import conversion
from convscope.engines.conversion import to_onnx
from convscope.export import FORMATS, Format, Int8
from convscope.export.onnx_int8 import quantized
from convscope.progress import Progress
from convscope.types import Images

PACKAGES = tuple((name, "train") for name in conversion.PACKAGES)
"""Packages for the conversion, by the extra that installs each."""

_FASTER = 1.1
"""Least speed-up of int8: within it, two measurements of one model differ too."""


@FORMATS.register("onnx")
def onnx() -> Format:
    """ONNX: for ONNX Runtime, OpenVINO, and `convscope predict` without a framework."""
    int8 = Int8(_quantize, least_speedup=_FASTER)
    return Format(write_onnx, Classifier, ".onnx", True, PACKAGES, int8=int8)


def write_onnx(function: Any, spec: ClassifierSpec, path: Path) -> None:
    """Write a classifier as an ONNX file with spec and checksum.

    Raises:
        FailureError: If the network cannot be converted.
    """
    path.write_bytes(with_spec(to_onnx(function), spec))


def _quantize(function: Any, images: Images, progress: Progress) -> tuple[bytes, bytes]:
    whole = to_onnx(function)
    return whole, quantized(whole, images, progress)
