"""Settings that a study, or an option of it, decides are refused by all studies alike."""

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import convscope
from convscope.errors import ConfigError
from convscope.progress import Progress

DIGITS: dict[str, Any] = {"data": "digits", "progress": Progress()}
STUDIES: dict[str, Callable[..., object]] = {
    "train, folds": lambda **more: convscope.train("cnn-sequential", folds=3, **DIGITS, **more),
    "compare": lambda **more: convscope.compare(
        ["cnn-sequential", "cnn-functional"], **DIGITS, **more
    ),
    "ladder": lambda **more: convscope.ladder("vgg16", weights="random", **DIGITS, **more),
    "tune": lambda **more: convscope.tune(
        "cnn-sequential", space={"split.val_fraction": "0.1,0.2"}, **DIGITS, **more
    ),
    "suspects": lambda **more: convscope.suspects(**DIGITS, **more),
    "learning curve": lambda **more: convscope.learning_curve(**DIGITS, **more),
}
RUNS = ("compare", "ladder", "tune")
CASES = [
    *((study, {key: 1}, key) for study in RUNS for key in ("model", "recipe", "data", "data_path")),
    *((study, {"seed": 5}, "seed") for study in (*RUNS, "suspects", "learning curve")),
    *((study, {"model": 1}, "model") for study in ("suspects", "learning curve")),
    # A group of settings is looked into.
    ("tune", {"split": {"val_fraction": 0.3}}, "split.val_fraction"),
    ("train, folds", {"split": {"folds": 2}}, "split.folds"),
    ("suspects", {"split": {"folds": 2}}, "split.folds"),
]


@pytest.mark.parametrize(("study", "settings", "key"), CASES)
def test_a_setting_that_a_study_decides_is_refused_in_one_line(
    study: str, settings: Mapping[str, Any], key: str, tmp_path: Path
) -> None:
    if study == "tune" and importlib.util.find_spec("optuna") is None:
        pytest.skip("without Optuna")
    out = tmp_path / "study"
    with pytest.raises(ConfigError, match=f"^'{key}' cannot be given with --") as told:
        STUDIES[study](settings=settings, out=out)
    assert "\n" not in str(told.value)
    assert not out.exists()
