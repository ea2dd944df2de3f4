"""Studies on a real Ray cluster, whose nodes are processes of their own on this machine."""

import csv
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ray_cluster import cluster_of, kill, until

import brightness
import convscope
from convscope.errors import ConfigError
from convscope.progress import Progress
from convscope.run import Run
from convscope.storage import cache_dir
from convscope.studies.executor import LocalExecutor

pytest.importorskip("ray")

STUDY = {
    "models": ["cnn-sequential", "cnn-functional"],
    "data": "digits",
    "epochs": 2,
    "settings": {"precision": "float32"},
}

PROGRAM = """
import sys
import convscope
study = {study!r}
cluster = convscope.on_ray(sys.argv[1], threads=1)
convscope.compare(**study, seeds=6, out=sys.argv[2], executor=cluster)
"""


class Listening(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def test_a_study_on_a_cluster_shows_its_progress_and_its_errors(tmp_path, monkeypatch):
    # With one core all is done by one worker, and to start another would take longer.
    with cluster_of(tmp_path, head_cores=1) as cluster:
        with pytest.raises(ConfigError, match=r"no node of the Ray cluster has 99 cores"):
            convscope.on_ray(cluster.address, threads=99)
        require_same_answers(tmp_path, cluster.address)
        executor = convscope.on_ray(cluster.address, threads=1)
        said = Listening()
        monkeypatch.chdir(tmp_path)
        done = convscope.compare(
            **{**STUDY, "epochs": 1}, seeds=1, out="study", executor=executor, progress=said
        )
    trials = [trial for arm in done.arms for trial in arm.trials]
    assert [trial.failure for trial in trials] == [None, None]
    # The styles are one network.
    assert len({trial.val_accuracy for trial in trials}) == 1
    for number, name in enumerate(("cnn-sequential", "cnn-functional"), 1):
        assert any(line.startswith(f"Run {number} of 2: {name}, seed 83 [") for line in said.lines)
        assert any(line.startswith(f"  [{number}] epoch 1/1: ") for line in said.lines)
    assert all(Run(done.path / trial.run).status == "finished" for trial in trials)


def require_same_answers(folder: Path, address: str) -> None:
    """Predict images by path and images of an archive on a cluster, and compare with this one."""
    model = brightness.export(folder / "brightness.onnx")
    files = brightness.write_images(folder / "images", 40)
    with zipfile.ZipFile(folder / "images.zip", "w") as packed:
        for file in files:
            packed.write(file, file.name)
    setting = {"images": [folder / "images", folder / "images.zip"], "batch_size": 16}
    local = list(convscope.predict(model, progress=Progress(), **setting))
    assert list(convscope.predict(model, progress=Progress(), ray=address, **setting)) == local
    assert len(local) == 80


def test_without_a_cluster_it_says_how_to_start_one():
    with pytest.raises(ConfigError, match=r"no Ray cluster answers at '127\.0\.0\.1:1' .* --head$"):
        convscope.on_ray("127.0.0.1:1")


@pytest.mark.slow
def test_a_study_at_an_address_needs_no_shared_folder(tmp_path):
    address = f"file://{tmp_path / 'bucket'}/study"
    with cluster_of(tmp_path, head_cores=2) as cluster:
        executor = convscope.on_ray(cluster.address, threads=1)
        done = convscope.compare(
            **{**STUDY, "epochs": 1}, seeds=1, out=address, executor=executor, progress=Progress()
        )
    trials = [trial for arm in done.arms for trial in arm.trials]
    assert [trial.failure for trial in trials] == [None, None]
    in_bucket = tmp_path / "bucket" / "study"
    assert all(Run(in_bucket / trial.run).status == "finished" for trial in trials)
    # Each job had a copy of its own, as on hosts that share no disk.
    records = [json.loads(file.read_text()) for file in cache_dir().glob("remote/*/files.json")]
    assert sorted(record["address"] for record in records) == sorted(
        [address, *(f"{address}/{trial.run}" for trial in trials)]
    )


@pytest.mark.slow
def test_a_lost_worker_and_a_killed_program_lose_no_trial_and_change_no_number(tmp_path):
    local = convscope.compare(
        **STUDY, seeds=6, out=tmp_path / "local", executor=LocalExecutor(1), progress=Progress()
    )
    out = tmp_path / "study"
    script = tmp_path / "study.py"
    script.write_text(PROGRAM.format(study=STUDY))

    def finished() -> list[Path]:
        runs = sorted((out / "runs").glob("*/run.json"))
        return [file.parent for file in runs if Run(file.parent).status == "finished"]

    with cluster_of(tmp_path, head_cores=0) as cluster:
        first, _ = cluster.add_worker(), cluster.add_worker()

        def start() -> subprocess.Popen[bytes]:
            command = [sys.executable, str(script), cluster.address, str(out)]
            with (tmp_path / "program.log").open("ab") as log:
                return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

        program = start()
        until(lambda: len(finished()) >= 3, 300, "three trials")
        kill(first)
        until(lambda: len(finished()) >= 6, 300, "three trials more on the other worker")
        kill(program)
        kept = {run: (run / "weights/last.keras").stat().st_mtime_ns for run in finished()}
        assert 6 <= len(kept) < 12
        cluster.add_worker()
        program = start()
        assert program.wait(timeout=600) == 0, (tmp_path / "program.log").read_text()

    assert len(finished()) == 12
    # What was finished was not trained again.
    assert kept == {run: (run / "weights/last.keras").stat().st_mtime_ns for run in kept}
    remote = convscope.Comparison.read(out)
    for ours, theirs in zip(local.arms, remote.arms, strict=True):
        assert [trial.seed for trial in theirs.trials] == list(range(83, 89))
        assert [trial.val_accuracy for trial in ours.trials] == [
            trial.val_accuracy for trial in theirs.trials
        ]
        for mine, other in zip(ours.trials, theirs.trials, strict=True):
            runs = [Run(tmp_path / "local" / mine.run), Run(out / other.run)]
            assert len({run.weights_sha256("last") for run in runs}) == 1
            table = (out / other.run / "results.csv").read_text().splitlines()
            assert [row.split(",")[0] for row in table] == ["epoch", "1", "2"]


@pytest.mark.slow
def test_a_search_trains_its_candidates_on_the_cluster(tmp_path):
    photos, rng = tmp_path / "photos", np.random.default_rng(0)
    for name, shade in (("dark", 60), ("light", 190)):
        (photos / name).mkdir(parents=True)
        for index in range(30):
            pixels = rng.normal(shade, 40, (96, 96, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(photos / name / f"{index}.png")
    said = Listening()
    setting = {"data": photos, "image_size": 64, "precision": "float32", "minutes": 3.0}
    with cluster_of(tmp_path, head_cores=2) as cluster:
        executor = convscope.on_ray(cluster.address, threads=1)
        run = convscope.train(**setting, out=tmp_path / "run", executor=executor, progress=said)
    assert run.status == "finished"
    with run.tried_file.open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [row["candidate"] for row in rows]
    assert names[0] == "frozen"
    assert {"larger", "larger-2"} <= set(names)
    assert not any(row["note"] for row in rows)
    networks = ("efficientnet_lite1_2", "efficientnet_lite2")
    starts = [f"Trying {name} at 64 px, frozen [" for name in networks]
    ends = [f"  {name} at 64 px, frozen: " for name in networks]

    def places(beginnings: list[str]) -> list[int]:
        found = (i for each in beginnings for i, line in enumerate(said.lines) if each in line)
        return list(found)

    # Both at once.
    assert len(places(starts)) == len(places(ends)) == 2
    assert max(places(starts)) < min(places(ends))
