"""Engines are imported without telling their makers."""

import importlib.util
import os
import subprocess
import sys

import pytest

import convscope.engines.onnxruntime
from convscope.engines.openvino import import_openvino
from convscope.errors import MissingExtraError


def test_onnx_runtime_is_told_before_it_is_imported():
    assert convscope.engines.onnxruntime.os.environ["ORT_DISABLE_TELEMETRY"] == "1"


def test_openvino_leaves_no_identifier_in_the_home_folder(tmp_path):
    if importlib.util.find_spec("openvino_telemetry") is None:
        pytest.skip("OpenVINO is not installed")
    # Where these are set, it reports nothing by itself.
    others = ("CI", "TF_BUILD", "JENKINS_URL")
    environment = {name: value for name, value in os.environ.items() if name not in others}
    places = {name: str(tmp_path) for name in ("HOME", "USERPROFILE", "LOCALAPPDATA")}
    code = (
        "import sys; from convscope.engines.openvino import import_openvino; import_openvino(); "
        "assert 'openvino_telemetry' not in sys.modules; import openvino_telemetry"
    )
    subprocess.run([sys.executable, "-c", code], env=environment | places, check=True)
    assert not list(tmp_path.rglob("*openvino*"))


def test_a_missing_openvino_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "openvino_telemetry", raising=False)
    with pytest.raises(MissingExtraError, match=r"convscope\[openvino\]"):
        import_openvino()
    assert "openvino_telemetry" not in sys.modules
