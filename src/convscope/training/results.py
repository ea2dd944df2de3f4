"""The table of a run's epochs, `results.csv`."""

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convscope.errors import RunError
from convscope.models import is_backbone
from convscope.recipe import RunConfig
from convscope.storage import atomic_path, write_rows

if TYPE_CHECKING:
    from convscope.training.passes import EpochMetrics

COLUMNS = (
    "epoch",
    "loss",
    "accuracy",
    "val_loss",
    "val_accuracy",
    "learning_rate",
    "seconds",
    "images_per_s",
    "phase",
)
"""Columns of `results.csv`. Loss is mean cross-entropy in nats, accuracy a fraction in [0, 1],
`seconds` the training time of the epoch without its validation, `phase` the part that was
trained."""

HEAD = "head"
"""Name of the phase that trains the head alone."""

ONLY_PHASE = "all"
"""Name of the phase of a run that trains everything from its first epoch to its last."""


def n_rows(config: RunConfig) -> int:
    """Return the number of rows that a training with these settings has at its end."""
    if not is_backbone(config.model):
        return config.epochs
    at_once = config.head.logistic
    if config.backbone.cut == "end":
        return 1 if at_once else config.epochs
    return (1 if at_once else config.backbone.head_epochs) + config.epochs


def row_of(
    epoch: int,
    learnt: "EpochMetrics",
    judged: "EpochMetrics",
    *,
    learning_rate: float,
    seconds: float,
    n_images: int,
    phase: str,
) -> dict[str, Any]:
    """Return the row of an epoch, by column.

    Args:
        epoch: Number of the epoch in the run, from 1.
        learnt: Means over the training images.
        judged: Means over the validation images.
        learning_rate: Learning rate at its end.
        seconds: Time of the training.
        n_images: Number of images that it learnt from.
        phase: Name of the phase.
    """
    return {
        "epoch": epoch,
        "loss": learnt.loss,
        "accuracy": learnt.accuracy,
        "val_loss": judged.loss,
        "val_accuracy": judged.accuracy,
        "learning_rate": learning_rate,
        "seconds": round(seconds, 3),
        "images_per_s": round(n_images / seconds, 1),
        "phase": phase,
    }


def write_results(history: list[dict[str, Any]], path: Path) -> None:
    """Write the table of results, a row per epoch.

    Raises:
        StorageError: If the file cannot be written.
    """
    write_rows(path, COLUMNS, history)


def add_result(history: list[dict[str, Any]], path: Path) -> None:
    """Write the table of results, as `write_results`, after one more epoch.

    The rows that it holds already are copied, not spelled again: for 5,000 epochs that took 50 s in
    all. The file is replaced as a whole, so that no reader meets half a row.

    Raises:
        StorageError: If the file cannot be written.
    """
    try:
        before = path.read_bytes()
    except OSError:
        before = b""
    if before.count(b"\n") != len(history):  # a line for the header, none for the last row
        write_results(history, path)
        return
    line = io.StringIO()
    csv.DictWriter(line, COLUMNS).writerow(history[-1])
    with atomic_path(path) as temporary:
        temporary.write_bytes(before + line.getvalue().encode())


def read_results(path: Path) -> list[dict[str, Any]]:
    """Read the table that `write_results` wrote: a row for each epoch.

    Raises:
        RunError: If it is missing or damaged.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            if not set(COLUMNS[:-1]) <= set(rows.fieldnames or ()):
                raise ValueError
            return [
                {key: float(row[key]) for key in COLUMNS[:-1]}
                # Older tables have no phases.
                | {"phase": row.get("phase") or ONLY_PHASE}
                for row in rows
            ]
    except (OSError, KeyError, TypeError, ValueError, csv.Error):
        raise RunError(f"{path} is missing or damaged") from None
