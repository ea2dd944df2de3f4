"""The table of a run's epochs, `results.csv`."""

import csv
import io
from pathlib import Path
from typing import Any

from convscope.errors import RunError
from convscope.models import is_backbone
from convscope.recipe import RunConfig
from convscope.storage import atomic_path, write_rows

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
