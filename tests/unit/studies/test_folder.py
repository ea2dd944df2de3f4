"""Folders of studies: where they may be, and what a stopped one may be continued with."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import convscope
from convscope import heartbeat
from convscope.datasets import folder
from convscope.errors import ConvscopeError, LockTakenError, RunError
from convscope.housekeeping.runs import remove_runs
from convscope.progress import Progress
from convscope.run import Run
from convscope.studies.folder import StudyKind

PLACE, STUDY = Path("study"), StudyKind("study", "study.json")

BEGUN: dict[str, Any] = {
    "content": "0123",
    "data_path": "/here/photos",
    "weights": "/here/weights.h5",
    "ways": {"a": {"data_path": "/here/photos", "weights": None, "epochs": 3}},
    "config": {"epochs": 2, "optimizer": {"name": "adam"}},
}


def moved(**changes: object) -> dict[str, object]:
    way = {"data_path": "/there/photos", "weights": "/there/w.h5", "epochs": 3}
    return {**BEGUN, "data_path": "/there/photos", "weights": None, "ways": {"a": way}, **changes}


def test_images_and_weights_may_be_elsewhere_by_now() -> None:
    STUDY.require_same(PLACE, {"asked": BEGUN}, moved())
    STUDY.require_same(PLACE, {"asked": moved()}, BEGUN)
    STUDY.require_same(PLACE, None, BEGUN)


def test_a_study_may_be_older_than_a_setting_that_has_its_usual_value() -> None:
    for now in ({"split": {"near_copies": False}}, {"split.near_copies": False}):
        before: dict[str, Any] = {"split": {}} if "split" in now else {}
        STUDY.require_same(PLACE, {"asked": before}, now)
    now = {"config": {"augment": {"cutout": 0.0}, "head": {"hidden": []}}, "tta.shift": 0.0}
    STUDY.require_same(PLACE, {"asked": {"config": {"augment": {}}}}, now)
    with pytest.raises(RunError, match=r"split\.near_copies False, not True"):
        STUDY.require_same(PLACE, {"asked": {"split": {}}}, {"split": {"near_copies": True}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"content": "4567"}, "study holds a study of other images; choose"),
        ({"data_path": None}, "data_path '/here/photos', not None"),
        ({"weights": "random"}, "weights '/here/weights.h5', not 'random'"),
        ({"ways": {"a": {**BEGUN["ways"]["a"], "epochs": 4}}}, r"ways\.a\.epochs 3, not 4"),
        (
            {"config": {"epochs": 2, "optimizer": {"name": "sgd"}}},
            "with optimizer.name 'adam', not 'sgd'",
        ),
        ({"config": {"epochs": 2, "optimizer": {}}}, "with optimizer.name 'adam', not None"),
    ],
)
def test_anything_else_may_not_change(change: dict[str, object], message: str) -> None:
    with pytest.raises(RunError, match=message):
        STUDY.require_same(PLACE, {"asked": BEGUN}, moved(**change))


def test_a_study_of_other_runs_has_a_folder_of_its_own(tmp_path: Path) -> None:
    usual, first, second = tmp_path / "study-a", {"runs": ["1", "2"]}, {"runs": ["1", "2", "3"]}
    assert STUDY.free_place(usual, first) == usual
    STUDY.write(usual, {"asked": first})
    # The same continues, or is made again.
    assert STUDY.free_place(usual, first) == usual
    assert STUDY.free_place(usual, second) == tmp_path / "study-a-2"
    (tmp_path / "study-a-2").mkdir()
    (tmp_path / "study-a-2" / "notes.partial.txt").touch()
    assert STUDY.free_place(usual, second) == tmp_path / "study-a-3"


@pytest.mark.usefixtures("no_locks")
def test_a_study_at_work_is_seen_without_locks_and_on_other_hosts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.4)
    run = Run(tmp_path)
    Run.write_json(STUDY.state_file(tmp_path), {})
    run.record(status="training")  # as a search
    assert run.status == "killed"
    monkeypatch.setattr(heartbeat, "this_process", lambda: {"host": "elsewhere", "pid": 7})
    with STUDY.locked(tmp_path):
        assert run.status == "training"
        with (
            pytest.raises(LockTakenError, match="being worked on by process 7 on elsewhere"),
            STUDY.locked(tmp_path),
        ):
            pass
        with pytest.raises(RunError, match="is being trained; stop it first"):
            remove_runs([run])
    assert run.status == "killed"
    # All that is left of a study that was killed at its beginning.
    STUDY.state_file(tmp_path).unlink()
    run.state_file.unlink()
    (tmp_path / ".state.lock").unlink()
    (tmp_path / ".heartbeat").touch()
    STUDY.require_free(tmp_path)


@pytest.mark.parametrize("state", [{}, {"asked": []}, {"asked": None}])
def test_a_state_without_settings_is_damaged(state: dict[str, object]) -> None:
    with pytest.raises(RunError, match="study.json is damaged; choose another --out"):
        STUDY.require_same(PLACE, state, BEGUN)


COMMANDS: dict[str, Callable[..., object]] = {
    "train": lambda **place: convscope.train("cnn-sequential", **place),
    "train, a search": lambda **place: convscope.train(recipe="auto", **place),
    "train, folds": lambda **place: convscope.train("cnn-sequential", folds=3, **place),
    "compare": lambda **place: convscope.compare(["cnn-sequential", "cnn-functional"], **place),
    "ladder": lambda **place: convscope.ladder("mobilenet_v2", weights="random", **place),
    "tune": lambda **place: convscope.tune("cnn-sequential", **place),
    "suspects": lambda **place: convscope.suspects(**place),
    "tutorial": lambda **place: convscope.tutorial(weights="random", **place),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_that_cannot_be_used_is_refused_before_the_images_are_read(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*given: object, **more: object) -> None:
        pytest.fail("the images were read")

    monkeypatch.setattr(folder, "pack_images", read)
    photos, mine = tmp_path / "photos", tmp_path / "mine"
    for name in ("cat", "dog"):
        (photos / name).mkdir(parents=True)
        for number in range(5):
            pixels = np.full((8, 8, 3), number, np.uint8)
            Image.fromarray(pixels).save(photos / name / f"{number}.png")
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    settings = tmp_path / "settings" / "config.yaml"
    settings.parent.mkdir()
    settings.write_text("epochs: 3")

    def says(out: Path | None) -> str:
        with pytest.raises(ConvscopeError) as error:
            COMMANDS[command](data=photos, out=out, progress=Progress())
        return str(error.value)

    assert "not empty" in says(mine)
    assert "not empty" in says(settings.parent)
    assert settings.read_text() == "epochs: 3"
    assert "is a file" in says(mine / "thesis.txt")
    assert "there is a file where a folder must be" in says(mine / "thesis.txt" / "run")
    assert "would be inside the data folder" in says(photos / "run")
    monkeypatch.chdir(photos)
    assert "would be inside the data folder" in says(None)
    assert [path.name for path in mine.iterdir()] == ["thesis.txt"]
    assert sorted(os.listdir(tmp_path)) == ["mine", "photos", "settings"]
    assert os.listdir(settings.parent) == ["config.yaml"]
    assert sorted(os.listdir(photos)) == ["cat", "dog"]
