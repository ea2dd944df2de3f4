"""The table of what was tried before a run's way of training was chosen, `tried.csv`."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from convscope.errors import RunError
from convscope.storage import write_rows


@dataclass(frozen=True)
class Tried:
    """Result of a candidate on validation images.

    Attributes:
        candidate: Its name.
        fold: Index of the fold that it was not trained on.
        words: What it is, for people.
        seconds: Time that it took.
        accuracy: Fraction of correct answers, or mean average precision where an image may have any
            number of classes; None if it failed.
        loss: Mean cross-entropy in nats, after the temperature; None if it failed.
        note: Reason why it was not considered, or empty.
        chosen: Whether the run was trained like that.
    """

    candidate: str
    fold: int
    words: str
    seconds: float
    accuracy: float | None
    loss: float | None
    note: str = ""
    chosen: bool = False


def write_tried(rows: Sequence[Tried], path: Path) -> None:
    """Write the table, a row for each candidate and fold.

    Raises:
        StorageError: If the file cannot be written.
    """
    columns = list(Tried.__annotations__)
    write_rows(
        path, columns, (asdict(row) | {"chosen": "yes" if row.chosen else ""} for row in rows)
    )


def read_tried(path: Path) -> list[Tried]:
    """Read the table that `write_tried` wrote; empty if there was no search.

    Raises:
        RunError: If it is damaged.
    """
    if not path.exists():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [
                Tried(
                    row["candidate"],
                    int(row["fold"]),
                    row["words"],
                    float(row["seconds"]),
                    float(row["accuracy"]) if row["accuracy"] else None,
                    float(row["loss"]) if row["loss"] else None,
                    row["note"],
                    row["chosen"] == "yes",
                )
                for row in csv.DictReader(file)
            ]
    except (OSError, KeyError, TypeError, ValueError, csv.Error):
        raise RunError(f"{path} is damaged") from None
