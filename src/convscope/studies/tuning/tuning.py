"""Domain objects of a search over settings: its trials, and what came of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convscope.studies.comparison.comparison import Comparison
from convscope.studies.folder import StudyKind

TUNING = StudyKind("search over settings", "tuning.json")


@dataclass(frozen=True)
class TunedTrial:
    """One trial: settings, and how good they turned out to be.

    Attributes:
        number: Number of the trial, from 1; the first has the recipe's own settings, if they lie in
            the search space.
        run: Run folder, relative to the search.
        settings: Values by dotted name.
        score: Validation accuracy, of a stopped one after its last epoch (with several classes per
            image: mAP, of finished ones alone); None without one.
        epochs: Number of epochs trained.
        status: "finished", "stopped" (its curve fell behind, or the time was over) or "failed".
        failure: Reason of a failure, in one line.
    """

    number: int
    run: str
    settings: Mapping[str, Any]
    score: float | None
    epochs: int
    status: str
    failure: str | None = None


@dataclass(frozen=True)
class Tuning:
    """Result of a search over settings, and its folder.

    Attributes:
        path: Folder, with a run for each trial below `trials/`.
        about: Model, recipe and data.
        measure: Name of the score: "accuracy" or "mAP".
        trials: Trials by number.
        importance: Share of each setting in the differences of score, by dotted name, the largest
            first; empty with too few trials.
        confirmation: Comparison of the best settings with the recipe's own, on seeds that had no
            part in the search; None if there was nothing to compare.
        usual: The recipe's own settings, by dotted name; None if they are not in the search space.
    """

    path: Path
    about: str
    measure: str
    trials: tuple[TunedTrial, ...]
    importance: Mapping[str, float]
    confirmation: Comparison | None = None
    usual: Mapping[str, Any] | None = None

    @property
    def finished(self) -> list[TunedTrial]:
        """Trials that were trained to their end, by number; all have a score."""
        return [trial for trial in self.trials if trial.status == "finished"]

    @property
    def best(self) -> TunedTrial | None:
        """Trial with the highest score among the finished ones, the first of equals."""
        return max(self.finished, key=score_of_trial, default=None)

    @property
    def is_usual(self) -> bool:
        """Whether the best settings are the recipe's own."""
        return self.best is not None and dict(self.best.settings) == self.usual

    @property
    def conclusion(self) -> str:
        """What was found, in one sentence."""
        best = self.best
        if best is None:
            return "No trial was trained to its end."
        scores = {f"{score_of_trial(trial):.1%}" for trial in self.finished}
        reached = f"{score_of_trial(best):.1%} validation {self.measure}"
        found = f"Trial {best.number} of {len(self.trials)} is best: {reached}."
        if len(scores) == 1 < len(self.finished):
            found = f"All trials that ended reach {reached}; trial {best.number} stands for them."
        if self.confirmation is not None and self.confirmation.pairs:
            return f"{found} {self.confirmation.pairs[0].verdict}"
        if self.is_usual:
            return f"{found} These are the recipe's own settings."
        return found

    @property
    def caution(self) -> str:
        """How much of the best score is luck of the search, in one sentence; may be empty."""
        best = self.best
        if self.confirmation is None or best is None or best.score is None:
            return ""
        again = next(arm for arm in self.confirmation.arms if arm.name == BEST)
        if again.accuracy is None:
            return ""
        luck = 100 * (best.score - again.accuracy.mean)
        apart = f"{abs(luck):.1f} points {'less' if luck >= 0 else 'more'} than"
        if abs(luck) < 0.05:
            apart = "as much as"
        return (
            f"With {len(again.accuracies)} new seeds the best settings reach "
            f"{again.accuracy.mean:.1%} on average: {apart} in the search, which picks the "
            "luckiest of its trials. All scores are of validation images, by which the settings "
            "were chosen."
        )

    @property
    def config_file(self) -> Path:
        """The best settings, for `convscope train --config`."""
        return self.path / "best.yaml"

    @property
    def table_file(self) -> Path:
        """Table with a row for each trial."""
        return self.path / "trials.csv"

    @property
    def page(self) -> Path:
        """Page with everything, for people."""
        return self.path / "tuning.html"

    @property
    def state_file(self) -> Path:
        """Settings and results, from which a stopped search resumes."""
        return TUNING.state_file(self.path)


BEST, DEFAULT = "best", "recipe"
"""Names of the two arms of the confirmation."""


def score_of_trial(trial: TunedTrial) -> float:
    """Return the score of a trial that has one."""
    assert trial.score is not None
    return trial.score


def spelt(value: Any, digits: int = 4) -> str:
    """Return the value of a setting for people, a fraction with so many significant digits."""
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)
