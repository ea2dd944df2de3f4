"""Pictures of convolution and pooling on an image of the data: numbers, and no words."""

from typing import TYPE_CHECKING, Any

import numpy as np

from convscope.report.figures import FAINT, INK, TRAIN_COLOUR, VAL_COLOUR, new_figure
from convscope.studies.tutorial.arithmetic import convolve, padded, windows
from convscope.types import FloatArray, UInt8Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EDGES: FloatArray = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], dtype=np.float32)
"""Kernel that answers to upright edges (Sobel)."""

_MINUS = "\N{MINUS SIGN}"


def grey(image: UInt8Array) -> FloatArray:
    """Return the mean of an image's channels, from 0 to 1, of shape (height, width)."""
    return np.asarray(image.mean(axis=-1) / 255, dtype=np.float32)


def strongest(image: FloatArray) -> tuple[int, int]:
    """Return row and column of the window in which the kernel answers most."""
    found = np.abs(convolve(image, EDGES))
    row, column = np.unravel_index(int(found.argmax()), found.shape)
    return int(row), int(column)


def step_figure(image: FloatArray, row: int, column: int) -> "Figure":
    """Return one step of a convolution: image, patch, kernel, feature map.

    Args:
        image: Shape (height, width), from 0 to 1.
        row: First row of the window.
        column: First column of the window.
    """
    size = len(EDGES)
    patch, found = image[row : row + size, column : column + size], convolve(image, EDGES)
    figure = new_figure(10, 2.9)
    # The signs between the pictures have narrow columns of their own.
    panes: Any = figure.subplots(1, 7, width_ratios=(4, 0.4, 3, 0.4, 3, 0.4, 4))
    _draw_map(panes[0], image)
    _frame(panes[0], row, column, size, VAL_COLOUR)
    _draw_numbers(panes[2], patch, "{:.2f}", shades=True)
    _draw_numbers(panes[4], EDGES, "{:.0f}")
    _draw_map(panes[6], found, "RdBu_r")
    _frame(panes[6], row, column, 1, VAL_COLOUR)
    for axes, sign in zip(
        (panes[1], panes[3], panes[5]),
        ("\N{RIGHTWARDS ARROW}", "\N{MULTIPLICATION SIGN}", "="),
        strict=True,
    ):
        axes.set_axis_off()
        axes.text(0.5, 0.5, sign, fontsize=20, color=FAINT, ha="center", va="center")
    return figure


def padding_figure(image: FloatArray) -> "Figure":
    """Return an image without and with a border of zeros, and the feature map of each."""
    figure = new_figure(10, 2.7)
    panes: Any = figure.subplots(1, 4)
    for place, padding in ((0, 0), (2, 1)):
        around = padded(image, padding)
        _draw_map(panes[place], around)
        if padding:
            _frame(panes[place], padding, padding, len(image), TRAIN_COLOUR, image.shape[1])
        found = convolve(image, EDGES, padding=padding)
        _draw_map(panes[place + 1], found, "RdBu_r")
        for axes, shown in ((panes[place], around), (panes[place + 1], found)):
            _size_below(axes, shown)
    return figure


def stride_figure(image: FloatArray) -> "Figure":
    """Return the feature maps of strides 1, 2 and 4."""
    figure = new_figure(8, 2.9)
    panes: Any = figure.subplots(1, 3)
    for axes, stride in zip(panes, (1, 2, 4), strict=True):
        found = convolve(image, EDGES, padding=1, stride=stride)
        _draw_map(axes, found, "RdBu_r")
        _size_below(axes, found, f"s = {stride}: ")
    return figure


def pooling_figure(image: FloatArray, row: int, column: int, names: tuple[str, str]) -> "Figure":
    """Return a window of 4 x 4 values, and the maxima and means of its quarters.

    Args:
        image: Shape (height, width), from 0 to 1; 4 pixels or more a side.
        row: Row to show, if the window fits there.
        column: Column to show, if the window fits there.
        names: Words for the maximum and the mean.
    """
    top, left = min(row, len(image) - 4), min(column, image.shape[1] - 4)
    patch = image[top : top + 4, left : left + 4]
    quarters = windows(patch, 2, 2)
    figure = new_figure(8, 2.9)
    panes: Any = figure.subplots(1, 3, width_ratios=(2, 1.3, 1.3))
    _draw_numbers(panes[0], patch, "{:.2f}", shades=True)
    # Lines between the windows.
    panes[0].axhline(1.5, color=VAL_COLOUR, linewidth=2)
    panes[0].axvline(1.5, color=VAL_COLOUR, linewidth=2)
    _draw_numbers(panes[1], quarters.max(axis=(2, 3)), "{:.2f}", shades=True)
    _draw_numbers(panes[2], quarters.mean(axis=(2, 3)), "{:.2f}", shades=True)
    for axes, name in zip(panes[1:], names, strict=True):
        axes.set_xlabel(name, fontsize=10, color=INK)
    return figure


def _draw_map(axes: "Axes", values: FloatArray, colours: str = "gray") -> None:
    if colours == "gray":
        axes.imshow(values, cmap=colours, vmin=0, vmax=1)
    else:
        most = float(np.abs(values).max()) or 1.0
        axes.imshow(values, cmap=colours, vmin=-most, vmax=most)
    _bare(axes)


def _draw_numbers(axes: "Axes", values: FloatArray, template: str, *, shades: bool = False) -> None:
    """Draw numbers in cells, on their shade of grey if they are pixels."""
    axes.imshow(values if shades else np.ones_like(values), cmap="gray", vmin=0, vmax=1)
    rows, columns = values.shape
    for row in range(rows):
        for column in range(columns):
            value = float(values[row, column])
            dark = shades and value < 0.5
            text = template.format(value).replace("-", _MINUS)
            axes.text(
                column,
                row,
                text,
                ha="center",
                va="center",
                fontsize=10,
                color="white" if dark else INK,
            )
    for edge in range(1, max(rows, columns)):
        axes.axhline(edge - 0.5, color="#cccccc", linewidth=0.6)
        axes.axvline(edge - 0.5, color="#cccccc", linewidth=0.6)
    _bare(axes)


def _frame(
    axes: "Axes", row: int, column: int, height: int, colour: str, width: int | None = None
) -> None:
    from matplotlib.patches import Rectangle

    corner = (column - 0.5, row - 0.5)
    axes.add_patch(
        Rectangle(corner, width or height, height, fill=False, edgecolor=colour, linewidth=2)
    )


def _size_below(axes: "Axes", values: FloatArray, before: str = "") -> None:
    text = f"{before}{values.shape[0]} x {values.shape[1]}"
    axes.set_xlabel(text, fontsize=10, color=INK)


def _bare(axes: "Axes") -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("#999999")
