"""Which saved predictions are used again."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from convscope.api.evaluate import _saved, evaluate
from convscope.errors import ConfigError, RunError
from convscope.evaluation.predictions import save_predictions
from convscope.progress import Progress
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
