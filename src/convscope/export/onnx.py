"""ONNX: one file, for ONNX Runtime, OpenVINO and most other engines."""

from pathlib import Path
from typing import Any

from convscope.classifier.exported import Classifier, with_spec
from convscope.classifier.spec import ClassifierSpec
from convscope.engines import conversion
from convscope.engines.conversion import to_onnx
from convscope.export import FORMATS, Format

PACKAGES = tuple((name, "train") for name in conversion.PACKAGES)
"""Packages for the conversion, by the extra that installs each."""


@FORMATS.register("onnx")
def onnx() -> Format:
    """ONNX: for ONNX Runtime, OpenVINO, and `convscope predict` without a framework."""
    return Format(write_onnx, Classifier, ".onnx", True, PACKAGES)


def write_onnx(function: Any, spec: ClassifierSpec, path: Path) -> None:
    """Write a classifier as an ONNX file with spec and checksum.

    Raises:
        FailureError: If the network cannot be converted.
    """
    path.write_bytes(with_spec(to_onnx(function), spec))
