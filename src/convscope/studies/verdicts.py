"""What a comparison shows, in sentences: of ways of training, or of two networks alone."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from convscope.evaluation.power import seeds_to_show
from convscope.evaluation.statistics import Difference

if TYPE_CHECKING:
    from convscope.studies.comparison import Arm, Pair

PART_NAMES = {"val": "validation", "test": "test"}
"""The parts of a dataset in words."""

SIZES = (0.002, 0.005, 0.01, 0.02, 0.05)
"""Differences of which it is told how many seeds would show them."""


def verdict(pair: "Pair") -> str:
    """Say in a sentence what a pair shows: of two runs, nothing about their ways of training."""
    found = pair.found
    first, second = (_spoken(name, pair) for name in (pair.first, pair.second))
    if found.identical:
        each = f" with each of {pair.seeds[0]} seeds" if found.of_ways else ""
        return _sentence(f"{first} and {second} are right on the same images{each}: no difference.")
    if not found.shown:
        return f"No difference shown between {first} and {second}: {_at_most([found])} either way."
    better, worse, low, high = second, first, found.low, found.high
    if found.mean < 0:
        better, worse, low, high = first, second, -found.high, -found.low
    decimals = 1 if low >= 0.0005 else 2
    by = f"by {100 * low:.{decimals}f} to {100 * high:.{decimals}f} points"
    if found.of_ways:
        return f"{better} is better than {worse} {by}."
    images = f"{PART_NAMES[pair.part]} images"
    return _sentence(f"{better} answers more {images} correctly than {worse}, {by}.")


def _spoken(name: str, pair: "Pair") -> str:
    return name if pair.found.of_ways else f"this run of {name}"


def _sentence(words: str) -> str:
    """Return words with a capital where they begin with "this"; names stay as they are."""
    return f"T{words[1:]}" if words.startswith("this run of ") else words


def _points(size: float) -> str:
    """Return one of `SIZES` in words: "0.5 points", "1 point"."""
    return f"{100 * size:g} point" + ("" if 100 * size == 1 else "s")


def outlook(pair: "Pair") -> str:
    """Say how many seeds would show a difference that is not shown; nothing if one is."""
    found = pair.found
    if found.shown or found.identical:
        return ""
    if found.variation.seeds is None:
        return "Several seeds of each would tell the ways of training apart from their luck."
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
            f"{found.variation.n_images:,} {PART_NAMES[pair.part]} images are too few."
        )
    return " ".join(sentences)


def conclude(arms: Sequence["Arm"], pairs: Sequence["Pair"]) -> str:
    """Say in a sentence or two which arm is best, as far as that is shown.

    Args:
        arms: With their trials.
        pairs: Each two of those that have been judged.
    """
    ranked = sorted(
        ((arm.accuracy.mean, arm.name) for arm in arms if arm.accuracy is not None), reverse=True
    )
    if not ranked:
        return "None has been judged yet."
    part = f"{PART_NAMES[arms[0].part]} images"
    mean, best = ranked[0]
    if not pairs and len(ranked) > 1:
        return "Not every run has been trained yet."
    if not pairs:
        return f"Only {best} has been judged: {mean:.1%} of the {part} right."
    runs = "" if any(pair.found.of_ways for pair in pairs) else " runs"
    if all(pair.found.identical for pair in pairs):
        both = "Both" if len(ranked) == 2 else f"All {len(ranked)}"
        return f"{both}{runs} are right on the same images: {mean:.1%} of them."
    if not any(pair.found.shown for pair in pairs):
        whose = {2: "the two", 3: "the three"}.get(len(ranked), f"the {len(ranked)}")
        most = _at_most([pair.found for pair in pairs])
        return f"No difference is shown between {whose}{runs}: {most} either way."
    # The least by which the best is ahead of each other one; below 0 where that is not shown.
    leads = {p.first: (p.found.low, p.found.of_ways) for p in pairs if p.second == best}
    leads |= {p.second: (-p.found.high, p.found.of_ways) for p in pairs if p.first == best}
    level = [name for name, (lead, _) in leads.items() if lead <= 0]
    # Where others have several seeds, those that were compared run against run.
    by_luck = [name for name, (lead, of_ways) in leads.items() if lead > 0 and not of_ways]
    if not level and (runs or not by_luck):
        by = f"{100 * min(lead for lead, _ in leads.values()):.1f} points or more"
        others = "the other" if len(ranked) == 2 else "every other"
        if not runs:
            return f"{best} is best with {mean:.1%} of the {part} right, by {by} over {others}."
        return (
            f"This run of {best} has most {part} right ({mean:.1%}), by {by} over {others}; "
            "which way of training is best takes several seeds to tell."
        )
    said = f"{'This run of ' if runs else ''}{best} has most {part} right ({mean:.1%})"
    if level:
        said += f"; no difference to {_joined(level)} is shown"
    if by_luck and not runs:
        said += f"; a single run each does not show that it is better than {_joined(by_luck)}"
    return f"{said}."


def chosen(arms: Sequence["Arm"]) -> str:
    """Say what the test images say of the way that validation images choose; nothing before that.

    The best of several on the test images is better there than elsewhere; this number is not the
    outcome of a choice.

    Args:
        arms: With their trials.
    """
    known = [arm for arm in arms if arm.part == "test" and arm.accuracy is not None]
    by_val = [(_mean_of_val(arm), arm) for arm in known]
    ranked = sorted(((val, arm.name, arm) for val, arm in by_val if val is not None), reverse=True)
    if len(ranked) < 2 or ranked[0][0] == ranked[1][0]:
        return ""
    val, name, arm = ranked[0]
    assert arm.accuracy is not None
    return (
        f"By validation images {name} is chosen ({val:.1%} of them right); the test images, which "
        f"had no part in that choice, give it {arm.accuracy.mean:.1%}."
    )


def _mean_of_val(arm: "Arm") -> float | None:
    known = [trial.val_accuracy for trial in arm.trials if trial.val_accuracy is not None]
    return sum(known) / len(known) if known else None


def caution(pairs: Sequence["Pair"], looks: Sequence[int], part: str = "test") -> str:
    """Say how the intervals of a comparison are to be read.

    Args:
        pairs: Each two arms that have been judged.
        looks: Numbers of seeds, each time that they were judged by that part.
        part: Whose images they were judged by: "val" or "test".
    """
    ways = [pair for pair in pairs if pair.found.of_ways]
    told = []
    if ways:
        told.append("An interval says what other seeds and other images of the same kind give.")
    if any(min(pair.seeds) == 1 for pair in ways):
        told.append(
            "A way with a single seed is taken to spread over seeds as the one that it is "
            "compared with."
        )
    if len(ways) < len(pairs):
        told.append(
            "With a single seed each, an interval is about the very networks that were trained "
            "on other images of the same kind, not about the ways of training: another seed "
            "may turn it round."
        )
    said = " ".join(told)
    if len(pairs) > 1:
        said += (
            f" All {len(pairs)} verdicts together hold in 95 of 100 such comparisons (Bonferroni)."
        )
    if part == "val":
        said += (
            " Validation images serve choices, of epochs and weights in many recipes and of a way "
            "of training here, so the best of these numbers is none to report; for that, --final "
            "opens the test images, once for all runs."
        )
    earlier = [str(n) for n in looks[:-1]]
    if earlier:
        said += (
            f" Seeds were added after a look at the result (after {_joined(earlier)}), which "
            "makes a chance difference likelier to be taken for a true one."
        )
    return said


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
