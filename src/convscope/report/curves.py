"""Picture of the loss and accuracy by epoch."""

from collections.abc import Sequence
from dataclasses import dataclass
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
from convscope.run import SmallerImages

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LINES = (("", TRAIN_COLOUR), ("val_", VAL_COLOUR))


@dataclass(frozen=True)
class CurveWords:
    """The words in the picture, for pages in another language.

    Attributes:
        loss: Title of the losses.
        accuracy: Title of the accuracies.
        train: Name of the training images' line.
        val: Name of the validation images' line.
        epoch: Name of the axis.
        best: Title of the best validation accuracy, with places for {accuracy} and {epoch}.
    """

    loss: str = "Loss (nats)"
    accuracy: str = "Accuracy"
    train: str = "train"
    val: str = "val"
    epoch: str = "epoch"
    best: str = "best val {accuracy}, epoch {epoch}"


ENGLISH = CurveWords()


def curves_figure(
    history: Sequence[dict[str, Any]],
    *,
    stacked: bool = False,
    multi_label: bool = False,
    smaller: SmallerImages | None = None,
    words: CurveWords = ENGLISH,
) -> "Figure":
    """Return training and validation loss and accuracy by epoch; of a single one, as bars.

    Args:
        history: Rows of `results.csv`.
        stacked: Whether to put one below the other, for narrow pages.
        multi_label: Whether an image may have any number of classes: the share of right decisions
            takes the place of accuracy, and the best epoch is that of the lowest loss.
        smaller: Epochs of smaller images, which are shaded.
        words: Words in the picture.
    """
    figure = new_figure(*((6.4, 6.4) if stacked else (10, 4)))
    panes: Any = figure.subplots(2, 1) if stacked else figure.subplots(1, 2)
    for axes, key, name in zip(
        panes,
        ("loss", "accuracy"),
        (words.loss, "Right decisions, from 0.5 on" if multi_label else words.accuracy),
        strict=True,
    ):
        axes.set_title(name, loc="left", fontsize=11, color=INK)
        plain_axes(axes)
        values = [[float(row[prefix + key]) for row in history] for prefix, _ in _LINES]
        if len(history) == 1:
            _draw_bars(axes, [value for (value,) in values], words, percent=key == "accuracy")
        else:
            _draw_lines(axes, [int(row["epoch"]) for row in history], values, words)
    if len(history) > 1:
        if multi_label:
            _mark_lowest(panes[0], history)
        else:
            _mark_best(panes[1], history, words)
        label_in_percent(panes[1].yaxis)
        if smaller is not None:
            for axes in panes:
                axes.axvspan(0.5, smaller.n_epochs + 0.5, color=FAINT, alpha=0.12, linewidth=0)
            # The title that no mark needs.
            free = panes[1] if multi_label else panes[0]
            free.set_title(f"shaded: at {smaller.size}", loc="right", fontsize=9, color=FAINT)
    return figure


def _draw_bars(axes: "Axes", values: Sequence[float], words: CurveWords, *, percent: bool) -> None:
    """Draw the only value of training and of validation, with its number."""
    colours = [colour for _, colour in _LINES]
    bars = axes.barh([words.train, words.val], values, height=0.5, color=colours)
    numbers = [f"{value:.1%}" if percent else f"{value:.3f}" for value in values]
    axes.bar_label(bars, numbers, padding=4, color=INK)
    axes.invert_yaxis()
    axes.margins(x=0.15, y=0.3)
    # The numbers say it all.
    axes.grid(visible=False)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)


def _draw_lines(
    axes: "Axes", epochs: Sequence[int], values: Sequence[Sequence[float]], words: CurveWords
) -> None:
    """Draw the values of training and of validation by epoch."""
    from matplotlib.ticker import MaxNLocator

    names = (words.train, words.val)
    for name, (_, colour), line in zip(names, _LINES, values, strict=True):
        axes.plot(epochs, line, color=colour, linewidth=2, marker="o", markersize=3)
        # Above or below, where the other line ends close by.
        apart = line[-1] - sum(other[-1] for other in values) / len(values)
        axes.annotate(
            name,
            (epochs[-1], line[-1]),
            xytext=(6, 5 if apart > 0 else -5),
            textcoords="offset points",
            va="center",
            color=colour,
            fontsize=10,
        )
    axes.set_xlabel(words.epoch, color=FAINT)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    # The name at the end of a line is above the axis.
    axes.margins(x=0.08, y=0.12)


def _mark_best(axes: "Axes", history: Sequence[dict[str, Any]], words: CurveWords) -> None:
    """Ring the best validation accuracy, and say it in the title, where nothing is in its way."""
    epoch, best = max(
        ((int(row["epoch"]), float(row["val_accuracy"])) for row in history),
        key=lambda each: each[1],
    )
    _mark(axes, epoch, best, words.best.format(accuracy=f"{best:.1%}", epoch=epoch))


def _mark_lowest(axes: "Axes", history: Sequence[dict[str, Any]]) -> None:
    """Ring the lowest validation loss, and say it in the title."""
    best = min(history, key=lambda row: float(row["val_loss"]))
    epoch, loss = int(best["epoch"]), float(best["val_loss"])
    _mark(axes, epoch, loss, f"lowest val {loss:.3f}, epoch {epoch}")


def _mark(axes: "Axes", epoch: int, value: float, text: str) -> None:
    axes.plot(epoch, value, "o", color=VAL_COLOUR, markersize=8, fillstyle="none")
    axes.set_title(text, loc="right", fontsize=9, color=VAL_COLOUR)
