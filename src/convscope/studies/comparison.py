"""A comparison of ways of training: its runs, and how each two ways differ."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from convscope.evaluation.statistics import (
    Difference,
    Spread,
    difference,
    rows_by_seed,
    spread_over_seeds,
)
from convscope.studies.verdicts import PART_NAMES, caution, chosen, conclude, outlook, verdict
from convscope.types import BoolArray


@dataclass(frozen=True)
class Trial:
    """One run of an arm. What is not known, or not yet, is None.

    Attributes:
        run: Its folder; as seen from the comparison's, if it lies in that.
        seed: Of its weights and the order of its images.
        val_accuracy: A fraction in [0, 1].
        test_accuracy: A fraction in [0, 1]; None until every run has been trained.
        train_seconds: Of its epochs, its features and the search for a head, without validation.
        peak_memory_mb: Of the process that trained it, in megabytes.
        failure: Why it could not be trained.
        final: Whether training it again would fail again.
    """

    run: str
    seed: int
    val_accuracy: float | None = None
    test_accuracy: float | None = None
    train_seconds: float | None = None
    peak_memory_mb: float | None = None
    failure: str | None = None
    final: bool = False


@dataclass(frozen=True)
class Arm:
    """One of the ways of training that are compared.

    Attributes:
        name: What sets it apart from the others.
        model: The registered model.
        recipe: The registered recipe.
        trials: A run for each seed.
        n_params: Numbers that the model holds.
        part: Whose images it is judged by: "val", or at the end "test".
        multiply_adds: Of the whole model, for one image.
        latency_ms: From one image in memory to its answer, in milliseconds; the median.
        file_mb: Of the saved model, in megabytes.
    """

    name: str
    model: str
    recipe: str
    trials: tuple[Trial, ...]
    part: str = "test"
    n_params: int | None = None
    multiply_adds: int | None = None
    latency_ms: float | None = None
    file_mb: float | None = None

    @property
    def accuracies(self) -> list[float]:
        """Accuracy of each trial that has been judged, on the images of `part`."""
        found = [t.val_accuracy if self.part == "val" else t.test_accuracy for t in self.trials]
        return [accuracy for accuracy in found if accuracy is not None]

    @property
    def failed(self) -> tuple[Trial, ...]:
        """Those that could not be trained."""
        return tuple(trial for trial in self.trials if trial.failure)

    @property
    def accuracy(self) -> Spread | None:
        """Mean and spread over seeds, on the images of `part`; None while no trial is judged."""
        return spread_over_seeds(self.accuracies) if self.accuracies else None

    @property
    def train_seconds(self) -> float | None:
        """The median of its trials."""
        return _median([t.train_seconds for t in self.trials])

    @property
    def peak_memory_mb(self) -> float | None:
        """The median of its trials."""
        return _median([t.peak_memory_mb for t in self.trials])


@dataclass(frozen=True)
class Pair:
    """Two arms, and how much more often the second is right.

    Attributes:
        first: The name of an arm.
        second: The name of another.
        seeds: Of each that took part: in both arms, if the pair is paired.
        found: The difference.
        part: Whose images they were judged by: "val" or "test".
    """

    first: str
    second: str
    seeds: tuple[int, int]
    found: Difference
    part: str = "test"

    @property
    def verdict(self) -> str:
        """What is shown, in a sentence."""
        return verdict(self)

    @property
    def outlook(self) -> str:
        """How many seeds would show a difference that is not shown; empty if one is."""
        return outlook(self)


@dataclass(frozen=True)
class Comparison:
    """Ways of training side by side, and where that is kept.

    Attributes:
        path: Its folder.
        data: What they are trained and judged on.
        n_images: Number of images of the part that they are judged by.
        arms: In the order in which they were given.
        pairs: Each two arms that have been judged.
        looks: How many seeds there were, each time that they were judged by that part.
    """

    path: Path
    data: str
    n_images: int
    arms: tuple[Arm, ...]
    pairs: tuple[Pair, ...] = ()
    looks: tuple[int, ...] = ()

    @property
    def state_file(self) -> Path:
        """Settings, runs and verdicts, from which a stopped comparison goes on."""
        return self.path / "comparison.json"

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
        """Which is best, as far as that is shown, in a sentence or two."""
        return " ".join(filter(None, (conclude(self.arms, self.pairs), chosen(self.arms))))

    @property
    def part(self) -> str:
        """Whose images the ways are judged by: "val", or at the end "test"."""
        return self.arms[0].part

    @property
    def part_name(self) -> str:
        """The same in a word: "validation" or "test"."""
        return PART_NAMES[self.part]

    @property
    def about(self) -> str:
        """What was compared on what, for people."""
        counts = sorted({len(arm.trials) for arm in self.arms})
        seeds = " or ".join(map(str, counts))
        plural = "" if counts == [1] else "s"
        return (
            f"{len(self.arms)} ways of training on {self.data}, {seeds} seed{plural} each, "
            f"judged on {self.n_images:,} {self.part_name} images"
        )

    @property
    def caution(self) -> str:
        """How the intervals are to be read."""
        return caution(self.pairs, self.looks, self.part)


def pairs_of(
    answers: Sequence[tuple[str, dict[int, BoolArray]]], part: str = "test"
) -> tuple[Pair, ...]:
    """Compare each two arms by which images each of their runs has right.

    Runs of the same seeds are compared seed by seed. Where a seed is missing on one side, those
    that both have are taken; two arms without a common seed are compared as they are.

    Args:
        answers: The name of each arm, and by seed an array of shape (n_images,); arms without
            any are passed over.
        part: Whose images they are: "val" or "test".

    Raises:
        ShapeError: If the numbers of images differ.
    """
    known = [(name, by_seed) for name, by_seed in answers if by_seed]
    twos = list(itertools.combinations(known, 2))
    pairs = []
    for (first, right_a), (second, right_b) in twos:
        rows_a, rows_b, paired = rows_by_seed(right_a, right_b)
        found = difference(rows_a, rows_b, paired=paired, n_comparisons=len(twos))
        pairs.append(Pair(first, second, (len(rows_a), len(rows_b)), found, part))
    return tuple(pairs)


def _median(values: Sequence[float | None]) -> float | None:
    import statistics

    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
