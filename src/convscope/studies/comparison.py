"""A comparison of ways of training: its runs, and what they show, as sentences."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from convscope.evaluation.statistics import (
    Difference,
    Spread,
    difference,
    seeds_to_show,
    spread_over_seeds,
)
from convscope.types import BoolArray

SIZES = (0.002, 0.005, 0.01, 0.02, 0.05)
"""Differences of which it is told how many seeds would show them."""


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
        multiply_adds: Of the whole model, for one image.
        latency_ms: From one image in memory to its answer, in milliseconds; the median.
        file_mb: Of the saved model, in megabytes.
    """

    name: str
    model: str
    recipe: str
    trials: tuple[Trial, ...]
    n_params: int | None = None
    multiply_adds: int | None = None
    latency_ms: float | None = None
    file_mb: float | None = None

    @property
    def test_accuracies(self) -> list[float]:
        """Of those trials that have been judged on the test images."""
        return [t.test_accuracy for t in self.trials if t.test_accuracy is not None]

    @property
    def failed(self) -> tuple[Trial, ...]:
        """Those that could not be trained."""
        return tuple(trial for trial in self.trials if trial.failure)

    @property
    def accuracy(self) -> Spread | None:
        """Of the test images, over seeds; None while no trial has been judged."""
        return spread_over_seeds(self.test_accuracies) if self.test_accuracies else None

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
    """

    first: str
    second: str
    seeds: tuple[int, int]
    found: Difference

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
        n_images: How many test images there are.
        arms: In the order in which they were given.
        pairs: Each two arms that have been judged.
        looks: How many seeds there were, each time that the test images were opened.
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
        return conclude(self.arms, self.pairs)

    @property
    def about(self) -> str:
        """What was compared on what, for people."""
        counts = sorted({len(arm.trials) for arm in self.arms})
        seeds = " or ".join(map(str, counts))
        plural = "" if counts == [1] else "s"
        return (
            f"{len(self.arms)} ways of training on {self.data}, {seeds} seed{plural} each, "
            f"judged on {self.n_images:,} test images"
        )

    @property
    def caution(self) -> str:
        """How the intervals are to be read."""
        said = "An interval says what other seeds and other images of the same kind would give."
        if any(min(pair.seeds) == 1 for pair in self.pairs):
            said = (
                "With a single seed the interval is about the very networks that were trained, "
                "not about the ways of training: another seed may turn it round."
            )
        if len(self.pairs) > 1:
            said += (
                f" All {len(self.pairs)} verdicts together hold in 95 of 100 such comparisons "
                "(Bonferroni)."
            )
        earlier = [str(n) for n in self.looks[:-1]]
        if earlier:
            said += (
                f" Seeds were added after a look at the result (after {_joined(earlier)}), which "
                "makes a chance difference likelier to be taken for a true one."
            )
        return said


def pairs_of(answers: Sequence[tuple[str, dict[int, BoolArray]]]) -> tuple[Pair, ...]:
    """Compare each two arms by which images each of their runs has right.

    Runs of the same seeds are compared seed by seed. Where a seed is missing on one side, those
    that both have are taken; two arms without a common seed are compared as they are.

    Args:
        answers: The name of each arm, and by seed an array of shape (n_images,); arms without
            any are passed over.

    Raises:
        ShapeError: If the numbers of images differ.
    """
    import numpy as np

    known = [(name, by_seed) for name, by_seed in answers if by_seed]
    twos = list(itertools.combinations(known, 2))
    pairs = []
    for (first, right_a), (second, right_b) in twos:
        common = sorted(right_a.keys() & right_b.keys())
        # One common seed of several would throw the others away.
        paired = len(common) > 1 or right_a.keys() == right_b.keys()
        seeds_a, seeds_b = (common, common) if paired else (sorted(right_a), sorted(right_b))
        found = difference(
            np.stack([right_a[seed] for seed in seeds_a]),
            np.stack([right_b[seed] for seed in seeds_b]),
            paired=paired,
            n_comparisons=len(twos),
        )
        pairs.append(Pair(first, second, (len(seeds_a), len(seeds_b)), found))
    return tuple(pairs)


def verdict(pair: Pair) -> str:
    """Say in a sentence what a pair shows."""
    found = pair.found
    if found.identical:
        each = "" if pair.seeds == (1, 1) else f" with each of {pair.seeds[0]} seeds"
        return f"{pair.first} and {pair.second} are right on the same images{each}: no difference."
    if not found.shown:
        return (
            f"No difference shown between {pair.first} and {pair.second}: "
            f"{_at_most([found])} either way."
        )
    better, worse, low, high = pair.second, pair.first, found.low, found.high
    if found.mean < 0:
        better, worse, low, high = pair.first, pair.second, -found.high, -found.low
    decimals = 1 if low >= 0.0005 else 2
    between = f"{100 * low:.{decimals}f} to {100 * high:.{decimals}f}"
    return f"{better} is better than {worse} by {between} points."


def _points(size: float) -> str:
    """Return one of `SIZES` in words: "0.5 points", "1 point"."""
    return f"{100 * size:g} point" + ("" if 100 * size == 1 else "s")


def outlook(pair: Pair) -> str:
    """Say how many seeds would show a difference that is not shown; nothing if one is."""
    found = pair.found
    if found.shown or found.identical:
        return ""
    if found.variation.seeds is None:
        return "More than one seed of each would tell the ways of training apart from their luck."
    needed = {
        size: seeds_to_show(size, found.variation, confidence=found.confidence)
        for size in (*SIZES, abs(found.mean))
        if size
    }
    here = min(pair.seeds)
    sentences = []
    if (n := needed.get(abs(found.mean))) is not None and n > here and abs(found.mean) >= SIZES[0]:
        points = f"{100 * abs(found.mean):.1f} points"
        sentences.append(f"If it is as large as found here ({points}), {n} seeds of each show it.")
    more = [(size, n) for size in SIZES if (n := needed[size]) is not None and n > here]
    if more:
        # Three are enough to see how the effort grows.
        told = _joined([f"{_points(size)} with {n}" for size, n in more[-3:]])
        sentences.append(f"Seeds of each that would show a difference: {told}.")
    unseen = [size for size in SIZES if needed[size] is None]
    if unseen:
        sentences.append(
            f"No number of seeds would show {_points(unseen[-1])}: "
            f"{found.variation.n_images:,} test images are too few."
        )
    return " ".join(sentences)


def conclude(arms: Sequence[Arm], pairs: Sequence[Pair]) -> str:
    """Say in a sentence or two which arm is best, as far as that is shown.

    Args:
        arms: With their trials.
        pairs: Each two of those that have been judged.
    """
    ranked = sorted(
        ((arm.accuracy.mean, arm.name) for arm in arms if arm.accuracy is not None), reverse=True
    )
    if not ranked:
        return "None has been judged on the test images yet."
    mean, best = ranked[0]
    if not pairs:
        return f"Only {best} has been judged: {mean:.1%} of the test images right."
    if all(pair.found.identical for pair in pairs):
        if len(ranked) > 2:
            return f"All {len(ranked)} are right on the same images: {mean:.1%} of them."
        return f"Both are right on the same images: {mean:.1%} of them."
    if not any(pair.found.shown for pair in pairs):
        whose = {2: "the two", 3: "the three"}.get(len(ranked), f"the {len(ranked)}")
        most = _at_most([pair.found for pair in pairs])
        return f"No difference is shown between {whose}: {most} either way."
    equals = [
        pair.second if pair.first == best else pair.first
        for pair in pairs
        if best in (pair.first, pair.second) and not pair.found.shown
    ]
    if not equals:
        beaten = [
            min(abs(pair.found.low), abs(pair.found.high))
            for pair in pairs
            if best in (pair.first, pair.second)
        ]
        others = "the other" if len(ranked) == 2 else "every other"
        return (
            f"{best} is best with {mean:.1%} of the test images right, by "
            f"{100 * min(beaten):.1f} points or more over {others}."
        )
    return (
        f"{best} has most test images right ({mean:.1%}); "
        f"no difference to {_joined(equals)} is shown."
    )


def _at_most(found: Sequence[Difference]) -> str:
    most = max(max(abs(each.low), abs(each.high)) for each in found)
    # Rounded up: what is said to be the most has to be.
    return f"at most {math.ceil(1000 * most - 1e-9) / 10:.1f} points"


def _joined(words: Sequence[str]) -> str:
    """Return words as in a sentence.

    Examples:
        >>> _joined(["a"]), _joined(["a", "b"]), _joined(["a", "b", "c"])
        ('a', 'a and b', 'a, b and c')
    """
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def _median(values: Sequence[float | None]) -> float | None:
    import statistics

    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
