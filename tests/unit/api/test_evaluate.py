"""Which saved predictions are used again."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from convscope.api.evaluate import _is_elsewhere, _saved, evaluate
from convscope.errors import ConfigError, RunError
from convscope.evaluation.predictions import save_predictions
from convscope.progress import Progress
from convscope.recipe import RunConfig
from convscope.run import Run
from convscope.types import Predictions

OURS = {"weights": "last", "weights_sha256": "1"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    probs = np.array([[0.9, 0.1]], np.float32)
    said = Predictions(probs, np.array([0]), np.array(["a"]), "val")
    parts = {"val": said, "test": dataclasses.replace(said, split="test")}
    save_predictions(parts, ["cat", "dog"], tmp_path / "predictions.parquet", about=OURS)
    return tmp_path / "predictions.parquet"


class Lines(Progress):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def kept(file: Path, *, fresh: bool, test: bool, about=OURS, n_classes=2) -> tuple[set[str], bool]:
    progress = Lines()
    found = _saved(file, about, n_classes, fresh=fresh, test=test, progress=progress)
    return set(found), bool(progress.said)


@pytest.mark.parametrize(
    ("fresh", "test", "names"),
    [
        (False, True, {"val", "test"}),
        (False, False, {"val", "test"}),
        (True, True, set()),
        (True, False, {"test"}),
    ],
)
def test_test_results_stay_unless_they_are_made_again(file, fresh, test, names):
    assert kept(file, fresh=fresh, test=test) == (names, False)


def test_test_results_that_are_lost_are_told(file):
    others = OURS | {"weights_sha256": "2"}
    assert kept(file, fresh=False, test=False, about=others) == (set(), True)
    assert kept(file, fresh=False, test=True, about=others) == (set(), False)
    assert kept(file, fresh=True, test=False, n_classes=3) == (set(), True)
    file.write_bytes(b"damaged")
    assert kept(file, fresh=True, test=False) == (set(), True)
    with pytest.raises(RunError, match="damaged"):
        kept(file, fresh=False, test=False)
    file.unlink()
    assert kept(file, fresh=True, test=False) == (set(), False)


def test_batches_without_an_image_are_refused_before_anything_is_read(tmp_path):
    with pytest.raises(ConfigError, match="batch_size must be at least 1, not 0"):
        evaluate(Run(tmp_path / "nothing is read from here"), batch_size=0)


def test_images_in_the_place_of_their_run_are_not_looked_at_again(tmp_path, monkeypatch):
    for name in ("photos", "others"):
        (tmp_path / name / "cat").mkdir(parents=True)
    for name in ("labels.csv", "corrected.csv"):
        (tmp_path / "photos" / name).write_text("file,label\n")
    monkeypatch.chdir(tmp_path)
    config = RunConfig(data="folder", data_path=str(tmp_path / "photos"), labels="labels.csv")
    for data, labels, elsewhere in (
        (None, None, False),
        ("photos", None, False),
        (tmp_path / "photos", "labels.csv", False),
        ("others", None, True),
        ("photos", "corrected.csv", True),
        (None, "corrected.csv", True),
        ("digits", None, True),
    ):
        assert _is_elsewhere(config, data, labels) == elsewhere, (data, labels)
    assert not _is_elsewhere(RunConfig(data="digits"), "digits", None)
