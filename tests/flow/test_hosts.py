"""One network on several devices and in several processes, as on one device."""

import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from convscope.run import Run
from convscope.training.snapshot import read_history

pytest.importorskip("jax")
pytestmark = pytest.mark.slow

# With BatchNormalization, whitened patches, a schedule and augmentation; 1,149 images, so that
# the last batch of an epoch has 93, which two devices cannot share.
NETWORK = ["--data", "digits", "--recipe", "fast", "--model", "fast-small", "--no-test"]
STEPS = ["--batch-size", "96", "--set", "least_steps=1", "--set", "full_batches=false"]
# Muon turns the smallest gradients into steps of full length, and rounding with them.
PLAIN = ["--set", "optimizer.name=sgd", "--lr", "0.01", "--set", "optimizer.bias_rate=1"]
SETTINGS = [*NETWORK, *STEPS, *PLAIN, "--precision", "float32", "--epochs", "2"]


def start(
    arguments: list[str], folder: Path, n_processes: int = 1, n_devices: int = 1
) -> list[subprocess.Popen]:
    """Start the processes of a training; process N writes into `N.out` and `N.err`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for index in range(n_processes):
        variables = {**os.environ, "KERAS_BACKEND": "jax"}
        variables["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={n_devices}"
        if n_processes > 1:
            variables |= {
                "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
                "JAX_NUM_PROCESSES": str(n_processes),
                "JAX_PROCESS_ID": str(index),
            }
        with (folder / f"{index}.out").open("w") as out, (folder / f"{index}.err").open("w") as err:
            command = [sys.executable, "-m", "convscope", "train", *arguments]
            processes.append(subprocess.Popen(command, env=variables, stdout=out, stderr=err))
    return processes


def train(
    arguments: list[str], folder: Path, n_processes: int = 1, n_devices: int = 1
) -> list[tuple[int, str, str]]:
    """Return exit code, output and standard error of each process."""
    processes = start(arguments, folder, n_processes, n_devices)
    try:
        codes = [process.wait(900) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [
        (code, (folder / f"{index}.out").read_text(), (folder / f"{index}.err").read_text())
        for index, code in enumerate(codes)
    ]


def state(run: Path) -> list[np.ndarray]:
    with np.load(run / "weights" / "snapshot.npz") as file:
        return [file[name] for name in sorted(file.files) if name.isdigit()]


def difference(one: Path, other: Path) -> float:
    """Return the largest difference of a variable, relative to its norm."""
    pairs = list(zip(state(one), state(other), strict=True))
    assert len(pairs) > 20
    return max(
        float(np.linalg.norm(a.astype(float) - b) / max(np.linalg.norm(a.astype(float)), 1e-9))
        for a, b in pairs
    )


def lines(text: str) -> list[str]:
    """Return the lines that convscope wrote, without those of the libraries."""
    ours = ("error:", "Process ", "Training on", "Resuming", "Run folder")
    return [line for line in text.splitlines() if line.startswith(ours)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    ((code, _, problem),) = train([*SETTINGS, "--out", str(folder / "run")], folder)
    assert code == 0, problem
    return folder / "run"


def same_history(one: Path, other: Path) -> None:
    histories = [read_history(run / "weights" / "snapshot.npz") for run in (one, other)]
    for a, b in zip(*histories, strict=True):
        for key in ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"):
            assert a[key] == pytest.approx(b[key], rel=1e-4, abs=1e-6), key


@pytest.mark.parametrize(("n_processes", "n_devices"), [(2, 1), (4, 1), (2, 2), (1, 4)])
def test_several_devices_train_as_one_does(alone, n_processes, n_devices, tmp_path):
    out = ["--devices", "all", "--json", "--out", str(tmp_path / "run")]
    first, *others = train([*SETTINGS, *out], tmp_path, n_processes, n_devices)
    assert [first[0], *(code for code, _, _ in others)] == [0] * n_processes, first[2]
    assert difference(alone, tmp_path / "run") < 1e-5
    same_history(alone, tmp_path / "run")
    # One process reports.
    assert json.loads(first[1])["run"] == str(tmp_path / "run")
    total = n_processes * n_devices
    assert f"steps of 96 images, {96 // total} on each device" in first[2]
    for index, (_, printed, said) in enumerate(others, 1):
        assert printed == ""
        assert lines(said) == [f"Process {index} of {n_processes}; process 0 reports"]
    trained_on = {"devices": total, "processes": n_processes}
    assert Run(tmp_path / "run").state["trained_on"] == trained_on


# The first process alone trains the head; then all of them the last stage.
TUNED = ["--data", "digits", "--model", "efficientnet_lite0", "--recipe", "finetune", "--no-test"]
TUNED += ["--image-size", "32", "--batch-size", "96", "--precision", "float32", "--epochs", "2"]
TUNED += [
    "--set",
    "optimizer.name=sgd",
    "--lr",
    "0.001",
    "--set",
    "backbone.head_learning_rate=0.05",
]


def layers(run: Path) -> list[np.ndarray]:
    with zipfile.ZipFile(run / "weights" / "last.keras") as file:
        content = io.BytesIO(file.read("model.weights.h5"))
    found: list[np.ndarray] = []
    with h5py.File(content) as weights:
        weights.visititems(lambda _, it: found.append(it[()]) if hasattr(it, "shape") else None)
    return found


@pytest.fixture(scope="module")
def tuned_alone(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tuned")
    ((code, _, problem),) = train([*TUNED, "--out", str(folder / "run")], folder)
    assert code == 0, problem
    return folder / "run"


@pytest.mark.parametrize(("n_processes", "n_devices"), [(2, 1), (1, 2)])
def test_several_devices_tune_a_backbone_as_one_does(tuned_alone, n_processes, n_devices, tmp_path):
    out = ["--devices", "all", "--out", str(tmp_path / "run")]
    for code, _, problem in train([*TUNED, *out], tmp_path, n_processes, n_devices):
        assert code == 0, problem
    same_history(tuned_alone, tmp_path / "run")
    history = read_history(tmp_path / "run" / "weights" / "snapshot.npz")
    assert [row["phase"] for row in history] == ["head"] * 4 + ["after stage4"] * 2
    pairs = list(zip(layers(tuned_alone), layers(tmp_path / "run"), strict=True))
    assert len(pairs) > 100
    for mine, theirs in pairs:
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5 * max(1, np.abs(mine).max()))


@pytest.fixture(scope="module", params=[0, 1])
def bereft(request, tmp_path_factory) -> Path:
    """Return a run of two processes of which one was killed in the second epoch."""
    folder = tmp_path_factory.mktemp(f"lost{request.param}")
    run = folder / "run"
    processes = start([*SETTINGS, "--devices", "all", "--out", str(run)], folder, 2)
    try:
        until = time.monotonic() + 900
        while not (run / "results.csv").exists():
            assert time.monotonic() < until
            assert all(process.poll() is None for process in processes)
            time.sleep(0.02)
        processes[request.param].send_signal(signal.SIGKILL)
        left = processes[1 - request.param]
        code = left.wait(60)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    said = lines((folder / f"{1 - request.param}.err").read_text())
    assert code == 1, said
    assert f"process {1 - request.param} of 2 lost another one" in said[-1]
    if request.param == 1:
        assert f"convscope train --resume {run} --devices all" in said[-1]
    assert Run(run).status == ("killed", "failed")[request.param]
    assert len(read_history(run / "weights" / "snapshot.npz")) == 1
    return run


@pytest.mark.parametrize("n_processes", [1, 3])
def test_a_training_that_lost_a_process_goes_on_in_any_number(alone, bereft, n_processes, tmp_path):
    run = shutil.copytree(bereft, tmp_path / "run")
    again = ["--resume", str(run), "--no-test", "--devices", "all"]
    for code, _, problem in train(again, tmp_path, n_processes):
        assert code == 0, problem
    assert difference(alone, run) < 1e-5
    same_history(alone, run)


def test_all_end_if_the_first_cannot_begin(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "file").touch()
    ended = train([*SETTINGS, "--devices", "all", "--out", str(tmp_path / "run")], tmp_path, 2)
    assert [code for code, _, _ in ended] == [2, 1]
    assert "exists and is not empty" in lines(ended[0][2])[-1]
    assert "process 0 could not begin: " in lines(ended[1][2])[-1]
