"""Pictures, drawn with matplotlib into PNG files."""

import contextlib
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from convscope.evaluation.learning_curve import Point
from convscope.evaluation.selective import Selection
from convscope.storage import atomic_path
from convscope.types import FloatArray, IntArray, UInt8Array
from convscope.wording import in_utf8

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# Colour-blind safe (Okabe and Ito, 2008).
TRAIN_COLOUR = "#0072B2"
VAL_COLOUR = "#D55E00"
PALETTE = (TRAIN_COLOUR, VAL_COLOUR, "#009E73", "#CC79A7", "#8A6D00", "#56B4E9", "#444444")
"""Colours of items side by side; the yellow is darker than theirs, to be visible on white."""
FONTS = (
    "Noto Sans CJK KR",
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "NanumGothic",
    "Malgun Gothic",
    "Yu Gothic",
    "Microsoft YaHei",
    "Apple SD Gothic Neo",
    "Hiragino Sans",
    "PingFang SC",
)
"""Fonts used where installed, for characters that matplotlib's own font lacks."""

INK = "#222222"
FAINT = "#777777"
"""Colours of content, and of reading aids."""

MOST_NUMBERED = 20
"""Largest number of classes of a confusion matrix whose numbers are written into it."""

_MOST_LETTERS = 33
"""Length of a line below an image from which on it is shortened: its letters have 6 points."""

_MOST_ROWS = 1_000
"""Largest number of rows of a confusion matrix that is drawn."""


def confusion_figure(
    matrix: IntArray, class_names: Sequence[str], *, of_each: IntArray | None = None
) -> "Figure":
    """Return a confusion matrix, each row coloured by shares of its true class.

    Of more than a thousand classes, which would be smaller than a pixel, neighbouring ones are one
    cell together.

    Args:
        matrix: Shape (n_classes, n_classes), rows are true classes.
        class_names: Names in the order of rows and columns.
        of_each: Shape (n_classes,), number of images of each true class; None for the sum of its
            row.
    """
    n_classes = len(class_names)
    totals = matrix.sum(axis=1) if of_each is None else of_each
    together = -(-n_classes // _MOST_ROWS)
    if together > 1:
        first = np.arange(0, n_classes, together)
        matrix = np.add.reduceat(np.add.reduceat(matrix, first, axis=0), first, axis=1)
        totals = np.add.reduceat(totals, first)
    shares = matrix / np.maximum(totals, 1)[:, None]
    side = min(max(4.5, 0.55 * n_classes + 2), 24)
    figure = new_figure(side + 0.5, side)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("predicted", color=FAINT)
    grouped = f" ({together} classes to a row)" if together > 1 else ""
    axes.set_ylabel(f"true{grouped}", color=FAINT)
    if n_classes <= 40:
        axes.set_xticks(range(n_classes), class_names, rotation=45, ha="right")
        axes.set_yticks(range(n_classes), class_names)
    else:
        axes.set_xticks([])
        axes.set_yticks([])
    if n_classes <= MOST_NUMBERED:
        for row in range(n_classes):
            for column in range(n_classes):
                if matrix[row, column]:
                    share = shares[row, column]
                    axes.text(
                        column,
                        row,
                        f"{matrix[row, column]:,}",
                        ha="center",
                        va="center",
                        fontsize=8 if n_classes <= 12 else 6,
                        color="white" if share > 0.5 else INK,
                        in_layout=False,  # it lies inside; to measure each takes time
                    )
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)
    return figure


def mistakes_figure(matrix: IntArray, of_each: IntArray, class_names: Sequence[str]) -> "Figure":
    """Return which classes are wrongly named beside each true class, and which are missed.

    Args:
        matrix: Shape (n_classes, n_classes), from `evaluation.multi_label.wrongly_named`.
        of_each: Shape (n_classes,), number of images of each class: the colours are shares of it.
        class_names: Names in the order of rows and columns.
    """
    figure = confusion_figure(matrix, class_names, of_each=of_each)
    figure.axes[0].set_xlabel("wrongly named (diagonal: missed)", color=FAINT)
    figure.axes[0].set_ylabel("true, among others", color=FAINT)
    return figure


def robustness_figure(
    accuracy: Mapping[str, Sequence[float]], severities: Sequence[int], clean: float
) -> "Figure":
    """Return accuracy by severity, a line for each corruption.

    Args:
        accuracy: Accuracy by corruption, a fraction for each severity.
        severities: Severities from 1 to 5.
        clean: Accuracy without corruption.
    """
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(9, 4.6)
    axes = figure.subplots()
    axes.axhline(clean, color=FAINT, linewidth=1, linestyle="--")
    for index, (name, values) in enumerate(accuracy.items()):
        style = ("-", "--")[index // len(PALETTE) % 2]
        colour = PALETTE[index % len(PALETTE)]
        axes.plot(severities, values, style, color=colour, marker="o", markersize=4, label=name)
    label_in_percent(axes.yaxis)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("severity (dashed: uncorrupted)", color=FAINT)
    axes.set_ylabel("accuracy", color=FAINT)
    plain_axes(axes)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return figure


def coverage_figure(curve: Sequence[Selection]) -> "Figure":
    """Return accuracy by the share of images that are answered.

    Args:
        curve: Selections from `coverage_curve`, at least one.
    """
    figure = new_figure(6.4, 3.4)
    axes = figure.subplots()
    every = max(1, len(curve) // 500)
    shown = [*curve[::every], curve[-1]]
    axes.plot([s.coverage for s in shown], [s.accuracy for s in shown], color=TRAIN_COLOUR)
    axes.set_xlabel("share of images answered", color=FAINT)
    axes.set_ylabel("accuracy on those", color=FAINT)
    for axis in (axes.xaxis, axes.yaxis):
        label_in_percent(axis)
    plain_axes(axes)
    return figure


def learning_curve_figure(points: Sequence[Point], expected: Sequence[Point]) -> "Figure":
    """Return accuracy by number of training images, with what to expect of more of them.

    Args:
        points: Points that were measured, rising, at least two.
        expected: Points of more images, rising.
    """
    from matplotlib.ticker import NullLocator

    figure = new_figure(6.4, 3.8)
    axes = figure.subplots()
    for some, colour, style in (
        ([points[-1], *expected], VAL_COLOUR, "--"),
        (points, TRAIN_COLOUR, "-"),
    ):
        x = [each.n_images for each in some]
        axes.plot(x, [each.accuracy for each in some], style, color=colour)
        new = some[1:] if style == "--" else some
        x, y = [each.n_images for each in new], np.array([each.accuracy for each in new])
        ends = np.array([[each.low, each.high] for each in new]).T
        reach = np.abs(ends - y)
        axes.errorbar(x, y, reach, fmt="o", color=colour, markersize=4, elinewidth=1, capsize=3)
    axes.set_xscale("log")
    numbers = [each.n_images for each in (*points, expected[-1])]
    axes.set_xticks(numbers, [f"{number:,}" for number in numbers])
    axes.xaxis.set_minor_locator(NullLocator())
    label_in_percent(axes.yaxis)
    axes.set_xlabel("training images (dashed: expected)", color=FAINT)
    axes.set_ylabel("accuracy on other images", color=FAINT)
    plain_axes(axes)
    return figure


def roc_figure(false_alarms: FloatArray, detected: FloatArray, name: str, other: str) -> "Figure":
    """Return the ROC curve of a class.

    Args:
        false_alarms: Shape (n_corners,), shares of the images of the other class, rising.
        detected: Shape (n_corners,), shares of the images of the class.
        name: Name of the class.
        other: Name of the other class.
    """
    figure = new_figure(4.6, 4.4)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1, linestyle="--")
    axes.plot(false_alarms, detected, color=TRAIN_COLOUR)
    axes.set_xlabel(f"false alarms: share of {other}", color=FAINT)
    axes.set_ylabel(f"detected: share of {name}", color=FAINT)
    for axis in (axes.xaxis, axes.yaxis):
        label_in_percent(axis)
    plain_axes(axes)
    return figure


def samples_figure(images: UInt8Array, names: Sequence[str], *, columns: int = 5) -> "Figure":
    """Return a grid of images with their names below.

    Args:
        images: Shape (n_images, height, width, 1 or 3), uint8.
        names: Text below each image.
        columns: Images per row.
    """
    rows = -(-len(images) // columns)
    figure = new_figure(1.7 * columns, 1.95 * rows)
    # One pair of axes, in widths of a cell: to lay out one for each image takes longer.
    axes = figure.subplots()
    axes.set_axis_off()
    lines = [[shortened(line) for line in name.split("\n")] for name in names]
    # Twenty letters of this size are as wide as a cell.
    letters = 200 / max(20, *(len(line) for each in lines for line in each))
    height = 1.95 / 1.7
    side = min(0.92, height - 0.08 - 0.1 * max(map(len, lines)))
    for index, (image, name) in enumerate(zip(images, lines, strict=True)):
        high, wide = (side * size / max(image.shape[:2]) for size in image.shape[:2])
        middle, below = index % columns + 0.5, index // columns * height + 0.02 + side
        axes.imshow(
            image.squeeze(),
            cmap="gray" if image.shape[-1] == 1 else None,
            vmin=0,
            vmax=255,
            extent=(middle - wide / 2, middle + wide / 2, below, below - high),
        )
        text = axes.text(middle, below + 0.03, "\n".join(name), ha="center", va="top")
        text.set(fontsize=letters, color=INK)
    axes.set_xlim(0, columns)
    axes.set_ylim(height * rows, 0)
    for artist in axes.get_children():
        artist.set_in_layout(False)
    return figure


def shortened(line: str, most: int = _MOST_LETTERS) -> str:
    """Return a line of at most so many letters, the middle left out where there are more.

    Examples:
        >>> shortened("Northern Yellow-shafted Flicker 97%", 20)
        'Northern Y…icker 97%'
    """
    if len(line) <= most:
        return line
    end = (most - 1) // 2
    return f"{line[: most - 1 - end]}…{line[-end:]}"


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of this many inches."""
    # Without pyplot: no window, no global state, safe in threads and servers.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def plain_axes(axes: "Axes") -> None:
    """Remove everything that is not data, except faint lines to read values by."""
    axes.grid(axis="y", color="#e5e5e5", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0, colors=FAINT)


def label_in_percent(axis: "Axis") -> None:
    """Label an axis of fractions in per cent, with as many decimals as its ticks need.

    There may be room below 0 and above 100 %, so that points there are drawn whole, but no tick.
    """
    from matplotlib.ticker import AutoLocator, Formatter

    class Percent(Formatter):
        def __call__(self, value: float, pos: int | None = None) -> str:
            del pos
            return f"{value:.1%}"

        def format_ticks(self, values: Sequence[float]) -> list[str]:
            ticks = 100 * np.asarray(values)
            exact = (n for n in range(6) if np.allclose(ticks, ticks.round(n), rtol=0, atol=1e-7))
            decimals = next(exact, 6)
            return [f"{value:.{decimals}%}" for value in values]

    class Fractions(AutoLocator):
        def tick_values(self, vmin: float, vmax: float) -> Sequence[float]:
            return [tick for tick in super().tick_values(vmin, vmax) if -1e-9 < tick < 1 + 1e-9]

    axis.set_major_locator(Fractions())
    axis.set_major_formatter(Percent())


def save_figure(figure: "Figure", path: Path, *, title: str | None = None) -> None:
    """Write a figure as a PNG, with texts shown literally and in fonts that have their characters.

    Args:
        figure: Figure.
        path: PNG file to replace as a whole.
        title: Line above the figure, wrapped where it is too long.

    Raises:
        StorageError: If the file cannot be written.
    """
    if title is not None:
        # Nine letters of this size take an inch.
        lines = textwrap.fill(title, int(11 * figure.get_figwidth()))
        figure.suptitle(lines, x=0.01, ha="left", fontsize=11, color=INK)
    as_written(figure)
    with atomic_path(path) as temporary, drawing():
        figure.savefig(temporary, dpi=120)


def as_written(figure: "Figure") -> None:
    """Show a figure's texts literally, in fonts that have their characters."""
    from matplotlib.font_manager import fontManager
    from matplotlib.text import Text

    families = [
        "DejaVu Sans",
        *(name for name in FONTS if name in set(fontManager.get_font_names())),
    ]
    for text in figure.findobj(Text):
        # Names of classes and runs are shown literally: "$" does not start a formula.
        text.set_parse_math(False)
        # A name of a file need not be UTF-8, which no font is asked for.
        text.set_text(in_utf8(text.get_text()))
        text.set_fontfamily(families)


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """Draw without a warning for each character that no font here has: it becomes a box."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        yield
