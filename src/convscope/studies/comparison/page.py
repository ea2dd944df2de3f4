"""The page of a comparison."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from convscope.report.figures import FAINT, INK, PALETTE, label_in_percent, new_figure, plain_axes
from convscope.report.page import Block, Page, Picture, Points, Section, Table, Text, svg_picture
from convscope.studies.comparison.comparison import Arm, Comparison, Pair
from convscope.studies.comparison.verdicts import lead_of, rank
from convscope.types import PART_NAMES
from convscope.wording import duration

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curves = Mapping[str, Sequence[Sequence[float]]]
"""Validation accuracy after each epoch, for each run of each arm."""

_WIDTH = 6.4  # inches, of every picture: so that their letters are legible on a phone


def comparison_page(comparison: Comparison, curves: Curves) -> Page:
    """Return the page of a comparison, finished or not.

    Args:
        comparison: Comparison so far.
        curves: Curves of the runs that have been trained.
    """
    arms = comparison.arms
    judged = [arm for arm in arms if arm.accuracies]
    sections = []
    if judged:
        blocks: list[Block] = [accuracy_picture(judged)]
        verdicts = sorted(comparison.pairs, key=lambda pair: -abs(pair.found.mean))
        if verdicts:
            blocks.append(Points([(pair.verdict, pair.outlook) for pair in verdicts]))
        sections.append(Section("Results", blocks))
    troubles = [
        (f"{arm.name}, seed {trial.seed}: {trial.failure}", "The other runs are unaffected.")
        for arm in arms
        for trial in arm.failed
    ]
    if troubles:
        sections.append(Section("Failed runs", [Points(troubles)]))
    sections.append(Section("Cost", _costs(arms, judged, comparison.pairs)))
    if any(curves.values()):
        sections.append(Section("Training", [curves_picture(arms, curves)]))
    if comparison.pairs:
        sections.append(Section("The tests behind the verdicts", _tests(comparison), folded=True))
    sections.append(Section("All runs", [_runs(arms)], folded=True))
    return Page(
        title=f"{_names(arms)} compared",
        about=comparison.about,
        verdict=comparison.conclusion,
        caution=comparison.caution if comparison.pairs else "",
        sections=sections,
    )


def accuracy_picture(arms: Sequence[Arm]) -> Picture:
    """Return the accuracy of each arm: mean, interval over seeds, and every run."""
    figure = new_figure(_WIDTH, 0.9 + 0.48 * len(arms))
    axes = figure.subplots()
    spoken = []
    for row, arm in enumerate(arms):
        accuracy = arm.accuracy
        assert accuracy is not None
        colour = PALETTE[row % len(PALETTE)]
        if accuracy.low is not None and accuracy.high is not None:
            axes.plot([accuracy.low, accuracy.high], [row] * 2, color=colour, linewidth=2.5)
        seeds = arm.accuracies
        axes.plot(seeds, [row] * len(seeds), "o", color=colour, markersize=6, alpha=0.35, mew=0)
        axes.plot(accuracy.mean, row, "D", color=colour, markersize=8, mec="white", mew=1)
        axes.annotate(
            f"{accuracy.mean:.1%}",
            (accuracy.mean, row),
            xytext=(0, 9),
            textcoords="offset points",
            ha="center",
            fontsize=10,
            color=INK,
        )
        spoken.append(f"{arm.name} {_spread(arm)}")
    axes.set_yticks(range(len(arms)), [arm.name for arm in arms], fontsize=10, color=INK)
    axes.set_ylim(len(arms) - 0.5, -0.6)
    label_in_percent(axes.xaxis)
    axes.set_xlabel(f"{_part(arms)} {_measure(arms)}", color=FAINT)
    plain_axes(axes)
    axes.grid(axis="x", color="#e5e5e5", linewidth=0.8)
    axes.tick_params(axis="y", colors=INK)
    several = any(len(arm.accuracies) > 1 for arm in arms)
    return svg_picture(
        figure,
        alt=f"{_part(arms).capitalize()} {_measure(arms)}: {'; '.join(spoken)}.",
        caption=f"{_ranking(arms)}.",
        legend="Diamonds are means, lines their 95 % intervals over seeds, dots runs."
        if several
        else "One run each.",
    )


def curves_picture(arms: Sequence[Arm], curves: Curves) -> Picture:
    """Return validation accuracy by epoch: thin lines for runs, thick ones for their mean."""
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(_WIDTH, 4.4)
    axes = figure.subplots()
    spoken: list[str] = []
    reached: list[tuple[float, int, str]] = []
    for index, arm in enumerate(arms):
        runs = [run for run in curves.get(arm.name, ()) if run]
        if not runs:
            continue
        colour = PALETTE[index % len(PALETTE)]
        for run in runs:
            axes.plot(range(1, len(run) + 1), run, color=colour, linewidth=0.8, alpha=0.4)
        # Runs that stopped early count in the mean only up to their last epoch.
        longest = max(map(len, runs))
        here = [[run[epoch] for run in runs if len(run) > epoch] for epoch in range(longest)]
        mean = [sum(values) / len(values) for values in here]
        best = max(range(longest), key=mean.__getitem__)
        axes.plot(
            range(1, longest + 1),
            mean,
            ("-", "--", ":", "-.")[index // len(PALETTE) % 4],
            color=colour,
            linewidth=_size(index, 4.0, 1.6),
            marker="o" if longest == 1 else None,
            label=arm.name,
        )
        spoken.append(
            f"{arm.name} is best after epoch {best + 1} of {longest} with {mean[best]:.1%}"
        )
        reached.append((mean[best], best + 1, arm.name))
    label_in_percent(axes.yaxis)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("epoch", color=FAINT)
    axes.set_ylabel("validation accuracy", color=FAINT)
    plain_axes(axes)
    figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=9)
    top, epoch, name = max(reached)
    leader = f"{name} reaches the highest accuracy"
    if len(reached) > 1 and len({f"{value:.1%}" for value, _, _ in reached}) == 1:
        leader = "All reach the same accuracy"
    return svg_picture(
        figure,
        alt=f"Validation accuracy by epoch: {'; '.join(spoken)}.",
        caption=f"{leader}: {top:.1%} of the validation images after epoch {epoch}.",
        legend="Thin lines are runs, thick ones their mean.",
    )


def cost_picture(arms: Sequence[Arm], pairs: Sequence[Pair]) -> Picture:
    """Return accuracy against training time and multiply-adds.

    Args:
        arms: Evaluated arms.
        pairs: Differences of each two of them.
    """
    figure = new_figure(_WIDTH, 6.2)
    kinds: Any = (
        ("training time", [arm.train_seconds for arm in arms]),
        ("multiply-adds per image", [arm.multiply_adds for arm in arms]),
    )
    panes: Any = figure.subplots(2, 1)
    for axes, (name, costs) in zip(panes, kinds, strict=True):
        for index, arm in enumerate(arms):
            accuracy, cost = arm.accuracy, costs[index]
            if cost is None or accuracy is None:
                continue
            low, high = _reach(arm)
            axes.errorbar(
                cost,
                accuracy.mean,
                yerr=[[accuracy.mean - low], [high - accuracy.mean]],
                color=PALETTE[index % len(PALETTE)],
                marker="DosX"[index // len(PALETTE) % 4],
                markersize=_size(index, 10.0, 5.0),
                elinewidth=_size(index, 3.0, 1.2),
                capsize=3,
                linestyle="none",
                label=arm.name,
            )
        axes.set_xscale("log")
        axes.set_xlabel(name, color=FAINT)
        plain_axes(axes)
        _decades(axes, [cost for cost in costs if cost], time=name.endswith("time"))
        label_in_percent(axes.yaxis)
        axes.set_ylabel(f"{_part(arms)} {_measure(arms)}", color=FAINT)
    handles, labels = panes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=2, frameon=False, fontsize=9)
    spoken = [
        f"{arm.name} {_spread(arm)}, {_time(arm.train_seconds)} of training, "
        f"{_count(arm.multiply_adds)} multiply-adds"
        for arm in arms
    ]
    return svg_picture(
        figure,
        alt=f"{_part(arms).capitalize()} {_measure(arms)} against cost: {'; '.join(spoken)}.",
        caption=_price(arms, pairs),
        legend="Up is better, left is cheaper. Lines are 95 % intervals over seeds.",
    )


def _costs(arms: Sequence[Arm], judged: Sequence[Arm], pairs: Sequence[Pair]) -> list[Block]:
    columns = (
        *("", f"{_part(arms)} {_measure(arms)}", "training", "memory", "one image", "parameters"),
        *("multiply-adds", "file"),
    )
    rows = [
        [
            arm.name,
            "" if arm.accuracy is None else f"{arm.accuracy.mean:.4f}",
            _time(arm.train_seconds),
            _megabytes(arm.peak_memory_mb),
            "" if arm.latency_ms is None else f"{arm.latency_ms:.1f} ms",
            _count(arm.n_params),
            _count(arm.multiply_adds),
            _megabytes(arm.file_mb),
        ]
        for arm in arms
    ]
    values: list[list[float | None]] = [
        [-arm.accuracy.mean if arm.accuracy else None for arm in arms],
        [arm.train_seconds for arm in arms],
        [arm.peak_memory_mb for arm in arms],
        [arm.latency_ms for arm in arms],
        [arm.n_params for arm in arms],
        [arm.multiply_adds for arm in arms],
        [arm.file_mb for arm in arms],
    ]
    best = {}
    for column, found in enumerate(values, 1):
        known = [(value, row) for row, value in enumerate(found) if value is not None]
        if known:
            row = min(known)[1]
            # Of equal readings none is the best.
            if sum(cells[column] == rows[row][column] for cells in rows) == 1:
                best[column] = row
    blocks: list[Block] = [
        Table(columns, rows, "Accuracy and cost; the best of each column in bold", best)
    ]
    if len(judged) > 1:
        blocks.append(cost_picture(judged, pairs))
    blocks.append(
        Text(
            "Training: epochs, features and search for a head, without validation; median over "
            "seeds. Memory: peak of the process of a run. One image: from its pixels in memory to "
            "the prediction, in Keras on the machine that made this page.",
            small=True,
        )
    )
    return blocks


def _tests(comparison: Comparison) -> list[Block]:
    columns = (
        *("", "difference", "interval", "p", "p over seeds", "p over images", "seeds"),
        *("spread of seeds", "spread of images"),
    )
    rows = []
    for pair in comparison.pairs:
        found = pair.found
        of_seeds = found.variation.seeds
        seeds = f"{pair.seeds[0]} and {pair.seeds[1]}"
        of_images = math.sqrt(found.variation.images / found.variation.n_images)
        rows.append(
            [
                f"{pair.second} minus {pair.first}",
                f"{100 * found.mean:+.2f}",
                f"{100 * found.low:+.2f} to {100 * found.high:+.2f}",
                _p(found.p),
                _p(found.p_seeds),
                _p(found.p_images),
                f"{pair.seeds[0]} pairs" if found.paired and pair.seeds[0] > 1 else seeds,
                "" if of_seeds is None else f"{100 * math.sqrt(of_seeds):.2f}",
                f"{100 * of_images:.2f}",
            ]
        )
    n = len(comparison.pairs)
    level = f"{100 * comparison.pairs[0].found.confidence:.2f}".rstrip("0").rstrip(".")
    return [
        Table(
            columns,
            rows,
            f"Differences in points of {_part(comparison.arms)} {_measure(comparison.arms)}",
        ),
        Text(
            f"Intervals hold with {level} % confidence each"
            + (f", so that all {n} hold jointly in 95 of 100 studies" if n > 1 else "")
            + ". p: the probability of a difference at least this large if there were none, over "
            "seeds and images together; over seeds alone it is Student's t-test, over images alone "
            + _test_of_images(comparison)
            + "; p values are not corrected for the number of comparisons. Spread of seeds: "
            "standard deviation of the difference over seeds; a configuration with a single seed "
            "gets that of the other. Spread of images: standard error of the difference over "
            f"other {'groups of ' if _is_grouped(comparison) else ''}images.",
            small=True,
        ),
    ]


def _test_of_images(comparison: Comparison) -> str:
    """Return the test behind the p values over images alone."""
    if _measure(comparison.arms) != "accuracy":
        of = "groups of them" if _is_grouped(comparison) else "them"
        return f"a normal test with the spread of bootstrap samples of {of}"
    if _is_grouped(comparison):
        return "Student's test over their groups"
    return "McNemar's exact test for single runs and a normal test for the mean of several"


def _is_grouped(comparison: Comparison) -> bool:
    return comparison.pairs[0].found.variation.grouped


def _runs(arms: Sequence[Arm]) -> Table:
    rows = [
        [
            f"{arm.name}, seed {trial.seed}",
            "" if trial.val_accuracy is None else f"{trial.val_accuracy:.4f}",
            "" if trial.test_accuracy is None else f"{trial.test_accuracy:.4f}",
            _time(trial.train_seconds),
            _megabytes(trial.peak_memory_mb),
            trial.run,
        ]
        for arm in arms
        for trial in arm.trials
    ]
    columns = ("", "validation", "test", "training", "memory", "folder")
    return Table(columns, rows, "Accuracy of every run, and its folder")


def _measure(arms: Sequence[Arm]) -> str:
    return arms[0].measure


def _part(arms: Sequence[Arm]) -> str:
    """Return the part that the arms are compared on, as a word."""
    return PART_NAMES[arms[0].part]


def _names(arms: Sequence[Arm]) -> str:
    if len(arms) <= 3:
        return ", ".join(arm.name for arm in arms)
    return f"{arms[0].name}, {arms[1].name} and {len(arms) - 2} more"


def _spread(arm: Arm) -> str:
    accuracy = arm.accuracy
    if accuracy is None:
        return ""
    said = f"{accuracy.mean:.4f}"
    if accuracy.low is not None and accuracy.high is not None:
        said += f" ({accuracy.low:.4f} to {accuracy.high:.4f})"
    return said


def _ranking(arms: Sequence[Arm]) -> str:
    """Return a sentence on the highest and the lowest accuracy."""
    ranked = sorted(
        ((arm.accuracy.mean, arm.name) for arm in arms if arm.accuracy is not None), reverse=True
    )
    (best, name), (least, last) = ranked[0], ranked[-1]
    if f"{best:.1%}" == f"{least:.1%}":
        return f"All have {best:.1%} {_part(arms)} {_measure(arms)}" if len(ranked) > 1 else name
    return f"{name} has {best:.1%} {_part(arms)} {_measure(arms)}, {last} {least:.1%}"


def _price(arms: Sequence[Arm], pairs: Sequence[Pair]) -> str:
    """Return a sentence on the training time of the best, against the quickest."""
    known = [(arm.train_seconds, arm) for arm in arms if arm.train_seconds and arm.accuracy]
    if not known:
        return "Accuracy against its cost."
    quickest_time, quickest = min(known, key=lambda each: each[0])
    best_time, best = min(known, key=lambda each: rank(each[1].name, pairs))
    two = {best.name, quickest.name}
    pair = next((pair for pair in pairs if {pair.first, pair.second} == two), None)
    gain = 100 * lead_of(best.name, pair) if pair is not None else 0.0
    if len({_time(seconds) for seconds, _ in known}) == 1 < len(known):
        return f"All train in about {_time(quickest_time)}."
    if best is quickest or gain < 0.05:
        return f"{quickest.name} trains in the shortest time, {_time(quickest_time)}."
    shown = pair is not None and pair.found.shown and pair.found.of_ways
    return (
        f"{best.name} takes {best_time / quickest_time:.1f} times as long to train as "
        f"{quickest.name}, for {gain:.1f} points more"
        f"{'' if shown else ', which is not shown to be more than chance'}."
    )


def _size(index: int, first: float, least: float) -> float:
    """Return a size that shrinks from arm to arm: where two overlap, both remain visible."""
    return float(max(least, first - index * (first - least) / 3))


def _reach(arm: Arm) -> tuple[float, float]:
    """Return the ends of an arm's interval in a picture."""
    accuracy = arm.accuracy
    assert accuracy is not None
    if accuracy.low is None or accuracy.high is None:
        return accuracy.mean, accuracy.mean
    return accuracy.low, accuracy.high


def _decades(axes: "Axes", values: Sequence[float], *, time: bool) -> None:
    """Set a few ticks with words on a logarithmic axis, and room beside the outermost points."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    if not values:
        # Nothing is measured yet; powers of ten would stand here as raw text.
        axes.xaxis.set_major_locator(NullLocator())
        axes.xaxis.set_minor_locator(NullLocator())
        return
    low, high = min(values) / 1.6, max(values) * 1.6
    axes.set_xlim(low, high)
    steps: tuple[float, ...] = (1, 3) if high / low < 300 else (1,)
    if high / low < 10:
        steps = (1, 1.5, 2, 3, 5, 7)
    ticks = [
        step * 10.0**power
        for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for step in steps
    ]
    axes.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    axes.xaxis.set_minor_locator(NullLocator())
    spelt = _time if time else _count
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: spelt(value)))


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)


def _megabytes(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f} MB" if value >= 10 else f"{value:.1f} MB"


def _count(value: float | None) -> str:
    """Return a number in about three digits.

    Examples:
        >>> _count(549_834), _count(41_000_000), _count(1_500_000_000), _count(12)
        ('550 k', '41.0 M', '1.50 G', '12')
    """
    if value is None:
        return ""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            scaled = value / size
            decimals = 2 if scaled < 10 and letter != "k" else 1 if scaled < 100 else 0
            return f"{scaled:.{decimals}f} {letter}"
    return f"{value:g}"


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return "below 0.0001" if value < 1e-4 else f"{value:.4f}"
