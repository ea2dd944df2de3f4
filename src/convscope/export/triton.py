"""Model repository of NVIDIA's Triton Inference Server, which loads it as it is.

References:
    Triton's "Model Repository" and "Model Configuration".
"""

import json
import shlex
from pathlib import Path
from typing import Any

from convscope.classifier.classify import Classifier
from convscope.classifier.exported import Classifier as Exported
from convscope.classifier.spec import ClassifierSpec
from convscope.engines import INPUT
from convscope.export import FORMATS, Format
from convscope.export._folder import model_name, open_folder, version_in, write_sums
from convscope.export.onnx import PACKAGES, write_onnx

_LARGEST_BATCH = 64

_CONFIG = """\
name: {name}
platform: "onnxruntime_onnx"
max_batch_size: {batch}
input [ {{ name: "{input}" data_type: TYPE_UINT8 dims: [ -1, -1, {channels} ] }} ]
output [
  {{ name: "probs" data_type: TYPE_FP32 dims: [ {n_classes} ] label_filename: "labels.txt" }}
]
dynamic_batching {{ }}
"""


@FORMATS.register("triton")
def triton() -> Format:
    """Triton: a model repository for NVIDIA's Triton Inference Server."""
    return Format(_write, _open, "_triton", True, PACKAGES, usage=_usage)


def _write(function: Any, spec: ClassifierSpec, path: Path) -> None:
    name = model_name(spec)
    version = version_in(path, spec)
    version.mkdir(parents=True)
    write_onnx(function, spec, version / "model.onnx")
    config = _CONFIG.format(
        name=json.dumps(name),
        batch=_LARGEST_BATCH,
        input=INPUT,
        channels=spec.channels,
        n_classes=len(spec.class_names),
    )
    (path / name / "config.pbtxt").write_text(config, encoding="utf-8")
    # Triton's classification extension says them; a line is a class.
    (path / name / "labels.txt").write_text("\n".join(spec.class_names) + "\n", encoding="utf-8")
    write_sums(path, spec)


def _usage(path: Path) -> str:
    return f"tritonserver --model-repository={shlex.quote(str(path))}"


def _open(path: Path) -> Classifier:
    spec = open_folder(path)
    return Exported(version_in(path, spec) / "model.onnx")
