"""The rungs of a ladder: the gain of each change, as a sentence and a table."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from convscope.storage import write_rows
from convscope.studies.folder import StudyKind
from convscope.wording import counted

LADDER = StudyKind("ladder", "ladder.json")

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

BETTER_HEAD = "better head"
"""Name of the last rung on frozen features."""

_KINDS = {
    "as the tutorial": "start",
    "own scaling": "scaling",
    "standardised features": "standardise",
    BETTER_HEAD: "head",
}
"""Kinds of rungs by name, for ladders that were begun when a rung had no kind."""


@dataclass(frozen=True)
class Rung:
    """One rung: its change and its results. Facts that are not known yet are None.

    Attributes:
        number: Number from 1, the lowest.
        name: Name of two or three words.
        change: Change from the rung below, in words.
        cause: Noun phrase for the sentence "<cause> gave 20 points".
        image_size: Side in pixels of the network's input.
        run: Run folder, relative to that of the ladder.
        val_accuracy: Validation accuracy, a fraction in [0, 1].
        gain: Gain in validation accuracy over the nearest rung below that could be trained.
        test_accuracy: Test accuracy, a fraction in [0, 1]; None until every rung has been trained.
        feature_seconds: Time that its features took, including those found in the cache.
        train_seconds: Time of the search for a head and of all epochs, without their validation.
        multiply_adds: Multiply-adds of the whole model for one image.
        failure: Reason why it could not be trained.
        n_effective: Number of validation images of their own that would tell as much as those in
            groups; None if they are in none.
        kind: Kind of its change: "start" (none), "scaling", "size", "standardise", "head" or
            "tune"; "" takes that of its name.
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
    n_effective: float | None = None
    kind: str = ""

    def __post_init__(self) -> None:
        usual = "size" if str(self.name).endswith(" px") else _KINDS.get(self.name, "tune")
        object.__setattr__(self, "kind", self.kind or usual)

    @property
    def seconds(self) -> float | None:
        """Its time with nothing cached."""
        if self.feature_seconds is None or self.train_seconds is None:
            return None
        return round(self.feature_seconds + self.train_seconds, 3)


@dataclass(frozen=True)
class Ladder:
    """The rungs of a ladder, and their folder.

    Attributes:
        path: Folder, with a run folder for each rung below `rungs/`.
        about: Model, data and seed, for people.
        n_val: Number of validation images.
        rungs: Rungs from the lowest; see `Rung`.
    """

    path: Path
    about: str
    n_val: int
    rungs: tuple[Rung, ...]

    @classmethod
    def read(cls, path: Path) -> "Ladder":
        """Return the ladder in a folder, as far as it has been trained.

        Raises:
            RunError: If there is none, its file is damaged, or another version of convscope wrote
                it.
        """
        state = LADDER.kept(path)
        try:
            rungs = tuple(Rung(**entry) for entry in state["rungs"])
            return cls(path, state["about"], state["n_val"], rungs)
        except (ValueError, KeyError, TypeError):
            raise LADDER.damaged(path) from None

    @property
    def is_finished(self) -> bool:
        """Whether each rung has been trained and evaluated, or has failed."""
        return all(rung.failure or rung.test_accuracy is not None for rung in self.rungs)

    @property
    def state_file(self) -> Path:
        """File of the settings and the rungs, from which a stopped ladder resumes."""
        return LADDER.state_file(self.path)

    @property
    def table_file(self) -> Path:
        """Table with a row for each rung."""
        return self.path / "ladder.csv"

    @property
    def picture(self) -> Path:
        """Picture of the rungs as stairs."""
        return self.path / "ladder.png"

    @property
    def page(self) -> Path:
        """Page with everything, for people."""
        return self.path / "report.html"

    @property
    def card_file(self) -> Path:
        """The page as Markdown."""
        return self.path / "MODEL_CARD.md"

    @property
    def conclusion(self) -> str:
        """Which change gained most, by validation images alone."""
        return conclude(self.rungs, self.n_val)

    @property
    def caution(self) -> str:
        """What single runs cannot show, and the gain that the images alone may make by chance."""
        trained = [rung for rung in self.rungs if rung.val_accuracy is not None]
        if not trained:
            return ""
        best = max(trained, key=accuracy_of)
        points = 100 * min(1, gain_by_chance(best, best, self.n_val))
        images = counted(self.n_val, "validation image")
        if best.n_effective is not None:
            images += ", in groups"
        return (
            "Each rung is a single run, so the gains are those of this seed; by how much another "
            f"seed would change them, single runs cannot show. With {images}, differences of up to "
            f"{points:.1f} points near {accuracy_of(best):.0%} can be due to chance."
        )


def conclude(rungs: Sequence[Rung], n_val: int) -> str:
    """Return one or two sentences on the gains in accuracy, by validation images alone.

    They hold for the seed that the rungs were trained with: single runs show what these networks
    do, not what the same change would gain on average.

    Args:
        rungs: Rungs from the lowest; those without validation accuracy are skipped.
        n_val: Number of validation images.
    """
    trained = [rung for rung in rungs if rung.val_accuracy is not None]
    if not trained:
        return "No rung has been trained."
    first, best = trained[0], max(trained, key=accuracy_of)
    low, high = accuracy_of(first), accuracy_of(best)
    if len(trained) == 1:
        return f"Only '{first.name}' has been trained: {low:.1%} validation accuracy."
    total = high - low
    # The best of several is best by chance too.
    others = len(trained) - 1
    if total <= gain_by_chance(first, best, n_val, n_comparisons=others):
        return (
            f"No change shows an effect on {n_val:,} validation images: "
            f"{low:.1%} at '{first.name}', {high:.1%} at best."
        )
    gains = {_cause(changed, rungs): gain for changed, gain in steps_to(best, rungs)}
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
        last = trained[-1]
        lost = high - accuracy_of(last)
        what = "gained nothing"
        if lost > gain_by_chance(best, last, n_val, n_comparisons=others):
            what = f"lost {100 * lost:.{decimals}f}"
        said += f" The rungs after '{best.name}' {what}."
    return said


def steps_to(best: Rung, rungs: Sequence[Rung]) -> list[tuple[list[Rung], float]]:
    """Return the steps from the lowest trained rung up to one: their rungs and gains in accuracy.

    A failed rung changed something too: it is one step with the next rung that was trained. Rungs
    that only enlarge the image are one step.

    Args:
        best: Rung that was trained.
        rungs: All rungs from the lowest.
    """
    steps: list[tuple[list[Rung], float]] = []
    changed: list[Rung] = []
    lowest = next(rung for rung in rungs if rung.val_accuracy is not None)
    for rung in rungs[rungs.index(lowest) + 1 : rungs.index(best) + 1]:
        changed = [*changed, rung]
        if rung.val_accuracy is None:
            continue
        gain = rung.gain or 0.0
        if steps and all(each.kind == "size" for each in (*steps[-1][0], *changed)):
            below, gain_below = steps.pop()
            changed, gain = [*below, *changed], gain_below + gain
        steps.append((changed, gain))
        changed = []
    return steps


def gain_by_chance(before: Rung, after: Rung, n_val: int, *, n_comparisons: int = 1) -> float:
    """Return the difference of two trained rungs that the images alone may make, see `chance`."""
    told = [n_val if rung.n_effective is None else rung.n_effective for rung in (before, after)]
    rates = accuracy_of(before), accuracy_of(after)
    return chance(*rates, min(told), n_comparisons=n_comparisons)


def chance(before: float, after: float, n_images: float, *, n_comparisons: int = 1) -> float:
    """Return the difference of two accuracies that the images alone may make, at 95 % confidence.

    It assumes different images for the two; on the same ones, chance makes less. One correct and
    one wrong image are added to each, so that a perfect accuracy on few images does not count as
    certain.

    Args:
        before: Accuracy before, a fraction in [0, 1].
        after: Accuracy after, a fraction in [0, 1].
        n_images: Number of images behind each; 0 shows nothing.
        n_comparisons: Number of differences of which the largest is taken (Bonferroni).

    Returns:
        A fraction above 0; above 1 where so few images show no difference at all.

    References:
        Agresti and Caffo, "Simple and Effective Confidence Intervals for Proportions and
        Differences of Proportions Result from Adding Two Successes and Two Failures", The American
        Statistician 2000.

    Examples:
        >>> round(chance(0.8, 0.8, 500), 3), round(chance(1.0, 1.0, 20), 3)
        (0.05, 0.135)
    """
    from scipy.special import ndtri

    if n_images == 0:
        return math.inf
    z = float(ndtri(1 - 0.025 / n_comparisons))
    n_added = n_images + 2
    rates = [(accuracy * n_images + 1) / n_added for accuracy in (before, after)]
    margin = z * math.sqrt(sum(rate * (1 - rate) for rate in rates) / n_added)
    # The added images pull both towards a half, and so the measured difference towards 0.
    return margin * n_added / n_images


def write_table(rungs: Sequence[Rung], path: Path) -> None:
    """Write `ladder.csv`, a row for each rung.

    Raises:
        StorageError: If the file cannot be written.
    """
    rows = ({c: getattr(rung, {"rung": "number"}.get(c, c)) for c in COLUMNS} for rung in rungs)
    write_rows(path, COLUMNS, rows)


def _cause(changed: Sequence[Rung], rungs: Sequence[Rung]) -> str:
    """Return the cause of a step's gain: of several sizes the last one, instead of that below."""
    below = rungs[rungs.index(changed[0]) - 1]
    sizes = [rung for rung in changed if rung.kind == "size"]
    return " with ".join(
        f"{rung.image_size} px instead of {below.image_size}" if rung.kind == "size" else rung.cause
        for rung in changed
        if rung not in sizes[:-1]
    )


def accuracy_of(rung: Rung) -> float:
    """Return the validation accuracy of a rung that has been trained."""
    assert rung.val_accuracy is not None
    return rung.val_accuracy
