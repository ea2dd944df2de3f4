"""The page of a search over settings: scores in order, each setting against the score."""

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from convscope.report.figures import (
    FAINT,
    INK,
    TRAIN_COLOUR,
    VAL_COLOUR,
    label_in_percent,
    new_figure,
    plain_axes,
)
from convscope.report.page import Command, Page, Picture, Points, Section, Table, svg_picture
from convscope.studies.tuning.tuning import Tuning, score_of_trial, spelt
from convscope.wording import command_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 3


def tuning_page(found: Tuning) -> Page:
    """Return the page of a search that has ended."""
    best = found.best
    done = found.finished
    keys = list(found.trials[0].settings)
    sections = [Section("The search", [_history(found), _slices(found, keys)])]
    if found.importance:
        rows = [[key, f"{share:.0%}"] for key, share in found.importance.items()]
        caption = f"Share in the differences of score, over {len(done)} finished trials (fANOVA)"
        sections.append(Section("What mattered", [Table(("setting", "share"), rows, caption)]))
    if found.confirmation is not None:
        rows = [
            [arm.name, ", ".join(f"{value:.4f}" for value in arm.accuracies)]
            for arm in found.confirmation.arms
        ]
        points = [(pair.verdict, pair.outlook) for pair in found.confirmation.pairs]
        caption = "Validation scores with new seeds"
        sections.append(
            Section(
                "Is it better, or was it luck?",
                [Points(points), Table(("settings", "each seed"), rows, caption)],
            )
        )
    if best is not None:
        command = command_line("train", "--config", found.config_file)
        sections.append(Section("To train with the best settings", [Command(command)]))
    table = [
        [
            str(trial.number),
            "" if trial.score is None else f"{trial.score:.4f}",
            str(trial.epochs),
            trial.failure or trial.status,
            *(spelt(trial.settings.get(key)) for key in keys),
        ]
        for trial in found.trials
    ]
    columns = ("trial", found.measure, "epochs", "status", *keys)
    sections.append(Section("All trials", [Table(columns, table, "Trials by number")]))
    return Page(
        title=f"Settings of {found.about}",
        about=f"{len(found.trials)} trials, {len(done)} of them trained to their end",
        verdict=found.conclusion,
        caution=found.caution,
        sections=sections,
    )


def _history(found: Tuning) -> Picture:
    figure = new_figure(7.5, 3.0)
    axes = figure.subplots()
    plain_axes(axes)
    _dots(axes, found, [trial.number for trial in found.trials])
    best = list(accumulate(map(score_of_trial, found.finished), max))
    axes.step([t.number for t in found.finished], best, where="post", color=INK, linewidth=1.2)
    axes.set_xlabel("trial")
    axes.set_ylabel(f"validation {found.measure}")
    text = "Score of each trial (stopped ones in grey, after their last epoch), and the best so far"
    return svg_picture(figure, alt=f"{text}. {found.conclusion}", caption=f"{text}.")


def _slices(found: Tuning, keys: Sequence[str]) -> Picture:
    rows = -(-len(keys) // _COLUMNS)
    figure = new_figure(7.5, 2.3 * rows)
    for place, key in enumerate(keys, 1):
        axes = figure.add_subplot(rows, _COLUMNS, place)
        plain_axes(axes)
        values = [trial.settings.get(key) for trial in found.trials]
        if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
            numbers: list[Any] = values
            positive = [abs(v) for v in numbers]
            if min(positive) > 0 and max(positive) / min(positive) > 20:
                axes.set_xscale("log")
                # Plain numbers: a page has no letters of formulas.
                axes.xaxis.set_major_formatter(lambda value, place: f"{value:g}")
                axes.xaxis.set_minor_formatter(lambda value, place: "")
            _dots(axes, found, numbers)
        else:
            names = sorted({str(v) for v in values})
            _dots(axes, found, [names.index(str(v)) for v in values])
            axes.set_xticks(range(len(names)), names)
        axes.set_title(key, fontsize=9)
    text = "Score against the value of each setting"
    return svg_picture(figure, alt=f"{text}.", caption=f"{text}; the best trial is ringed.")


def _dots(axes: "Axes", found: Tuning, at: Sequence[float]) -> None:
    """Draw the score of each trial at its place; the best one ringed."""
    label_in_percent(axes.yaxis)
    scored = [(t, x) for t, x in zip(found.trials, at, strict=True) if t.score is not None]
    for status, colour in (("stopped", FAINT), ("finished", TRAIN_COLOUR)):
        points = [(x, t.score) for t, x in scored if t.status == status]
        if points:
            xs, ys = zip(*points, strict=True)
            axes.scatter(xs, ys, s=22, color=colour, alpha=0.8, linewidths=0)
    ringed = [(x, score_of_trial(t)) for t, x in scored if t == found.best]
    for x, score in ringed:
        axes.scatter([x], [score], s=90, facecolors="none", edgecolors=VAL_COLOUR)
