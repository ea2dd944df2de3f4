"""The picture of a ladder: its rungs as stairs."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convscope.report.figures import (
    FAINT,
    INK,
    TRAIN_COLOUR,
    VAL_COLOUR,
    label_in_percent,
    new_figure,
    save_figure,
)
from convscope.report.page import Page, Points, Section, Table, svg_picture
from convscope.studies.ladder.rungs import Ladder, Rung, accuracy_of, conclude, gain_by_chance
from convscope.wording import duration

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches. The columns have fixed positions whatever the accuracies, so nothing ever overlaps.
_WIDTH, _ROW, _TOP, _BOTTOM = 9.0, 0.5, 0.95, 0.48
_NAMES, _PLOT_LEFT, _PLOT_RIGHT = 0.2, 3.3, 6.55
_RIGHT = {"val": 7.2, "gain": 7.8, "test": 8.35, "time": 8.85}
_RAIL = "#dddddd"


def draw_ladder(rungs: Sequence[Rung], n_val: int, path: Path, *, about: str) -> None:
    """Draw the rungs as stairs, the lowest on top, with gain and cost of each.

    Args:
        rungs: Rungs from the lowest; failed and waiting ones are named too.
        n_val: Number of validation images.
        path: PNG file to replace as a whole.
        about: Model, data and seed, for the line below the title.

    Raises:
        StorageError: If the file cannot be written.
    """
    save_figure(_figure(rungs, n_val, about, title=conclude(rungs, n_val)), path)


def ladder_page(ladder: Ladder) -> Page:
    """Return the page of a ladder, finished or not."""
    rungs = ladder.rungs
    trained = [rung for rung in rungs if rung.val_accuracy is not None]
    listed = "; ".join(f"{rung.name} {rung.val_accuracy:.1%}" for rung in trained)
    stairs = svg_picture(
        # The page has the conclusion above.
        _figure(rungs, ladder.n_val, ladder.about, title=""),
        alt=f"Validation accuracy of each rung: {listed}."
        if listed
        else "No rung has been trained.",
        caption="Accuracy of each rung, and its gain over the previous rung.",
    )
    rows = [
        [
            rung.name,
            *("" if value is None else f"{value:.4f}" for value in _accuracies(rung)),
            "" if rung.seconds is None else duration(rung.seconds),
            "" if rung.multiply_adds is None else f"{rung.multiply_adds:,}",
            rung.change,
        ]
        for rung in rungs
    ]
    columns = ("rung", "validation", "test", "time", "multiply-adds", "change")
    sections = [
        Section("The rungs", [stairs]),
        Section("Changes and costs", [Table(columns, rows, "All rungs, lowest first")]),
    ]
    failed = [(f"{rung.name}: {rung.failure}", "") for rung in rungs if rung.failure]
    if failed:
        sections.append(Section("Failed rungs", [Points(failed)]))
    return Page(
        title=f"Ladder: {ladder.about}",
        about="From the tutorial's transfer learning to a good one, one change at a time",
        verdict=ladder.conclusion,
        caution=ladder.caution,
        sections=sections,
    )


def _accuracies(rung: Rung) -> tuple[float | None, float | None]:
    return rung.val_accuracy, rung.test_accuracy


def _figure(rungs: Sequence[Rung], n_val: int, about: str, *, title: str) -> "Figure":
    lines = textwrap.wrap(title, 84)
    top = _TOP + 0.24 * len(lines)
    height = top + _ROW * len(rungs) + _BOTTOM
    figure = new_figure(_WIDTH, height)
    figure.set_layout_engine("none")
    axes = _plot(figure, rungs, height, top)

    def write(x: float, y: float, text: str, *, align: str = "left", **style: Any) -> None:
        figure.text(
            x / _WIDTH, 1 - y / height, text, ha=align, **{"fontsize": 10, "color": INK, **style}
        )

    for index, line in enumerate(lines):
        write(_NAMES, 0.38 + 0.24 * index, line, fontsize=12, weight="bold")
    y = 0.36 + 0.24 * len(lines)
    write(_NAMES, y, about, fontsize=9, color=FAINT)
    for column, x in _RIGHT.items():
        write(x, top - 0.08, column, fontsize=9, color=FAINT, align="right")

    before: Rung | None = None
    for row, rung in enumerate(rungs):
        y = top + _ROW * (row + 0.5)
        known = rung.val_accuracy is not None
        write(_NAMES, y - 0.02, rung.name, fontsize=10.5, color=INK if known else FAINT)
        change = textwrap.shorten(rung.change, 52, placeholder=" …")
        write(_NAMES, y + 0.145, change, fontsize=8, color=FAINT)
        middle: dict[str, Any] = {"va": "center_baseline"}
        if rung.val_accuracy is None:
            why = textwrap.shorten(rung.failure or "", 66, placeholder=" …")
            text = f"failed: {why}" if rung.failure else "not trained yet"
            colour = VAL_COLOUR if rung.failure else FAINT
            # On white: the rail of the rungs around it passes here.
            box = {"facecolor": "white", "edgecolor": "none", "pad": 2}
            write(_PLOT_LEFT, y, text, fontsize=8.5, color=colour, bbox=box, **middle)
            continue
        write(_RIGHT["val"], y, f"{rung.val_accuracy:.1%}", align="right", weight="bold", **middle)
        if rung.test_accuracy is not None:
            test = f"{rung.test_accuracy:.1%}"
            write(_RIGHT["test"], y, test, align="right", fontsize=9, color=FAINT, **middle)
        if rung.seconds is not None:
            time = duration(rung.seconds)
            write(_RIGHT["time"], y, time, align="right", fontsize=9, color=FAINT, **middle)
        if before is not None and rung.gain is not None:
            gain = f"{100 * rung.gain:+.1f}".replace("-", "\N{MINUS SIGN}")
            colour = _colour(rung, before, n_val)
            write(_RIGHT["gain"], y, gain, align="right", color=colour, **middle)
        _step(axes, row, rung, before, n_val)
        before = rung

    figure.text(
        _NAMES / _WIDTH,
        0.14 / height,
        "gain: points over the previous rung, grey if within chance on "
        f"{n_val:,} validation images.  time: with nothing cached.",
        fontsize=8,
        color=FAINT,
    )
    return figure


def _plot(figure: "Figure", rungs: Sequence[Rung], height: float, top: float) -> "Axes":
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    axes = figure.add_axes(
        (
            _PLOT_LEFT / _WIDTH,
            _BOTTOM / height,
            (_PLOT_RIGHT - _PLOT_LEFT) / _WIDTH,
            _ROW * len(rungs) / height,
        )
    )
    seen = [a for rung in rungs for a in (rung.val_accuracy, rung.test_accuracy) if a is not None]
    low, high = (min(seen), max(seen)) if seen else (0.0, 1.0)
    room = max(0.06 * (high - low), 0.01)
    axes.set_xlim(low - room, high + room)
    axes.set_ylim(len(rungs) - 0.5, -0.5)
    axes.set_yticks([])
    axes.xaxis.tick_top()
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    label_in_percent(axes.xaxis)
    axes.tick_params(length=0, colors=FAINT, labelsize=9, pad=3)
    axes.grid(axis="x", color="#eeeeee", linewidth=0.8)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)
    # Faint lines lead the eye from a name to its numbers, across the whole width.
    for row in range(len(rungs) + 1):
        y = (_BOTTOM + _ROW * row) / height
        line = Line2D([_NAMES / _WIDTH, 1 - 0.15 / _WIDTH], [y, y], color="#eeeeee", linewidth=0.8)
        figure.add_artist(line)
    handles = [
        Line2D([], [], **_VAL, linestyle="none", label="validation"),
        Line2D([], [], **_TEST, linestyle="none", label="test"),
    ]
    place = (_RIGHT["time"] + 0.02) / _WIDTH, 1 - (top - _TOP + 0.33) / height
    figure.legend(
        handles=handles,
        loc="center right",
        bbox_to_anchor=place,
        ncols=2,
        frameon=False,
        fontsize=9,
        labelcolor=FAINT,
        handletextpad=0.1,
        columnspacing=1.0,
        borderpad=0,
        borderaxespad=0,
    )
    return axes


_VAL: dict[str, Any] = {
    "marker": "o",
    "markersize": 7.5,
    "color": TRAIN_COLOUR,
    "markeredgecolor": "white",
}
_TEST: dict[str, Any] = {"marker": "o", "markersize": 9, "color": INK, "fillstyle": "none"}


def _step(axes: "Axes", row: int, rung: Rung, before: Rung | None, n_val: int) -> None:
    """Draw one stair: down from the previous rung, across to the accuracy of this one."""
    here = accuracy_of(rung)
    if before is not None:
        there, above = accuracy_of(before), row - 1
        axes.plot([there, there], [above, row], color=_RAIL, linewidth=1.2, zorder=2)
        colour = _colour(rung, before, n_val)
        axes.plot([there, here], [row, row], color=colour, linewidth=4, alpha=0.55, zorder=3)
    axes.plot(here, row, **_VAL, zorder=5)
    if rung.test_accuracy is not None:
        axes.plot(rung.test_accuracy, row, **_TEST, zorder=6)


def _colour(rung: Rung, before: Rung, n_val: int) -> str:
    gain = accuracy_of(rung) - accuracy_of(before)
    if abs(gain) <= gain_by_chance(before, rung, n_val):
        return FAINT
    return TRAIN_COLOUR if gain > 0 else VAL_COLOUR
