"""A run that is killed at any moment ends with the weights of one that never stopped."""

import contextlib
import os
import random
import resource
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from killing import assert_same, at_rename, start, train_until_killed

import convscope
from convscope.errors import ConfigError, DataError, RunError, StorageError
from convscope.planning.plan import run_config
from convscope.progress import Progress
from convscope.run import Run
from convscope.training import snapshot
from convscope.training.results import read_results

EPOCHS = 4
TRAIN = {
    "model": "cnn-subclassing",
    "data": "digits",
    "epochs": EPOCHS,
    "precision": "float32",
    # A third of the images: with a smaller batch at the end, each run is traced twice.
    "batch_size": 383,
}


def train(out: Path | None, **changes) -> Run:
    return convscope.train(out=out, **{**TRAIN, "progress": Progress(), **changes})


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Run:
    return train(tmp_path_factory.mktemp("runs") / "uninterrupted")


# Dies when half of a snapshot has been written.
MID_WRITE = """
    import convscope.training.snapshot as snapshot
    savez, seen = snapshot.np.savez, []
    def dying(path, **arrays):
        seen.append(path)
        savez(path, **arrays)
        if len(seen) == {nth}:
            with open(path, "r+b") as file: file.truncate(path.stat().st_size // 2)
            die()
    snapshot.np.savez = dying
"""


@pytest.mark.parametrize(
    "patch",
    [
        pytest.param(MID_WRITE.format(nth=2), id="mid-snapshot", marks=pytest.mark.slow),
        pytest.param(
            at_rename("snapshot.npz", nth=1, when="before"),
            id="first-snapshot",
            marks=pytest.mark.slow,
        ),
        pytest.param(at_rename("snapshot.npz", nth=3, when="after"), id="snapshot"),
        pytest.param(
            at_rename("best.keras", nth=2, when="after"), id="best", marks=pytest.mark.slow
        ),
        pytest.param(
            at_rename("results.csv", nth=2, when="before"), id="table", marks=pytest.mark.slow
        ),
        pytest.param(
            at_rename("last.keras", nth=1, when="before"), id="last", marks=pytest.mark.slow
        ),
        pytest.param(
            at_rename("classes.json", nth=1, when="before"), id="unborn", marks=pytest.mark.slow
        ),
    ],
)
def test_killed_around_a_write(tmp_path, uninterrupted, patch):
    out = tmp_path / "run"
    train_until_killed(out, TRAIN, patch)
    assert Run.open(out).status in ("killed", "created")
    assert_same(train(out, resume=True), uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_killed_at_random_moments(tmp_path, uninterrupted, seed):
    out = tmp_path / "run"
    chance = random.Random(seed)
    state = out / "run.json"
    process = start(out, TRAIN)
    while not state.exists() and process.poll() is None:
        time.sleep(0.005)
    # Training takes a second or two from here.
    time.sleep(chance.uniform(0, 1.5))
    process.kill()
    process.wait()
    assert_same(train(out, resume=True), uninterrupted)


class CtrlC(Progress):
    """Presses Ctrl-C in the second epoch."""

    @contextlib.contextmanager
    def task(self, label, total, unit):
        def step(n, note=""):
            if label.startswith("epoch 2/"):
                signal.raise_signal(signal.SIGINT)

        yield step


def test_ctrl_c_and_a_larger_number_of_epochs(tmp_path, uninterrupted):
    out = tmp_path / "run"
    # A test runner in the background may ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            train(out, epochs=EPOCHS - 2, progress=CtrlC())
    finally:
        signal.signal(signal.SIGINT, before)
    run = Run.open(out)
    assert run.status == "interrupted"
    assert len(read_results(run.results_file)) == 1
    finished = train(out, epochs=EPOCHS - 2, resume=True)
    assert len(read_results(finished.results_file)) == EPOCHS - 2
    assert len(finished.state["test_openings"]) == 1

    grown = train(out, resume=True)
    assert_same(grown, uninterrupted)
    assert run_config(grown) == run_config(uninterrupted)
    assert len(grown.state["test_openings"]) == 2


def test_a_full_disk_stops_the_run_and_resume_goes_on(tmp_path, uninterrupted, monkeypatch):
    out = tmp_path / "run"
    # A limit on the size of files, raised once the run is under way, is the full disk that needs
    # no rights: the snapshot (7 MB with the optimiser's state) does not fit, the rest does.
    savez, seen = np.savez, []
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def full(path, **arrays):
        seen.extend([path] if "snapshot" in str(path) else [])
        if len(seen) == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
        savez(path, **arrays)

    by_size = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        monkeypatch.setattr(snapshot.np, "savez", full)
        with pytest.raises(StorageError, match="snapshot"):
            train(out)
    finally:
        monkeypatch.setattr(snapshot.np, "savez", savez)
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, by_size)
    run = Run.open(out)
    assert run.status == "failed"
    assert not list(run.weights_dir.glob(".*"))
    assert len(read_results(run.results_file)) == 1
    assert_same(train(out, resume=True), uninterrupted)


def test_config_alone_reproduces_the_run_to_the_bit(tmp_path, uninterrupted):
    run = convscope.train(
        config=uninterrupted.config_file, out=tmp_path / "run", progress=Progress()
    )
    assert_same(run, uninterrupted)


def test_another_seed_gives_other_bits(tmp_path, uninterrupted):
    first, other = (
        read_results(run.results_file)[0]["loss"]
        for run in (uninterrupted, train(tmp_path / "other", seed=84, epochs=1, test=False))
    )
    assert other != first


def copied(run: Run, folder: Path) -> Run:
    return Run(shutil.copytree(run.path, folder / "run"))


def test_resume_of_a_finished_run_trains_nothing(tmp_path, uninterrupted):
    run = copied(uninterrupted, tmp_path)
    before = run.snapshot_file.stat().st_mtime_ns
    again = train(run.path, resume=True)
    assert again.snapshot_file.stat().st_mtime_ns == before
    assert len(again.state["test_openings"]) == 1


def test_what_resume_refuses(tmp_path, uninterrupted):
    with pytest.raises(ConfigError, match="only --epochs may be raised and --refit added"):
        train(uninterrupted.path, seed=99, resume=True)
    with pytest.raises(RunError, match="does not exist"):
        train(None, resume=tmp_path / "none")
    with pytest.raises(RunError, match="not empty"):
        train(uninterrupted.path)
    with (
        uninterrupted.training_lock(),
        pytest.raises(RunError, match="another process"),
    ):
        train(uninterrupted.path, resume=True)


def test_a_damaged_snapshot_is_refused(tmp_path, uninterrupted):
    run = copied(uninterrupted, tmp_path)
    content = run.snapshot_file.read_bytes()
    for damage in (b"", content[: len(content) // 2], b"not a zip file at all"):
        run.snapshot_file.write_bytes(damage)
        with pytest.raises(RunError, match="damaged"):
            train(run.path, epochs=EPOCHS + 1, resume=True)


def test_changed_data_is_noticed_on_resume(tmp_path, uninterrupted):
    run = copied(uninterrupted, tmp_path)
    lines = run.split_file.read_text().splitlines()
    lines[5] = lines[5][:-16] + "0" * 16
    run.split_file.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match="1 differ"):
        train(run.path, epochs=EPOCHS + 1, resume=True)
    assert os.listdir(run.path)
