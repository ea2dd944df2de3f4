"""What a search over settings says of its trials."""

import dataclasses
from pathlib import Path

import pytest

from convscope.studies.comparison.comparison import Arm, Comparison, Trial
from convscope.studies.tuning.tuning import BEST, TunedTrial, Tuning


def tuning(*scores: float, again: float | None = None) -> Tuning:
    trials = tuple(
        TunedTrial(number, f"trials/{number}", {}, score, 3, "finished")
        for number, score in enumerate(scores, 1)
    )
    if again is None:
        return Tuning(Path("x"), "d", "accuracy", trials, {})
    arm = Arm(BEST, "m", "r", (Trial("r", 1083, val_accuracy=again),), "val")
    return Tuning(Path("x"), "d", "accuracy", trials, {}, Comparison(Path("x"), "d", 20, (arm,)))


@pytest.mark.parametrize("usual", [{"epochs": 1}, {"epochs": 9}, None])
def test_the_recipes_own_settings_are_known_by_themselves_not_by_their_number(usual):
    found = dataclasses.replace(tuning(0.9, 0.5), usual=usual)
    trials = (dataclasses.replace(found.trials[0], settings={"epochs": 1}), *found.trials[1:])
    said = dataclasses.replace(found, trials=trials).conclusion
    assert said.endswith("These are the recipe's own settings.") == (usual == {"epochs": 1})


def test_of_equal_trials_none_is_said_to_be_best():
    assert tuning(0.5, 0.9).conclusion == "Trial 2 of 2 is best: 90.0% validation accuracy."
    said = tuning(1.0, 1.0, 0.9999).conclusion
    assert said.startswith("All trials that ended reach 100.0% validation accuracy; trial 1 ")
    assert tuning(0.9).conclusion.startswith("Trial 1 of 1 is best: 90.0%")


@pytest.mark.parametrize(
    ("again", "words"),
    [
        (0.88, "2.0 points less than"),
        (0.91, "1.0 points more than"),
        (0.9, "as much as"),
        (0.9004, "as much as"),
    ],
)
def test_luck_is_never_0_points(again, words):
    assert f"on average: {words} in the search" in tuning(0.5, 0.9, again=again).caution
