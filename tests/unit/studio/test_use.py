"""What the page of use names: the newest export of a run, and how it is used elsewhere."""

import json
import os
import shutil
from pathlib import Path

import pytest

from convscope.export import FORMATS
from convscope.studio.use import (
    answer_in,
    exported_last,
    may_reject,
    only_run,
    place_words,
    reason_in,
    usage_of,
)
from convscope.studio.workplace import Workplace

OLD_RUN = Path(__file__).parents[2] / "data" / "run-of-version-0.1"


@pytest.fixture
def place(tmp_path):
    shutil.copytree(OLD_RUN, tmp_path / "runs" / "old")
    return Workplace(tmp_path / "runs")


def exported(place: Workplace, number: int, form: str, path: Path) -> None:
    """Write the folder of a job of the studio that exported the run "old", and its file."""
    folder = place.own / "jobs" / f"2026010{number}-0-export"
    folder.mkdir(parents=True)
    order = {"words": ["export"], "kind": "export", "about": {"run": "old", "format": form}}
    (folder / "job.json").write_text(json.dumps(order))
    (folder / "output.txt").write_text(json.dumps({"path": str(path)}))
    (folder / "ended.json").write_text(json.dumps({"at": "", "code": 0}))
    path.parent.mkdir(exist_ok=True)
    path.touch()


def test_images_may_be_rejected_where_a_threshold_was_chosen(place):
    run = place.run("old")
    assert not may_reject(run)
    whole = {**run.metrics, "rejection": {"by": "energy", "threshold": 1.0}}
    run.metrics_file.write_text(json.dumps(whole))
    assert may_reject(place.run("old"))
    run.metrics_file.write_text("{")
    assert not may_reject(place.run("old"))


def test_the_commands_name_what_was_exported_last(place):
    run = place.run("old")
    assert exported_last(place, run) is None
    (_, predict), (_, python) = usage_of(run, None)
    assert predict == f"convscope predict {run.path} photo.jpg"
    assert repr(str(run.path)) in python

    file = run.path / "export" / "old.onnx"
    exported(place, 1, "onnx", file)
    found = exported_last(place, run)
    assert found == ("onnx", file)
    predict, serve, python = (text for _, text in usage_of(run, found))
    assert predict == f"convscope predict {file} photo.jpg"
    assert serve == f"convscope serve {file}"
    assert str(file) in python

    page = run.path / "export" / "old_web"
    exported(place, 2, "web", page)
    assert exported_last(place, run) == ("web", page)
    (_, first), *others = usage_of(run, ("web", page))
    assert first == f"python -m http.server --directory {page}"
    assert [text for _, text in others] == [predict, serve, python]


def test_an_export_from_before_the_last_training_is_not_named(place):
    run = place.run("old")
    file = run.path / "export" / "old.onnx"
    exported(place, 1, "onnx", file)
    os.utime(file, (0, 0))
    assert exported_last(place, run) is None


def test_an_export_to_a_folder_that_is_there_goes_to_another(place):
    run = place.run("old")
    assert place_words(run, "web") == ()
    (run.path / "export" / "old_web").mkdir(parents=True)
    assert place_words(run, "web") == ("--out", run.path / "export" / "old-2_web")
    (run.path / "export" / "old-2_web").mkdir()
    assert place_words(run, "web") == ("--out", run.path / "export" / "old-3_web")
    # A file is replaced.
    (run.path / "export" / "old.onnx").touch()
    assert place_words(run, "onnx") == ()


def test_every_format_but_that_of_convscope_itself_says_how_it_is_used():
    for name in FORMATS.names():
        usage = FORMATS.get(name)().usage
        assert (usage is None) == (name == "onnx"), name
        if usage is not None:
            assert "x y_z" in usage(Path("x y_z")), name


def test_answers_are_in_the_words_that_predict_has():
    assert answer_in({"class": "cat"}) == "cat"
    assert answer_in({"class": None}) == "none of these"
    assert answer_in({"classes": ["cat", "dog"]}) == "cat + dog"
    assert answer_in({"classes": []}) == "no class"


def test_an_unreadable_image_is_named_as_its_owner_knows_it():
    image = "runs/.studio/uploads/20261129-142903-96be68d4/empty.png"
    skipped = {"image": image, "reason": f"{image} is empty (0 bytes)"}
    assert reason_in(skipped) == "empty.png is empty (0 bytes)"


def test_the_only_trained_run_is_not_asked_for(place):
    assert only_run(place) == "old"
    shutil.copytree(OLD_RUN, place.root / "other")
    assert only_run(place) == ""
    (place.root / "other" / "metrics.json").unlink()
    assert only_run(place) == "old"
