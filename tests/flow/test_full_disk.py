"""A disk that fills up, at every write of a small run's life."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture
def live(tmp_path):
    """Live a run's life, with a failing write at every `every`-th place; return what came of it."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler and Linux' way of loading a library first")
    library, out = tmp_path / "full_disk.so", tmp_path / "result.json"
    source = HERE / "full_disk.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)

    def run(every: int, *, and_after: bool) -> dict:
        folder = tmp_path / "disk"
        folder.mkdir()
        done = subprocess.run(
            [sys.executable, HERE / "disk_life.py", folder, out, str(every), str(int(and_after))],
            env={
                **os.environ,
                "LD_PRELOAD": str(library),
                "FULL_DISK_BELOW": str(folder / "life"),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(out.read_text())

    return run


def check(result: dict) -> None:
    told = 0
    for each in result["tries"]:
        where = f"{each['command']}, write {each['n']}: {each}"
        assert each["faults"] == [], where
        assert each["again"] == "", where
        assert "\n" not in each["said"], where
        # What only saves time (an index, a sign of life) may be left out in silence.
        told += each["said"] != ""
        if each["said"]:
            assert each["said"].startswith(("no space left on disk while writing ", "cannot ")), (
                where
            )
    assert told > len(result["tries"]) / 2


@pytest.mark.slow
def test_a_full_disk_ends_in_a_line_and_harms_no_file(live):
    result = live(83, and_after=False)
    check(result)
    assert set(result["writes"]) == {"train", "evaluate", "predict", "explain", "report"}
    assert sum(result["writes"].values()) > 200


@pytest.mark.slow
@pytest.mark.parametrize("and_after", [False, True])
def test_a_full_disk_ends_in_a_line_at_every_single_write(live, and_after):
    result = live(1, and_after=and_after)
    print(result["writes"], result["kinds"])
    check(result)
    assert len(result["tries"]) == sum(result["writes"].values())
