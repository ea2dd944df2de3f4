"""A ladder whose rungs are not trained in earnest: what is done again, and what is refused."""

import dataclasses
import json
from collections.abc import Set
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convscope.errors import ConfigError, RunError, TrainingError
from convscope.progress import Progress
from convscope.run import Run
from convscope.studies.executor import Outcome
from convscope.studies.ladder import study as module
from convscope.studies.ladder.rungs import LADDER, Ladder
from convscope.studies.ladder.study import ladder


@pytest.fixture
def climb(tmp_path, monkeypatch):
    """Function that climbs a ladder of three rungs and returns the names of those it trained."""
    for index in range(40):
        name = tmp_path / "photos" / "ab"[index % 2] / f"{index}.png"
        name.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), index, np.uint8)).save(name)
    monkeypatch.setattr(
        module, "_measure", lambda rung, run: dataclasses.replace(rung, val_accuracy=0.5)
    )
    monkeypatch.setattr(module, "_write", module._write_state)
    monkeypatch.setattr(module, "look_of", lambda *_: "look")
    monkeypatch.setattr(module, "evaluate", lambda *_, **__: {"test": {"accuracy": 0.4}})
    monkeypatch.setattr(Run, "metrics", {})

    def climb(losing: Set[int] = frozenset(), **more: object) -> list[str]:
        trained = []

        class Executor:
            def outcomes(self, jobs, progress, unwanted=None):
                for job in jobs:
                    number = int(job.folder.name[:2])
                    if number in losing:
                        yield job, Outcome(Run(job.folder), "its process was killed by signal 9")
                        continue
                    Run(job.folder).record(status="finished")
                    trained.append(job.folder.name)
                    yield job, Outcome(Run(job.folder))

        given = {"data": tmp_path / "photos", "weights": "random", "sizes": (64,), **more}
        ladder(
            "mobilenet_v2",
            **{"until": "64 px", "out": tmp_path / "ladder", **given},
            executor=Executor(),
            progress=Progress(),
        )
        return trained

    return climb


def test_the_test_images_stay_sealed_while_a_rung_can_be_tried_again(climb, tmp_path):
    with pytest.raises(TrainingError, match=r"^rung 2 \(own scaling\) could not be trained this"):
        climb({2})
    left = Ladder.read(tmp_path / "ladder").rungs
    assert [rung.val_accuracy for rung in left] == [0.5, None, 0.5]
    assert [rung.test_accuracy for rung in left] == [None] * 3
    assert climb() == ["02-own-scaling"]
    assert Ladder.read(tmp_path / "ladder").is_finished


def rewrite(path: Path, **changes: object) -> None:
    """Change the batch size, or take out a setting, in what a ladder says that it began with."""
    state = json.loads(LADDER.state_file(path).read_text())
    for config in state["asked"]["rungs"].values():
        config.update(changes)
        del config["split"]["near_copies"]
    LADDER.write(path, state)


def test_a_ladder_may_be_older_than_a_setting(climb, tmp_path):
    assert len(climb()) == 3
    rewrite(tmp_path / "ladder")
    assert climb() == []
    rewrite(tmp_path / "ladder", batch_size=7)
    with pytest.raises(RunError, match="different version of the recipe of rung 'as the tutorial"):
        climb()


def test_images_of_several_classes_get_a_comparison_that_takes_their_labels(climb, tmp_path):
    rows = [f"{'ab'[n % 2]}/{n}.png,{('one', 'two', 'one|two')[n % 3]}" for n in range(40)]
    (tmp_path / "tags.csv").write_text("\n".join(["name,label", *rows]))
    with pytest.raises(ConfigError, match="several classes") as refused:
        climb(labels=tmp_path / "tags.csv")
    command = str(refused.value).rpartition("convscope compare ")[2]
    assert f"--data {tmp_path}/photos --labels {tmp_path}/tags.csv" in command
    assert command.endswith("--models mobilenet_v2:probe,mobilenet_v2:finetune")


def test_another_last_rung_is_called_that(climb):
    climb()
    with pytest.raises(RunError, match="up to the rung '64 px', not 'own scaling'; repeat"):
        climb(until="own scaling")
