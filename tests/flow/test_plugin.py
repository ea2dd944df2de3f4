"""The package in docs/plugin, installed: the command line and the contract tests see it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from convscope import predict, train
from convscope.errors import UnknownNameError
from convscope.progress import Progress
from convscope.run import Run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> dict[str, str]:
    """Install the package into a folder of its own; return the environment that sees it."""
    pytest.importorskip("hatchling", reason="it builds the package: pip install -e '.[dev]'")
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    # A copy, since the build may leave files beside its sources.
    shutil.copytree(ROOT / "docs" / "plugin", source, dirs_exist_ok=True)
    install = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps"]
    subprocess.run(
        [*install, "--no-build-isolation", "--target", target, source],
        check=True,
        capture_output=True,
    )
    path = os.pathsep.join([str(target), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "COLUMNS": "200"}


def convscope(environment, *arguments, code=0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "convscope", *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_its_model_is_listed_with_the_package_that_it_comes_from(installed):
    listed = convscope(installed, "models")
    assert re.search(
        r"^tiny-residual +A small network with one shortcut \(from tiny-nets 1\.0\) *$",
        listed,
        re.M,
    )
    networks = json.loads(convscope(installed, "models", "--json"))["networks"]
    packages = {network["name"]: network["package"] for network in networks}
    assert packages["tiny-residual"] == "tiny-nets 1.0"
    assert packages["cnn-functional"] is None


def test_it_is_trained_and_the_run_needs_it_no_more(installed, tmp_path):
    out = tmp_path / "run"
    training = ("--data", "digits", "--epochs", 1, "--precision", "float32", "--out", out)
    convscope(installed, "train", "--model", "tiny-residual", *training)
    packages = json.loads(Run.open(out).environment_file.read_text())["packages"]
    assert packages["tiny-nets"] == "1.0"
    # Here, without the package on the path.
    (said,) = predict(out, [out / "samples.png"], progress=Progress())
    assert said.class_name in Run.open(out).class_names
    with pytest.raises(UnknownNameError, match="unknown model 'tiny-residual'"):
        train("tiny-residual", data="digits", out=tmp_path / "no", progress=Progress())


def test_the_contract_tests_see_it(installed):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("-k", "tiny-residual", "tests/contracts/test_models.py"),
        ],
        cwd=ROOT,
        env=installed,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 8


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["runs", "."]])
def test_its_module_is_imported_only_where_names_are_needed(installed, arguments):
    code = f"""
import runpy, sys
sys.argv = ["convscope", *{arguments!r}]
try:
    runpy.run_module("convscope", run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
print("imported", "tiny_nets" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=installed, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "imported False"
