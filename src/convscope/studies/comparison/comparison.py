"""A comparison of training configurations: its runs, and the difference of each two arms."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convscope.evaluation.map_difference import Scored, map_difference
from convscope.evaluation.statistics import (
    Difference,
    Groups,
    Spread,
    Variation,
    difference,
    rows_by_seed,
    runs_by_seed,
    spread_over_seeds,
)
from convscope.studies.comparison.verdicts import (
    Look,
    caution,
    chosen,
    conclude,
    outlook,
    verdict,
)
from convscope.studies.folder import StudyKind
from convscope.types import PART_NAMES, BoolArray

COMPARISON = StudyKind("comparison", "comparison.json")


@dataclass(frozen=True)
class Trial:
    """One run of an arm. Facts that are unknown, or not known yet, are None.

    Attributes:
        run: Run folder; relative to that of the comparison if it lies inside.
        seed: Seed of the weights and the order of images.
        val_accuracy: Validation accuracy, a fraction in [0, 1].
        test_accuracy: Test accuracy, a fraction in [0, 1]; None until every run has been trained.
        train_seconds: Time of its epochs, features and the search for a head, without validation.
        peak_memory_mb: Peak memory of the process that trained it, in megabytes.
        failure: Reason why it could not be trained.
        final: Whether a retry would fail the same way.
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
    """One of the training configurations that are compared.

    Attributes:
        name: Name that distinguishes it from the others.
        model: Registered name of the model.
        recipe: Registered name of the recipe.
        trials: Run for each seed.
        n_params: Number of parameters of the model.
        part: Images of the accuracy: "val", or at the end "test".
        measure: What the accuracies are: "accuracy", or "mAP" where an image may have any number of
            classes.
        multiply_adds: Multiply-adds of the whole model for one image.
        latency_ms: Median time from one image in memory to its prediction, in milliseconds.
        file_mb: Size of the saved model, in megabytes.
    """

    name: str
    model: str
    recipe: str
    trials: tuple[Trial, ...]
    part: str = "test"
    measure: str = "accuracy"
    n_params: int | None = None
    multiply_adds: int | None = None
    latency_ms: float | None = None
    file_mb: float | None = None

    @property
    def accuracies(self) -> list[float]:
        """Accuracy of each evaluated trial, on the images of `part`."""
        return list(self.by_seed.values())

    @property
    def by_seed(self) -> dict[int, float]:
        """The same by the seed of the trial."""
        if self.part == "val":
            return self.val_by_seed
        found = ((trial.seed, trial.test_accuracy) for trial in self.trials)
        return {seed: accuracy for seed, accuracy in found if accuracy is not None}

    @property
    def val_by_seed(self) -> dict[int, float]:
        """Validation accuracy of each trained trial, by its seed."""
        found = ((trial.seed, trial.val_accuracy) for trial in self.trials)
        return {seed: accuracy for seed, accuracy in found if accuracy is not None}

    @property
    def failed(self) -> tuple[Trial, ...]:
        """Trials that could not be trained."""
        return tuple(trial for trial in self.trials if trial.failure)

    @property
    def accuracy(self) -> Spread | None:
        """Mean and spread over seeds, on the images of `part`; None before the first evaluation."""
        return spread_over_seeds(self.accuracies) if self.accuracies else None

    @property
    def train_seconds(self) -> float | None:
        """Median over its trials."""
        return _median([t.train_seconds for t in self.trials])

    @property
    def peak_memory_mb(self) -> float | None:
        """Median over its trials."""
        return _median([t.peak_memory_mb for t in self.trials])


@dataclass(frozen=True)
class Pair:
    """Two arms, and the difference of their accuracies.

    Attributes:
        first: Name of one arm.
        second: Name of the other arm.
        seeds: Number of seeds of each that took part: those of both arms, if paired.
        found: Difference, second minus first.
        part: Images of the accuracy: "val" or "test".
        measure: What is compared, as for an arm.
    """

    first: str
    second: str
    seeds: tuple[int, int]
    found: Difference
    part: str = "test"
    measure: str = "accuracy"

    @property
    def verdict(self) -> str:
        """What the difference shows, in one sentence."""
        return verdict(self)

    @property
    def outlook(self) -> str:
        """Number of seeds that would show a difference that is not shown; empty if one is."""
        return outlook(self)


@dataclass(frozen=True)
class Comparison:
    """Training configurations side by side, and their folder.

    Attributes:
        path: Folder of the comparison.
        data: Name of the data.
        n_images: Number of images of the part in use.
        arms: Arms in the order in which they were given.
        pairs: Pairs of evaluated arms.
        looks: Seeds of each evaluation on that part, the last one of these; of one by an older
            version the number of seeds.
    """

    path: Path
    data: str
    n_images: int
    arms: tuple[Arm, ...]
    pairs: tuple[Pair, ...] = ()
    looks: tuple[Look, ...] = ()

    @classmethod
    def read(cls, path: Path) -> "Comparison":
        """Return the comparison in a folder, as it was written last.

        Raises:
            RunError: If there is none, its file is damaged, or another version of convscope wrote
                it.
        """
        state = COMPARISON.kept(path)
        try:
            part = state["part"]
            arms = tuple(
                Arm(**{**arm, "trials": tuple(Trial(**trial) for trial in arm["trials"])})
                for arm in state["arms"]
            )
            pairs = tuple(_pair_of(pair) for pair in state["pairs"])
            looks = tuple(map(look_read, state["looks" if part == "test" else "val_looks"]))
            return cls(path, state["data"], state["n_images"], arms, pairs, looks)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise COMPARISON.damaged(path) from None

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of all arms, in order."""
        return tuple(sorted({trial.seed for arm in self.arms for trial in arm.trials}))

    @property
    def state_file(self) -> Path:
        """File of settings, runs and verdicts, from which a stopped comparison resumes."""
        return COMPARISON.state_file(self.path)

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
        """Which arm is best, as far as that is shown, in one or two sentences."""
        return " ".join(filter(None, (conclude(self.arms, self.pairs), chosen(self.arms))))

    @property
    def part(self) -> str:
        """Part that the arms are compared on: "val", or at the end "test"."""
        return self.arms[0].part

    @property
    def part_name(self) -> str:
        """The same as a word: "validation" or "test"."""
        return PART_NAMES[self.part]

    @property
    def about(self) -> str:
        """What was compared on what, for people."""
        counts = sorted({len(arm.trials) for arm in self.arms})
        seeds = " or ".join(map(str, counts))
        plural = "" if counts == [1] else "s"
        return (
            f"{len(self.arms)} configurations on {self.data}, {seeds} seed{plural} each, "
            f"evaluated on {self.n_images:,} {self.part_name} images"
        )

    @property
    def caution(self) -> str:
        """How to read the intervals."""
        return caution(self.pairs, self.looks, self.part)


def looks_with(looks: Sequence[Look], seeds: tuple[int, ...]) -> list[Look]:
    """Return the looks at results with that at these seeds as the last, which counts once.

    Examples:
        >>> looks_with([(1, 2)], (3, 4)), looks_with([(1, 2), (3, 4)], (1, 2))
        ([(1, 2), (3, 4)], [(3, 4), (1, 2)])
        >>> looks_with([2, 3], (1, 2, 3))  # an older version kept the number of seeds
        [2, (1, 2, 3)]
    """
    return [*(each for each in looks if each not in (seeds, len(seeds))), seeds]


def look_read(kept: Any) -> Look:
    """Return a look at results, as `Comparison.looks` has it, from a state file.

    Raises:
        ValueError: If it is none.
        TypeError: If it is none.
    """
    return tuple(map(int, kept)) if isinstance(kept, list) else int(kept)


def _pair_of(entry: Mapping[str, Any]) -> Pair:
    found = entry["found"]
    return Pair(
        entry["first"],
        entry["second"],
        tuple(entry["seeds"]),
        Difference(**{**found, "variation": Variation(**found["variation"])}),
        entry["part"],
        entry["measure"],
    )


def pairs_of(
    answers: Sequence[tuple[str, Mapping[int, BoolArray | Scored]]],
    part: str = "test",
    groups: Groups = None,
) -> tuple[Pair, ...]:
    """Compare each two arms by the images that each of their runs classifies correctly.

    Where an image may have any number of classes, by mean average precision.

    Runs of the same seeds are compared seed by seed. If a seed is missing on one side, the common
    ones are used; two arms without a common seed are compared unpaired.

    Args:
        answers: Name of each arm, and by seed an array of shape (n_images,), or the mean average
            precision; arms without any are skipped.
        part: Images of the answers: "val" or "test".
        groups: Groups of the images in the order of the arrays, if they are in some.

    Raises:
        ShapeError: If the numbers of images differ.
    """
    known = [(name, by_seed) for name, by_seed in answers if by_seed]
    combinations = list(itertools.combinations(known, 2))
    pairs = []
    n = len(combinations)
    for (first, right_a), (second, right_b) in combinations:
        scores_a, scores_b = _scored(right_a), _scored(right_b)
        if scores_a:
            runs_a, runs_b, paired = runs_by_seed(scores_a, scores_b)
            found, measure = map_difference(runs_a, runs_b, paired=paired, n_comparisons=n), "mAP"
            seeds = (len(runs_a), len(runs_b))
        else:
            rows_a, rows_b, paired = rows_by_seed(_plain(right_a), _plain(right_b))
            found = difference(rows_a, rows_b, paired=paired, n_comparisons=n, groups=groups)
            measure = "accuracy"
            seeds = (len(rows_a), len(rows_b))
        pairs.append(Pair(first, second, seeds, found, part, measure))
    return tuple(pairs)


def _scored(results: Mapping[int, BoolArray | Scored]) -> dict[int, Scored]:
    return {seed: each for seed, each in results.items() if isinstance(each, Scored)}


def _plain(right: Mapping[int, BoolArray | Scored]) -> dict[int, BoolArray]:
    return {seed: row for seed, row in right.items() if not isinstance(row, Scored)}


def _median(values: Sequence[float | None]) -> float | None:
    import statistics

    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
