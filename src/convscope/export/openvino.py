"""OpenVINO's own format: a folder with `model.xml`, `model.bin`, spec and checksums."""

import io
from pathlib import Path
from typing import Any

from convscope.classifier.classify import Classifier
from convscope.classifier.spec import ClassifierSpec
from convscope.engines.conversion import to_onnx
from convscope.engines.openvino import OpenVinoSession
from convscope.export import FORMATS, Format
from convscope.export._folder import open_folder, write_sums

_MODEL = "model.xml"


@FORMATS.register("openvino")
def openvino() -> Format:
    """OpenVINO: a folder for OpenVINO and its model server, on Intel's processors."""
    packages = (("onnx", "export"), ("tf2onnx", "export"), ("openvino", "openvino"))
    return Format(_write, _open, "_openvino", True, packages)


def _write(function: Any, spec: ClassifierSpec, path: Path) -> None:
    import openvino

    model = openvino.Core().read_model(io.BytesIO(to_onnx(function)))
    path.mkdir()
    # In float32: by default it writes weights of half the precision.
    openvino.save_model(model, path / _MODEL, compress_to_fp16=False)
    write_sums(path, spec)


def _open(path: Path) -> Classifier:
    spec = open_folder(path)
    return Classifier(OpenVinoSession(path / _MODEL), spec)
