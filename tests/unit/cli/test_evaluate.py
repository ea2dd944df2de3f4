"""`convscope evaluate`: derives where it can, opens the test set where it must, and logs that."""

import errno
import json
import os
import shutil
import tempfile

import keras
import numpy as np
import pytest

from convscope.ledger import Ledger
from convscope.run import Run


@pytest.fixture
def run(digits_run, tmp_path) -> Run:
    shutil.copytree(digits_run, tmp_path / "copy")
    return Run(tmp_path / "copy")


def test_json_is_the_metrics_and_nothing_else(cli, run):
    before = json.loads(run.metrics_file.read_text())
    run.metrics_file.unlink()
    done = cli("evaluate", run.path, "--json")
    assert done.code == 0
    assert json.loads(done.out) == before == run.metrics
    assert 0.5 < before["test"]["accuracy"] <= 1
    assert before["test"]["n_images"] == 360


def test_numbers_and_pictures_come_from_what_is_saved_without_the_model(cli, run):
    before = run.state["test_openings"]
    assert [opening["by"] for opening in before] == ["train"]
    for path in (run.metrics_file, run.confusion_picture, run.confusion_table):
        path.unlink()
    saved = run.predictions_file.stat().st_mtime_ns
    assert cli("evaluate", run.path).code == 0
    assert run.state["test_openings"] == before
    assert run.predictions_file.stat().st_mtime_ns == saved
    assert run.confusion_picture.read_bytes().startswith(b"\x89PNG")
    rows = [line.split(",") for line in run.confusion_table.read_text().splitlines()]
    counts = [[int(count) for count in row[1:]] for row in rows[1:]]
    right = sum(counts[index][index] for index in range(10))
    assert right / sum(map(sum, counts)) == run.metrics["test"]["accuracy"]


def test_fresh_and_other_weights_open_the_test_set_and_say_so(cli, run):
    saved = run.metrics
    done = cli("evaluate", run.path, "--fresh")
    assert done.code == 0
    assert "test images opened 2 times in this run" in done.out
    assert run.metrics == saved
    assert cli("evaluate", run.path, "--weights", "best").code == 0
    assert run.metrics == saved
    openings = run.state["test_openings"]
    assert [opening["by"] for opening in openings] == ["train", "evaluate", "evaluate"]
    assert [opening["weights"] for opening in openings] == ["last", "last", "best"]
    assert {opening["n_images"] for opening in openings} == {360}
    # What was written of best is convscope's own, so it does not keep the run from removal.
    assert (run.path / "confusion_matrix-best.png").exists()
    assert run.foreign_names() == set()
    # Those of best are kept now, so asking again opens nothing.
    assert cli("evaluate", run.path, "--weights", "best").code == 0
    assert run.state["test_openings"] == openings


def test_each_class_is_listed_with_its_numbers(cli, run):
    lines = cli("evaluate", run.path).out.splitlines()
    assert lines[0].split() == ["class", "precision", "recall", "F1", "images"]
    for name, line in zip("0123456789", lines[1:11], strict=True):
        row = run.metrics["test"]["per_class"][name]
        numbers = [f"{row[key]:.3f}" for key in ("precision", "recall", "f1")]
        assert line.split() == [name, *numbers, str(row["n_images"])]


def test_sealed_test_images_stay_sealed_and_each_class_is_judged_by_validation_images(cli, run):
    before, found = run.state["test_openings"], run.metrics["val"]["per_class"]
    run.predictions_file.unlink()
    lines = cli("evaluate", run.path, "--no-test").out.splitlines()
    assert run.state["test_openings"] == before
    assert "test" not in run.metrics
    assert lines[0] == "on validation images:"
    assert lines[2].split()[-1] == str(found["0"]["n_images"])
    assert not any(line.startswith("test accuracy") for line in lines)


def test_results_that_are_the_same_keep_their_date(cli, run):
    # Exports and answers from before a file's date are called old.
    os.utime(run.metrics_file, (1_000_000_000, 1_000_000_000))
    assert cli("evaluate", run.path, "--no-test").code == 0
    assert run.metrics_file.stat().st_mtime == 1_000_000_000
    run.metrics_file.write_text("{}")
    assert cli("evaluate", run.path).code == 0
    assert run.metrics["test"]["n_images"] == 360


def test_damaged_predictions_name_the_remedy_and_it_works(cli, fails, run):
    content = run.predictions_file.read_bytes()
    for damage in (b"", b"PAR1 nonsense PAR1", content[: len(content) // 2], content[:-9] + b"x"):
        run.predictions_file.write_bytes(damage)
        line = fails(2, "evaluate", run.path)
        assert "predictions.parquet is damaged" in line
        assert "--fresh" in line
    assert cli("evaluate", run.path, "--fresh").code == 0
    assert cli("evaluate", run.path).code == 0


def test_changed_weights_are_not_judged_by_old_predictions(cli, run):
    n_before = len(run.state["test_openings"])
    model = keras.saving.load_model(run.weights("last"))
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    model.save(run.weights("last"))
    assert cli("evaluate", run.path).code == 0
    assert len(run.state["test_openings"]) == n_before + 1
    assert run.metrics["test"]["accuracy"] < 0.2
    assert run.metrics["test"]["loss"] == pytest.approx(np.log(10), abs=1e-4)


def test_what_is_refused(fails, run, tmp_path):
    assert "does not exist" in fails(2, "evaluate", "nowhere")
    (tmp_path / "empty").mkdir()
    assert "it holds no run.json" in fails(2, "evaluate", tmp_path / "empty")
    # Its predictions are saved, and yet the place that is named is looked at.
    assert "there is no folder /no/such" in fails(2, "evaluate", run.path, "--data", "/no/such")
    line = fails(2, "evaluate", run.path, "--weights", "bets")
    assert "unknown weights 'bets'; did you mean 'best'?" in line
    content = run.weights("last").read_bytes()
    run.weights("last").write_bytes(content[: len(content) // 2])
    assert "last.keras is damaged" in fails(2, "evaluate", run.path)
    run.weights("last").unlink()
    assert f"--resume {run.path}" in fails(2, "evaluate", run.path)
    run.write_json(run.state_file, {**run.state, "format": 2})
    assert "newer convscope" in fails(2, "evaluate", run.path)
    run.state_file.write_text("{")
    assert "run.json is damaged" in fails(2, "evaluate", run.path)


def test_on_other_images_it_prints_the_figures_or_json(cli, run):
    done = cli("evaluate", run.path, "--on", "digits")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    # All that is left of its own images are those of the test.
    new, test = (next(line for line in lines if line.startswith(name)) for name in ("new ", "test"))
    assert new[4:] == test[4:]
    assert "left out: 1,437 images that the run was trained or chosen by" in lines
    assert "test images of the run among them: 360" in lines
    assert f"results           {run.path.relative_to(run.path.parent)}/evaluations/digits" in lines
    found = json.loads(cli("evaluate", run.path, "--on", "digits", "--json").out)
    assert found["new"]["accuracy"] == run.metrics["test"]["accuracy"]
    assert [path.name for path in run.evaluations_dir.iterdir()] == ["digits"]


def test_options_of_own_and_of_other_images_are_kept_apart(fails):
    for option in ("--fresh", "--no-test", "--data=x"):
        line = fails(2, "evaluate", "mine", "--on", "photos", option)
        assert f"{option.partition('=')[0]} is for the run's own images" in line
    assert "give --on DATA too" in fails(2, "evaluate", "mine", "--out", "x")
    assert "convscope evaluate x.onnx --on DATA" in fails(2, "evaluate", "x.onnx")


def test_a_run_is_found_by_its_name_below_runs(cli, run, tmp_path):
    shutil.move(run.path, tmp_path / "runs" / "mine")
    done = cli("evaluate", "mine")
    assert done.code == 0
    assert "runs/mine" in done.out


def test_a_folder_called_like_the_dataset_does_not_take_its_place(cli, run, tmp_path):
    # As after: convscope train --data digits --out digits
    shutil.move(run.path, tmp_path / "digits")
    done = cli("evaluate", "digits", "--fresh")
    assert done.code == 0, done.err
    assert cli("data", "show", "digits").code == 0


def test_figures_of_a_run_that_cannot_be_written_to_are_shown(cli, run, monkeypatch):
    make = tempfile.mkstemp

    def refused(*args, **kwargs):
        if run.path in (place := kwargs["dir"], *place.parents):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return make(*args, **kwargs)

    saved = run.metrics
    monkeypatch.setattr("convscope.storage.tempfile.mkstemp", refused)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    done = cli("evaluate", run.path, "--json")
    assert (done.code, json.loads(done.out)) == (0, saved)
    (line,) = done.err.splitlines()
    assert line == f"{run.path} cannot be written to, so these results are shown but not saved."
    done = cli("robustness", run.path, "--severities", "1", "-n", "9", "--json")
    assert (done.code, json.loads(done.out)["n_images"]) == (0, 9)
    assert line in done.err
    # Here the test images would have to be opened, which could not be logged.
    looks = len(Ledger().looks)
    done = cli("evaluate", run.path, "--fresh")
    assert done.code == 1
    assert len(Ledger().looks) == looks
    assert done.err.splitlines()[-1].startswith(f"error: cannot write {run.state_file} (Read-only")
    after = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    assert {key: after[key] for key in before} == before
    assert {path.name for path in after.keys() - before.keys()} <= {".state.lock"}
