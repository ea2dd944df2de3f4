"""OpenVINO's own format: a folder with `model.xml`, `model.bin`, spec and checksums."""

import io
from pathlib import Path
from typing import Any

from convscope.classifier.classify import Classifier
from convscope.classifier.spec import ClassifierSpec
from convscope.engines.conversion import to_onnx
from convscope.engines.openvino import OpenVinoSession, import_openvino
from convscope.export import FORMATS, Format, onnx
from convscope.export._folder import SPEC_FILE, code_with, open_folder, write_sums

PACKAGES = (*onnx.PACKAGES, ("openvino", "openvino"))
"""Packages for the conversion, by the extra that installs each."""

_MODEL = "model.xml"


@FORMATS.register("openvino")
def openvino() -> Format:
    """OpenVINO: a folder for OpenVINO and its model server, on Intel's processors."""
    return Format(_write, _open, "_openvino", True, PACKAGES, usage=_usage)


def _write(function: Any, spec: ClassifierSpec, path: Path) -> None:
    path.mkdir()
    save_model(function, path / _MODEL)
    write_sums(path, spec)


def save_model(function: Any, path: Path) -> None:
    """Write a function of TensorFlow as OpenVINO's `path` (.xml) and a .bin file beside it."""
    openvino = import_openvino()
    model = openvino.Core().read_model(io.BytesIO(to_onnx(function)))
    # In float32: by default it writes weights of half the precision.
    openvino.save_model(model, path, compress_to_fp16=False)


def _usage(path: Path) -> str:
    # By itself OpenVINO takes bfloat16 on some CPUs, which changes answers.
    return code_with(
        path / SPEC_FILE,
        "import openvino",
        f"model = openvino.compile_model(\n    {str(path / _MODEL)!r}, "
        '"CPU", {"INFERENCE_PRECISION_HINT": "f32"}\n)\nprobs = model(pixels)["probs"]',
    )


def _open(path: Path) -> Classifier:
    spec = open_folder(path)
    return Classifier(OpenVinoSession(path / _MODEL), spec)
