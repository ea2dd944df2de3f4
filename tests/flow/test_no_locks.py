"""Commands on a file system without locks, as some clusters and network shares have it."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from convscope.run import Run

NO_FLOCK = "#include <errno.h>\nint flock(int fd, int how) { errno = %s; return -1; }\n"


@pytest.fixture
def convscope(tmp_path, monkeypatch):
    """Run the program where the system itself refuses locks, with an error that it may give."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler and Linux' way of loading a library first")

    def run(number: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "no.c").write_text(NO_FLOCK % number)
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-o", "no.so", "no.c"], cwd=tmp_path, check=True
        )
        return subprocess.run(
            [sys.executable, "-m", "convscope", *arguments],
            cwd=tmp_path,
            env={**os.environ, "LD_PRELOAD": str(tmp_path / "no.so")},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.parametrize(
    "number",
    ["ENOSYS", *(pytest.param(name, marks=pytest.mark.slow) for name in ("ENOLCK", "EOPNOTSUPP"))],
)
def test_a_folder_of_images_is_packed_without_a_word_of_another_process(
    convscope, tmp_path, number
):
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "few" / name).mkdir(parents=True)
        for index in range(4):
            pixels = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "few" / name / f"{index}.png")
    done = convscope(number, "data", "show", "few", "--out", "x.png")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("without locks") == 1
    assert "another process" not in done.stderr


def test_a_run_is_trained_and_listed(convscope, tmp_path):
    options = ["--data", "digits", "--epochs", "1", "--precision", "float32", "--out", "runs/a"]
    done = convscope("ENOSYS", "train", *options)
    assert done.returncode == 0, done.stderr
    assert "without locks" in done.stderr
    assert "another process" not in done.stderr
    assert len(Run(tmp_path / "runs" / "a").state["test_openings"]) == 1
    listed = convscope("ENOSYS", "runs")
    assert listed.returncode == 0, listed.stderr
    assert "finished" in listed.stdout
