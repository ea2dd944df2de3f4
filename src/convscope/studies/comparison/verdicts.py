"""Results of a comparison in sentences: on configurations, or on two networks only."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from convscope.evaluation.power import seeds_to_show
from convscope.evaluation.statistics import Difference
from convscope.types import PART_NAMES

if TYPE_CHECKING:
    from convscope.studies.comparison.comparison import Arm, Pair

SIZES = (0.002, 0.005, 0.01, 0.02, 0.05)
"""Differences for which the needed number of seeds is reported."""


def verdict(pair: "Pair") -> str:
    """Return a sentence on what a pair shows: for two runs, nothing about their configurations."""
    found = pair.found
    first, second = (_spoken(name, pair) for name in (pair.first, pair.second))
    if found.identical:
        each = f" with each of {pair.seeds[0]} seeds" if found.of_ways else ""
        same = "are correct on the same images"
        if pair.measure != "accuracy":
            same = "give the same answers"
        return _sentence(f"{first} and {second} {same}{each}: no difference.")
    if not found.shown:
        return f"No difference shown between {first} and {second}: {_at_most([found])} either way."
    better, worse, low, high = second, first, found.low, found.high
    if found.mean < 0:
        better, worse, low, high = first, second, -found.high, -found.low
    decimals = decimals_of(low)
    by = f"by {100 * low:.{decimals}f} to {100 * high:.{decimals}f} points"
    if found.of_ways:
        return f"{better} is better than {worse} {by}."
    images = f"{PART_NAMES[pair.part]} images"
    if pair.measure != "accuracy":
        return _sentence(f"{better} has a higher {pair.measure} on {images} than {worse}, {by}.")
    return _sentence(f"{better} classifies more {images} correctly than {worse}, {by}.")


def _spoken(name: str, pair: "Pair") -> str:
    return name if pair.found.of_ways else f"this run of {name}"


def _sentence(words: str) -> str:
    """Capitalise words that begin with "this"; names stay as they are."""
    return f"T{words[1:]}" if words.startswith("this run of ") else words


def decimals_of(lead: float) -> int:
    """Return the decimals with which a lead, in points and rounded down, is above 0.

    Args:
        lead: A fraction above 0.

    Examples:
        >>> decimals_of(0.05), decimals_of(0.001), decimals_of(0.0003)
        (1, 1, 2)
    """
    return max(1, math.ceil(-math.log10(100 * lead) - 1e-9))


def _at_least(lead: float) -> str:
    # Rounded down, since it is stated as a minimum.
    decimals = decimals_of(lead)
    least = math.floor(100 * lead * 10**decimals + 1e-9) / 10**decimals
    return f"at least {least:.{decimals}f} points"


def _points(size: float) -> str:
    """Return one of `SIZES` in words: "0.5 points", "1 point"."""
    return f"{100 * size:g} point" + ("" if 100 * size == 1 else "s")


def outlook(pair: "Pair") -> str:
    """Return the number of seeds that would show a difference that is not shown, in words."""
    found = pair.found
    if found.shown or found.identical:
        return ""
    if found.variation.seeds is None:
        return "Only several seeds of each can separate the configurations from chance."
    needed = {
        size: seeds_to_show(
            size,
            found.variation,
            confidence=found.confidence,
            few_groups=found.variation.grouped and pair.measure == "accuracy",
        )
        for size in (*SIZES, abs(found.mean))
        if size
    }
    here = min(pair.seeds)
    sentences = []
    if (n := needed.get(abs(found.mean))) is not None and n > here and abs(found.mean) >= SIZES[0]:
        points = f"{100 * abs(found.mean):.1f} points"
        sentences.append(
            f"If it is as large as measured here ({points}), {n} seeds of each would show it."
        )
    more = [(size, n) for size in SIZES if (n := needed[size]) is not None and n > here]
    if more:
        # Three suffice to show how the effort grows.
        needed_seeds = _joined([f"{n} for {_points(size)}" for size, n in more[-3:]])
        sentences.append(f"Seeds per configuration needed to show a difference: {needed_seeds}.")
    unseen = [size for size in SIZES if needed[size] is None]
    if unseen:
        sentences.append(
            f"No number of seeds would show {_points(unseen[-1])}: "
            f"{found.variation.n_images:,} "
            f"{'groups of ' if found.variation.grouped else ''}{PART_NAMES[pair.part]} images are "
            "too few."
        )
    return " ".join(sentences)


def conclude(arms: Sequence["Arm"], pairs: Sequence["Pair"]) -> str:
    """Return one or two sentences on which arm is best, as far as that is shown.

    Arms are ranked by the differences of their pairs, so that a seed which failed in one of two
    arms counts in neither, as in their verdict.

    Args:
        arms: Arms with their trials.
        pairs: Differences of each two evaluated arms.
    """
    known = {arm.name: arm for arm in arms if arm.accuracy is not None}
    if not known:
        return "None has been evaluated yet."
    ranked = sorted(known, key=lambda name: rank(name, pairs))
    part, measure = PART_NAMES[arms[0].part], arms[0].measure
    best = ranked[0]
    means, where = _as_compared([arm.by_seed for arm in known.values()])
    mean = means[list(known).index(best)]
    if not pairs and len(ranked) > 1:
        return "Not every run has been trained yet."
    if not pairs:
        return f"Only {best} has been evaluated: {mean:.1%} {part} {measure}."
    runs = "" if any(pair.found.of_ways for pair in pairs) else " runs"
    if all(pair.found.identical for pair in pairs):
        both = "Both" if len(ranked) == 2 else f"All {len(ranked)}"
        same = "are correct on the same images" if measure == "accuracy" else "answer alike"
        return f"{both}{runs} {same}: {mean:.1%} {measure}."
    if not any(pair.found.shown for pair in pairs):
        whose = {2: "the two", 3: "the three"}.get(len(ranked), f"the {len(ranked)}")
        most = _at_most([pair.found for pair in pairs])
        return f"No difference is shown between {whose}{runs}: {most} either way."
    # The least lead of the best over each other arm; below 0 where it is not shown.
    leads = {p.first: (p.found.low, p.found.of_ways) for p in pairs if p.second == best}
    leads |= {p.second: (-p.found.high, p.found.of_ways) for p in pairs if p.first == best}
    level = [name for name, (lead, _) in leads.items() if lead <= 0]
    # Where others have several seeds, the ones that were compared run against run.
    by_luck = [name for name, (lead, of_ways) in leads.items() if lead > 0 and not of_ways]
    if not level and (runs or not by_luck):
        lead = _at_least(min(lead for lead, _ in leads.values()))
        others = "the other" if len(ranked) == 2 else "every other"
        if not runs:
            return f"{best} is best with {mean:.1%} {part} {measure}{where}, {lead} above {others}."
        return (
            f"This run of {best} has the highest {part} {measure} ({mean:.1%}), {lead} above "
            f"{others}; only several seeds can show which configuration is best."
        )
    whose = "This run of " if runs else ""
    said = f"{whose}{best} has the highest {part} {measure} ({mean:.1%}{where})"
    if level:
        said += f"; no difference to {_joined(level)} is shown"
    if by_luck and not runs:
        said += f"; a single run each does not show that it is better than {_joined(by_luck)}"
    return f"{said}."


def rank(name: str, pairs: Sequence["Pair"]) -> tuple[int, float, str]:
    """Return by what arms are sorted, the best first: no other is shown to be better."""
    leads = [
        (lead_of(name, pair), pair.found.shown)
        for pair in pairs
        if name in (pair.first, pair.second)
    ]
    return sum(lead < 0 and shown for lead, shown in leads), -sum(lead for lead, _ in leads), name


def lead_of(name: str, pair: "Pair") -> float:
    """Return the difference of a pair from the side of one of the two."""
    return pair.found.mean if pair.second == name else -pair.found.mean


def _as_compared(by_seed: Sequence[Mapping[int, float]]) -> tuple[list[float], str]:
    """Return the means of arms over the seeds that all have, and words that say so.

    As for pairs, a single seed in common of several does not discard the others.
    """
    common = set.intersection(*(set(each) for each in by_seed))
    if len(common) < 2 or all(len(each) == len(common) for each in by_seed):
        return [sum(each.values()) / len(each) for each in by_seed], ""
    whose = "both" if len(by_seed) == 2 else "all"
    means = [sum(each[seed] for seed in sorted(common)) / len(common) for each in by_seed]
    return means, f" over the seeds that {whose} have"


def chosen(arms: Sequence["Arm"]) -> str:
    """Return the test accuracy of the arm that validation images select; nothing before the test.

    The best of several on the test images looks better there than elsewhere; this number is not the
    result of such a choice.

    Args:
        arms: Arms with their trials.
    """
    known = [
        (arm, by_seed)
        for arm in arms
        if arm.part == "test" and arm.accuracy is not None and (by_seed := arm.val_by_seed)
    ]
    if len(known) < 2:
        return ""
    means, where = _as_compared([by_seed for _, by_seed in known])
    ranked = sorted(
        ((val, arm.name, arm) for val, (arm, _) in zip(means, known, strict=True)), reverse=True
    )
    if ranked[0][0] == ranked[1][0]:
        return ""
    val, name, arm = ranked[0]
    assert arm.accuracy is not None
    return (
        f"Validation {arm.measure} selects {name} ({val:.1%}{where}); its {arm.measure} on the "
        f"test images, which had no part in that choice, is {arm.accuracy.mean:.1%}."
    )


Look = int | tuple[int, ...]
"""Seeds of an evaluation of all arms; or their number, where an older version kept that alone."""


def caution(pairs: Sequence["Pair"], looks: Sequence[Look], part: str = "test") -> str:
    """Return sentences on how to read the intervals of a comparison.

    Args:
        pairs: Differences of each two evaluated arms.
        looks: Seeds of each evaluation on that part, in order.
        part: Images of the comparison: "val" or "test".
    """
    of_arms = [pair for pair in pairs if pair.found.of_ways]
    sentences = []
    if of_arms:
        sentences.append(
            "The interval of a difference covers other seeds and other images of the same kind."
        )
    if any(min(pair.seeds) == 1 for pair in of_arms):
        sentences.append(
            "A configuration with a single seed is assumed to spread over seeds as the one that "
            "it is compared with."
        )
    if len(of_arms) < len(pairs):
        sentences.append(
            "With a single seed each, an interval is for the very networks that were trained, on "
            "other images of the same kind, not for the configurations: another seed may reverse "
            "it."
        )
    said = " ".join(sentences)
    if len(pairs) > 1:
        said += (
            f" All {len(pairs)} verdicts hold jointly in 95 of 100 such comparisons (Bonferroni)."
        )
    if part == "val":
        said += (
            " Validation images serve choices, of epochs and weights in many recipes and of a "
            "configuration here, so the best of these numbers is not one to report; for that, "
            "--final opens the test images, once for all runs."
        )
    *before, now = looks or [()]
    others = [
        each
        for each in before
        if isinstance(each, tuple) and isinstance(now, tuple) and not {*each} <= {*now}
    ]
    added = [each for each in before if each not in others]
    told = []
    if added:
        counts = [str(each if isinstance(each, int) else len(each)) for each in added]
        told.append(f"Seeds were added after a look at the result (after {_joined(counts)})")
    if others:
        sets = "; ".join(_joined([str(seed) for seed in each]) for each in others)
        told.append(f"The result of other seeds was looked at before ({sets})")
    for sentence in told:
        said += (
            f" {sentence}, which makes it likelier that a chance difference is taken for a true "
            "one."
        )
    return said


def _at_most(found: Sequence[Difference]) -> str:
    most = max(max(abs(each.low), abs(each.high)) for each in found)
    # Rounded up, since it is stated as a maximum.
    return f"at most {math.ceil(1000 * most - 1e-9) / 10:.1f} points"


def _joined(words: Sequence[str]) -> str:
    """Return words joined as in a sentence.

    Examples:
        >>> _joined(["a"]), _joined(["a", "b"]), _joined(["a", "b", "c"])
        ('a', 'a and b', 'a, b and c')
    """
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last
