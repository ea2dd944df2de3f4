"""Section 4: are the three styles equal?"""

import math

from convscope.evaluation.statistics import spread_over_seeds
from convscope.report.page import (
    Bar,
    Bars,
    Beside,
    Block,
    Box,
    Code,
    Command,
    Points,
    Section,
    Table,
    Text,
)
from convscope.studies.comparison.comparison import Pair
from convscope.studies.comparison.verdicts import decimals_of
from convscope.studies.tutorial import published
from convscope.studies.tutorial.code import comparing, comparing_ours
from convscope.studies.tutorial.facts import STYLE_NAMES, Facts, percent
from convscope.studies.tutorial.plan import SEVERAL, STYLES


def section(facts: Facts) -> Section:
    """Return the section: accuracies by style and seed, and what they show."""
    _ = facts.words.gettext
    n_seeds = facts.plan.n_seeds
    blocks: list[Block] = [
        Text(
            _(
                "The tutorial trains each style once and gets three accuracies. To tell a "
                "difference of the styles from chance, the same seed is given to each: the same "
                "initial weights, and the same images in the same order."
            )
        ),
    ]
    if n_seeds > 1:
        blocks.append(
            Text(
                _(
                    "{style} is trained with {n} seeds as well, which shows how much chance alone "
                    "moves an accuracy."
                ).format(style=STYLE_NAMES[SEVERAL], n=n_seeds)
            )
        )
    if facts.comparison is not None:
        blocks += [_bars(facts), _table(facts)]
        sentences = [(_verdict(facts, pair), "") for pair in facts.comparison.pairs]
        blocks.append(Points(sentences))
    elif facts.done:
        blocks.append(Text(_("It has not been trained yet."), small=True))
    blocks += [
        Beside(
            (
                Code(comparing(facts.epochs), _("Keras alone")),
                Code(comparing_ours(facts.data, facts.epochs, n_seeds), "convscope"),
            )
        ),
        Box(
            _("What to try next"),
            (
                Text(
                    _(
                        "Compare what does differ, over several seeds: settings, networks, "
                        "recipes. The verdict says what is shown, and what chance may explain."
                    )
                ),
                Command(
                    facts.command(
                        "compare",
                        *("--models", "cnn-functional", "--vary", "augment.crop=0,0.1"),
                        *("--seeds", "3"),
                    )
                ),
            ),
        ),
    ]
    return Section(_("Are the styles equal?"), blocks)


def equal(facts: Facts) -> bool:
    """Return whether the styles are correct on the same images throughout."""
    pairs = facts.comparison.pairs if facts.comparison is not None else ()
    return bool(pairs) and all(pair.found.identical for pair in pairs)


def _bars(facts: Facts) -> Bars:
    _ = facts.words.gettext
    bars = []
    for style in STYLES:
        theirs = published.STYLES[style]
        name = _("{style}, the tutorial").format(style=STYLE_NAMES[style])
        if facts.data.is_tutorials:
            bars.append(Bar(name, theirs.accuracy, percent(theirs.accuracy), foreign=True))
        found = [run.test_accuracy for run in facts.runs_of(style)]
        known = [accuracy for accuracy in found if accuracy is not None]
        if not known:
            continue
        spread = spread_over_seeds(known)
        low, high = spread.low, spread.high
        name = _("{style}, here").format(style=STYLE_NAMES[style])
        if spread.n_seeds > 1:
            name = _("{style}, here ({n} seeds)").format(style=STYLE_NAMES[style], n=spread.n_seeds)
        else:
            low, high = facts.runs_of(style)[0].metrics["test"]["accuracy_interval_95"]
        bars.append(Bar(name, spread.mean, percent(spread.mean), low, high))
    return Bars(
        bars,
        _("Test accuracy of the three styles"),
        _(
            "The lines are 95 % intervals: of the mean over seeds where there are several, else of "
            "this one network on other images of the same kind."
        ),
    )


def _table(facts: Facts) -> Table:
    """Return the accuracy of each run by seed, the tutorial's beside it."""
    _ = facts.words.gettext
    seeds = sorted({run.seed for run in facts.runs})
    rows = []
    for style in STYLES:
        by_seed = {run.seed: run.test_accuracy for run in facts.runs_of(style)}
        known = [value for value in by_seed.values() if value is not None]
        spread = spread_over_seeds(known) if known else None
        mean = "" if spread is None else f"{spread.mean:.4f}"
        if spread is not None and spread.sd is not None:
            mean += f" ± {spread.sd:.4f}"
        cells = ["" if (v := by_seed.get(seed)) is None else f"{v:.4f}" for seed in seeds]
        theirs = f"{published.STYLES[style].accuracy:.4f}"
        rows.append([STYLE_NAMES[style], theirs, *cells, mean])
    columns = (
        _("style"),
        _("tutorial"),
        *(_("seed {seed}").format(seed=seed) for seed in seeds),
        _("mean ± standard deviation"),
    )
    return Table(columns, rows, _("Test accuracy by seed; the tutorial's is on CIFAR-10"))


def _verdict(facts: Facts, pair: Pair) -> str:
    _ = facts.words.gettext
    found = pair.found
    names = {"a": STYLE_NAMES.get(pair.first, pair.first)}
    names["b"] = STYLE_NAMES.get(pair.second, pair.second)
    if found.identical:
        return _(
            "{a} and {b} are correct on the very same test images with the same seed: no "
            "difference, one network written in two ways."
        ).format(**names)
    if not found.shown:
        most = math.ceil(1000 * max(abs(found.low), abs(found.high)) - 1e-9) / 10
        return _(
            "No difference is shown between {a} and {b}: at most {most} points either way."
        ).format(**names, most=f"{most:.1f}")
    low, high = found.low, found.high
    if found.mean < 0:
        low, high = -found.high, -found.low
        names = {"a": names["b"], "b": names["a"]}
    decimals = decimals_of(low)
    return _("{b} is correct on more test images than {a}, by {low} to {high} points.").format(
        **names, low=f"{100 * low:.{decimals}f}", high=f"{100 * high:.{decimals}f}"
    )
