"""Model repository of the OpenVINO Model Server, which loads it as it is.

References:
    OpenVINO Model Server's "Preparing a Model Repository" and "Parameters".
"""

import json
import shlex
from pathlib import Path
from typing import Any

from convscope.classifier.classify import Classifier
from convscope.classifier.spec import ClassifierSpec
from convscope.engines.openvino import OpenVinoSession
from convscope.export import FORMATS, Format
from convscope.export._folder import model_name, open_folder, version_in, write_sums
from convscope.export.openvino import PACKAGES, save_model

_PLACE = "/models"
"""Where the server's container usually has the repository."""


@FORMATS.register("ovms")
def ovms() -> Format:
    """OVMS: a model repository for the OpenVINO Model Server."""
    return Format(_write, _open, "_ovms", True, PACKAGES, usage=_usage)


def _write(function: Any, spec: ClassifierSpec, path: Path) -> None:
    name = model_name(spec)
    version = version_in(path, spec)
    version.mkdir(parents=True)
    save_model(function, version / "model.xml")
    # By itself the server would take bfloat16 on some CPUs, which changes answers.
    plugin = {"INFERENCE_PRECISION_HINT": "f32"}
    config = {"name": name, "base_path": f"{_PLACE}/{name}", "plugin_config": plugin}
    text = json.dumps({"model_config_list": [{"config": config}]}, indent=2)
    (path / "config.json").write_text(text + "\n", encoding="utf-8")
    write_sums(path, spec)


def _usage(path: Path) -> str:
    mount = shlex.quote(f"{path.resolve()}:{_PLACE}:ro")
    return (
        f"docker run --rm -p 9000:9000 -v {mount} openvino/model_server "
        f"--config_path {_PLACE}/config.json --port 9000"
    )


def _open(path: Path) -> Classifier:
    spec = open_folder(path)
    return Classifier(OpenVinoSession(version_in(path, spec) / "model.xml"), spec)
