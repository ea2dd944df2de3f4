"""The rungs of a ladder: what each mend of a way of training gained, as a sentence and a table."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from convscope.storage import atomic_path

COLUMNS = (
    "rung",
    "name",
    "change",
    "image_size",
    "val_accuracy",
    "gain",
    "test_accuracy",
    "feature_seconds",
    "train_seconds",
    "seconds",
    "multiply_adds",
    "run",
    "failure",
)
"""Columns of `ladder.csv`. Accuracies and gains are fractions."""


@dataclass(frozen=True)
class Rung:
    """One rung: what it changes, and what came of it. What is not known yet is None.

    Attributes:
        number: From 1, the lowest.
        name: In two or three words.
        change: What it changes from the rung below, in words.
        cause: The same as the subject of "... gave 20 points".
        image_size: Side in pixels that the network sees.
        run: Its run folder, as seen from the ladder's.
        val_accuracy: A fraction in [0, 1].
        gain: In validation accuracy, over the nearest rung below that could be trained.
        test_accuracy: A fraction in [0, 1]; None until every rung has been trained.
        feature_seconds: What its features cost, those found in the cache included.
        train_seconds: Of the search for a head and of all epochs, without their validation.
        multiply_adds: Of the whole model, for one image.
        failure: Why it could not be trained.
    """

    number: int
    name: str
    change: str
    cause: str
    image_size: int
    run: str
    val_accuracy: float | None = None
    gain: float | None = None
    test_accuracy: float | None = None
    feature_seconds: float | None = None
    train_seconds: float | None = None
    multiply_adds: int | None = None
    failure: str | None = None

    @property
    def seconds(self) -> float | None:
        """What it costs with nothing cached."""
        if self.feature_seconds is None or self.train_seconds is None:
            return None
        return round(self.feature_seconds + self.train_seconds, 3)


@dataclass(frozen=True)
class Ladder:
    """The rungs of a ladder, and where they are kept.

    Attributes:
        path: Its folder, with a run folder for each rung below `rungs/`.
        about: The model, the data and the seed, for people.
        n_val: How many validation images there are.
        rungs: From the lowest; see `Rung`.
    """

    path: Path
    about: str
    n_val: int
    rungs: tuple[Rung, ...]

    @property
    def state_file(self) -> Path:
        """The settings and the rungs, from which a stopped ladder goes on."""
        return self.path / "ladder.json"

    @property
    def table_file(self) -> Path:
        """A row for each rung."""
        return self.path / "ladder.csv"

    @property
    def picture(self) -> Path:
        """The rungs as stairs."""
        return self.path / "ladder.png"

    @property
    def page(self) -> Path:
        """All of it, for people."""
        return self.path / "report.html"

    @property
    def card_file(self) -> Path:
        """The same as Markdown."""
        return self.path / "MODEL_CARD.md"

    @property
    def conclusion(self) -> str:
        """What gained most, by validation images alone."""
        return conclude(self.rungs, self.n_val)

    @property
    def caution(self) -> str:
        """What single runs leave open, and how small a gain the images alone may make."""
        best = max((rung.val_accuracy or 0.0 for rung in self.rungs), default=0.0)
        points = 100 * chance(best, best, self.n_val)
        return (
            "One run of each rung, so the gains are those of this seed; another may move them, by "
            f"how much single runs do not tell. {self.n_val:,} validation images alone make "
            f"differences of up to {points:.1f} points near {best:.0%}."
        )


def conclude(rungs: Sequence[Rung], n_val: int) -> str:
    """Say in a sentence or two what brought the accuracy, by validation images alone.

    It is said of the seed that the rungs were trained with: a run each shows what these networks
    do, not what the same change would gain on average.

    Args:
        rungs: From the lowest; those that have no validation accuracy are passed over.
        n_val: How many validation images there are.
    """
    trained = [rung for rung in rungs if rung.val_accuracy is not None]
    if not trained:
        return "No rung has been trained."
    first, best = trained[0], max(trained, key=accuracy_of)
    low, high = accuracy_of(first), accuracy_of(best)
    if len(trained) == 1:
        return f"Only '{first.name}' has been trained: {low:.1%} of the validation images right."
    total = high - low
    # The best of several is best by chance too.
    others = len(trained) - 1
    if total <= chance(low, high, n_val, n_comparisons=others):
        return (
            f"Nothing that was mended shows on {n_val:,} validation images: "
            f"{low:.1%} right at '{first.name}', {high:.1%} at best."
        )
    gains: dict[str, float] = {}
    for rung in trained[1 : trained.index(best) + 1]:
        cause = _cause(rung, rungs)
        # The rungs of several sizes are one cause, and the last of them names it.
        merged = [known for known in gains if " px" in known and " px" in cause]
        gains[cause] = (rung.gain or 0.0) + sum(gains.pop(known) for known in merged)
    by_gain = sorted(gains, key=lambda cause: gains[cause], reverse=True)
    named = by_gain[:1]
    if gains[named[0]] < total * 2 / 3 and len(by_gain) > 1 and gains[by_gain[1]] > 0:
        named = [cause for cause in gains if cause in by_gain[:2]]
    whose = " and ".join(named)
    decimals = 0 if total >= 0.1 else 1
    points, all_points = (
        f"{100 * value:.{decimals}f}" for value in (sum(gains[cause] for cause in named), total)
    )
    share = f"all {all_points}" if points == all_points else f"{points} of the {all_points}"
    said = f"With this seed, {whose} gave {share} points from {low:.1%} to {high:.1%}."
    if best is not trained[-1]:
        lost = high - accuracy_of(trained[-1])
        what = "gained nothing"
        if lost > chance(high, high - lost, n_val, n_comparisons=others):
            what = f"lost {100 * lost:.{decimals}f}"
        said += f" What came after '{best.name}' {what}."
    return said


def chance(before: float, after: float, n_images: int, *, n_comparisons: int = 1) -> float:
    """Return the difference of two accuracies that the images alone may make, with 95 % confidence.

    As if they were measured on different images; on the same ones, chance makes less.

    Args:
        before: A fraction in [0, 1].
        after: Likewise.
        n_images: On how many images each was measured.
        n_comparisons: Differences of which the largest is taken (Bonferroni).
    """
    from scipy.special import ndtri

    z = float(ndtri(1 - 0.025 / n_comparisons))
    return z * math.sqrt((before * (1 - before) + after * (1 - after)) / n_images)


def write_table(rungs: Sequence[Rung], path: Path) -> None:
    """Write `ladder.csv`, a row for each rung.

    Raises:
        StorageError: If the file cannot be written.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for rung in rungs:
            writer.writerow([getattr(rung, {"rung": "number"}.get(c, c)) for c in COLUMNS])


def _cause(rung: Rung, rungs: Sequence[Rung]) -> str:
    """Return what a rung's gain comes from: failed rungs below it changed something too."""
    causes = [rung.cause]
    for below in reversed(rungs[: rungs.index(rung)]):
        if below.val_accuracy is not None:
            break
        # Of several sizes, the last one counts.
        if not (" px" in below.cause and any(" px" in cause for cause in causes)):
            causes.insert(0, below.cause)
    return " with ".join(causes)


def accuracy_of(rung: Rung) -> float:
    """Return the validation accuracy of a rung that has been trained."""
    assert rung.val_accuracy is not None
    return rung.val_accuracy
