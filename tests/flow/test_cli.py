"""The program as people start it: a process of its own, a terminal's signals, exit codes."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from sklearn.datasets import load_digits

from convscope.cli import main
from convscope.run import Run
from convscope.training.results import read_results

# A test runner in the background may ignore Ctrl-C, and its children would inherit that.
PROGRAM = (
    "import signal; signal.signal(signal.SIGINT, signal.{handler}); "
    "from convscope.cli import main; main()"
)


def start(
    folder: Path, *arguments: object, ctrl_c: str = "default_int_handler"
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(handler=ctrl_c), *map(str, arguments)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_from_training_to_a_prediction(tmp_path, monkeypatch, capsys):
    program = Path(sys.executable).with_name("convscope")
    command = [str(program)] if program.exists() else [sys.executable, "-m", "convscope"]
    options = ["--data", "digits", "--epochs", "2", "--precision", "float32", "--lr", "0.005"]
    done = subprocess.run(
        [*command, "train", *options], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (found,) = Run.find_all(tmp_path / "runs")
    assert f"Run folder: runs/{found.name}" in done.stderr
    assert "epoch 2/2" in done.stderr
    assert f"test accuracy {found.metrics['test']['accuracy']:.4f}" in done.stdout

    bunch = load_digits()
    for index in range(5):
        pixels = (bunch.images[index] * 15.9).astype("uint8")
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    # In this process, since another one would spend most of its time on imports.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["convscope", "predict", found.name, ".", "--format", "json"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    images = [item["image"] for item in json.loads(capsys.readouterr().out)["predictions"]]
    assert [name for name in images if not name.startswith("runs")] == [
        f"{i}.png" for i in range(5)
    ]


@pytest.mark.parametrize(
    ("number", "ctrl_c"),
    # A scheduler's job may ignore Ctrl-C.
    [(signal.SIGINT, "default_int_handler"), (signal.SIGTERM, "SIG_IGN")],
)
def test_ctrl_c_or_sigterm_keeps_what_is_learnt_and_says_how_to_go_on(tmp_path, number, ctrl_c):
    process = start(
        *(tmp_path, "train", "--data", "digits", "--epochs", 5_000, "--out", "long"),
        *("--precision", "float32"),
        ctrl_c=ctrl_c,
    )
    results = tmp_path / "long" / "results.csv"
    deadline = time.monotonic() + 60
    while not results.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert out == ""
    assert "Traceback" not in err
    last = err.strip().splitlines()[-1]
    assert last.startswith("Stopped. What was finished is kept; resume with: ")
    assert "convscope train --resume long " in last
    run = Run.open(tmp_path / "long")
    assert run.status == "interrupted"
    n_epochs = len(read_results(run.results_file))
    assert 1 <= n_epochs < 5_000
    assert run.snapshot_file.exists()
    assert run.weights("best").exists()
    assert "test_openings" not in run.state
    assert not list(run.path.rglob("*.part*"))
