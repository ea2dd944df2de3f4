"""`train --folds`: every image judged once by a network that did not learn it; one number."""

import csv
import datetime
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convscope
from convscope.cli import main
from convscope.datasets.division.splits import read_split
from convscope.errors import ConfigError, RunError, TrainingError
from convscope.evaluation.folds import folded_accuracy
from convscope.evaluation.metrics import wilson
from convscope.evaluation.predictions import read_predictions
from convscope.ledger import Ledger
from convscope.progress import Progress
from convscope.run import Run
from convscope.studies import folds as study
from convscope.studies.executor import Job, LocalExecutor, Outcome, Unwanted

OPTIONS = {
    "model": "cnn-sequential",
    "folds": 3,
    "epochs": 2,
    "precision": "float32",
    "progress": Progress(),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two classes of twenty-one images, of which two are there twice."""
    root = tmp_path_factory.mktemp("folds") / "birds"
    rng = np.random.default_rng(0)
    for label, name in enumerate(("eagle", "finch")):
        (root / name).mkdir(parents=True)
        for number in range(20):
            pixels = rng.integers(0, 90, (12, 12, 3), dtype=np.uint8)
            pixels[:, 5 * label : 5 * label + 4] = 230
            Image.fromarray(pixels).save(root / name / f"{number}.png")
            if number == 0:
                Image.fromarray(pixels).save(root / name / "copy.png")
    return root


@pytest.fixture(scope="module")
def validated(folder, tmp_path_factory) -> tuple[Path, list[str]]:
    """By the command line."""
    out = tmp_path_factory.mktemp("validated") / "birds"
    arguments = ["--data", folder, "--model", "cnn-sequential", "--folds", 3, "--epochs", 2]
    arguments += ["--precision", "float32"]
    with pytest.MonkeyPatch.context() as patch:
        # In this process: one for each job would take longer than the training.
        patch.setattr(study, "LocalExecutor", lambda: LocalExecutor(own_process=False))
        patch.setenv("CONVSCOPE_CACHE", str(tmp_path_factory.mktemp("folds-cache")))
        lines = command(patch, "train", *arguments, "--out", out)
    return out, lines


def command(patch, *arguments: object) -> list[str]:
    import contextlib
    import io

    patch.setattr(sys, "argv", ["convscope", *map(str, arguments)])
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    return printed.getvalue().splitlines()


class Here:
    """Executor in this process, which is quicker; `trained` names what it was left to train."""

    def __init__(self, *, stop_before: str | None = None) -> None:
        self.trained: list[str] = []
        self._stop_before = stop_before

    def outcomes(
        self, jobs: Sequence[Job], progress: Progress, unwanted: Unwanted | None = None
    ) -> Iterator[tuple[Job, Outcome]]:
        for job in jobs:
            if job.folder.name == self._stop_before:
                raise KeyboardInterrupt
            run = Run(job.folder)
            if not run.state_file.exists() or run.status != "finished":
                self.trained.append(job.folder.name)
            yield from LocalExecutor(own_process=False).outcomes([job], progress)


class Failing:
    """Executor whose first job fails."""

    def outcomes(
        self, jobs: Sequence[Job], progress: Progress, unwanted: Unwanted | None = None
    ) -> Iterator[tuple[Job, Outcome]]:
        yield jobs[0], Outcome(Run(jobs[0].folder), "the loss is nan", permanent=True)


def runs_of(path: Path) -> list[Run]:
    return [Run(path / "folds" / str(fold)) for fold in range(3)]


def test_every_image_is_judged_once_by_a_network_that_did_not_learn_it(validated, folder):
    out, _ = validated
    files = {str(path.relative_to(folder)) for path in folder.rglob("*.png")}
    said = read_predictions(out / "predictions.parquet")[0]["test"]
    assert sorted(said.ids.tolist()) == sorted(files)
    judged = []
    for run in runs_of(out):
        rows = read_split(run.split_file)
        hashes = {part: set() for part in ("train", "val", "test")}
        for row in rows:
            hashes[row["split"]].add(row["sha256_16"])
        assert {row["id"] for row in rows} == files
        # Nothing that was learnt or chosen by is judged, a copy of it neither.
        assert not hashes["test"] & (hashes["train"] | hashes["val"])
        judged += [row["id"] for row in rows if row["split"] == "test"]
        mine = read_predictions(run.predictions_file)[0]["test"]
        assert set(mine.ids) == {row["id"] for row in rows if row["split"] == "test"}
    assert sorted(judged) == sorted(files)


def test_one_number_comes_out_with_its_interval_and_the_spread(validated):
    out, _ = validated
    metrics = json.loads((out / "metrics.json").read_text())
    parts = [read_predictions(run.predictions_file)[0]["test"] for run in runs_of(out)]
    right = [int(part.right.sum()) for part in parts]
    found = folded_accuracy(
        right, [len(part.labels) for part in parts], wilson(sum(right) / 42, 42)
    )
    assert metrics["accuracy"] == sum(right) / 42 == found.mean
    assert metrics["accuracy_interval_95"] == [found.low, found.high]
    assert metrics["accuracy_sd_between_folds"] == found.sd
    assert metrics["n_images"] == 42
    assert metrics["per_class"]["eagle"]["n_images"] == 21
    for fold, part, run in zip(metrics["folds"], parts, runs_of(out), strict=True):
        assert fold["accuracy"] == part.right.mean()
        assert fold["n_images"] == len(part.labels)
        assert fold["val_accuracy"] == run.metrics["val"]["accuracy"]
    with (out / "folds.csv").open() as file:
        assert [float(row["accuracy"]) for row in csv.DictReader(file)] == [
            fold["accuracy"] for fold in metrics["folds"]
        ]


def test_the_command_prints_a_row_for_each_fold_and_the_number(validated):
    out, lines = validated
    metrics = json.loads((out / "metrics.json").read_text())
    assert lines[0].split() == ["fold", "images", "accuracy", "val", "accuracy"]
    for number, line in enumerate(lines[1:4]):
        fold = metrics["folds"][number]
        assert line.split() == [
            str(number + 1),
            str(fold["n_images"]),
            f"{fold['accuracy']:.4f}",
            f"{fold['val_accuracy']:.4f}",
        ]
    (told,) = (line for line in lines if line.startswith("accuracy"))
    assert told.startswith(f"accuracy {metrics['accuracy']:.4f} (95 % interval ")
    assert "over 42 images, each evaluated once by a network not trained on it" in told


def test_each_fold_is_opened_once_when_all_are_trained(validated):
    out, _ = validated
    openings = [run.state["test_openings"] for run in runs_of(out)]
    assert [[each["by"] for each in opening] for opening in openings] == [["folds"]] * 3
    assert sum(opening[0]["n_images"] for opening in openings) == 42
    last_trained = max(run.weights("last").stat().st_mtime for run in runs_of(out))
    first_opened = min(opening[0]["at"] for opening in openings)
    assert datetime.datetime.fromisoformat(first_opened).timestamp() >= int(last_trained)


def test_the_same_command_trains_and_opens_nothing_again(validated, monkeypatch):
    out, lines = validated
    before = {run.path: run.weights("last").stat().st_mtime_ns for run in runs_of(out)}
    again = command(monkeypatch, "train", "--resume", out)
    assert again == lines
    assert {run.path: run.weights("last").stat().st_mtime_ns for run in runs_of(out)} == before
    assert all(len(run.state["test_openings"]) == 1 for run in runs_of(out))


@pytest.mark.slow
def test_after_a_stop_it_goes_on_with_what_is_trained_and_counts_as_one_look(folder, tmp_path):
    out, stopped = tmp_path / "out", Here(stop_before="1")
    with pytest.raises(KeyboardInterrupt):
        convscope.train(data=folder, out=out, executor=stopped, **OPTIONS)
    assert stopped.trained == ["0"]
    # Nothing was looked at before all are trained.
    assert "test_openings" not in runs_of(out)[0].state
    look = json.loads((out / "folds.json").read_text())["look"]
    here = Here()
    done = convscope.train(out=out, resume=True, executor=here, progress=Progress())
    assert here.trained == ["1", "2"]
    assert isinstance(done, convscope.CrossValidation)
    assert done.accuracy.n_images == 42
    assert json.loads((out / "folds.json").read_text())["look"] == look
    assert [entry["look"] for entry in Ledger().looks] == [look] * 3
    again = convscope.train(data=folder, out=out, executor=(idle := Here()), **OPTIONS)
    assert idle.trained == []
    assert again.accuracy == done.accuracy
    with pytest.raises(RunError, match=r"holds a cross-validation with epochs 2, not 3;"):
        convscope.train(data=folder, out=out, **{**OPTIONS, "epochs": 3})
    again = convscope.train(folds=3, resume=out, progress=Progress())
    assert again.accuracy == done.accuracy
    with pytest.raises(ConfigError, match="has 3 folds, not 4$"):
        convscope.train(folds=4, resume=out, progress=Progress())
    with pytest.raises(ConfigError, match="to continue it, give --resume alone"):
        convscope.train(out=out, epochs=3, resume=True, progress=Progress())


def test_a_fold_that_cannot_be_trained_is_named(folder, tmp_path):
    with pytest.raises(TrainingError, match="^fold 1 of 3: the loss is nan"):
        convscope.train(data=folder, out=tmp_path / "out", executor=Failing(), **OPTIONS)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"minutes": 5}, "--folds and --minutes"),
        ({"target": 90}, "--folds and --target"),
        ({"trackers": ["tensorboard"]}, "--folds and --tracker"),
        ({"test": False}, "--folds and --no-test"),
        ({"settings": {"split.fold": 1}}, r"'split\.fold' cannot be given with --set here"),
        ({"folds": 1}, r"split\.folds: .* greater than or equal to 2"),
    ],
)
def test_what_does_not_go_with_folds_is_refused_before_there_is_a_folder(
    folder, tmp_path, options, said
):
    with pytest.raises(ConfigError, match=said):
        convscope.train(data=folder, out=tmp_path / "out", **{**OPTIONS, **options})
    assert not (tmp_path / "out").exists()
