"""Cells of a table that hold several classes of one image: lists, and texts with a separator."""

import contextlib
import json
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

from convscope.datasets.folders.columns import SEPARATORS, LabelRow, LabelTable
from convscope.errors import DataError
from convscope.wording import composed, printable, quoted

NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")

_LIKELY = ("|", ";", ",")
"""Separators that are looked for."""

FEW = 0.02
"""Share of rows with several classes up to which they may be mistakes."""


def divided(rows: Sequence[LabelRow], named: LabelTable) -> tuple[list[LabelRow], str]:
    """Return rows whose cells of several classes are divided, and words on how; "" if none is.

    A cell is a list (`["cat", "dog"]`), or classes with "|", ";" or "," between them. A separator
    that nobody named is taken for one only if the parts of the cells recur: a class may be called
    "red, large".

    Args:
        rows: Rows of all tables, each with its cell as the only label; or with the names of the
            columns that have a 1, which are left as they are.
        named: What the user named.

    Raises:
        DataError: If some cells are lists and others are not, or a list holds something else than
            names or numbers.
    """
    cells = {row.labels[0] for row in rows if len(row.labels) == 1}
    if any(len(row.labels) > 1 for row in rows) or not cells:
        return list(rows), ""
    if named.separator is None and _are_lists(cells):
        return [replace(row, labels=_unlisted(row)) for row in rows], "in lists"
    if named.separator is not None:
        mark = SEPARATORS[named.separator]
    else:
        mark = next((each for each in _LIKELY if _separates(each, cells)), "")
    if not mark:
        return list(rows), ""
    apart = {cell: _parts(cell, mark) for cell in cells}
    words = {mark: name for name, mark in SEPARATORS.items()}[mark]
    divided = [
        replace(row, labels=apart[row.labels[0]]) if len(row.labels) == 1 else row for row in rows
    ]
    between = words if len(words) > 1 else f"'{words}'"
    return divided, f"several of them with {between} in between"


def _parts(cell: str, mark: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part for each in cell.split(mark) if (part := each.strip())))


def _separates(mark: str, cells: Iterable[str]) -> bool:
    """Return whether a mark separates classes: cells of several are made of parts that recur."""
    parts = [_parts(cell, mark) for cell in cells]
    if max(map(len, parts)) < 2:
        return False
    lengths = set(map(len, parts))
    n_parts = len({part for each in parts for part in each})
    # As in "Apple, healthy", "Apple, scab", "Corn, healthy": two parts each, which are one name.
    return n_parts <= len(parts) and (len(lengths) > 1 or mark == "|")


def _is_list(cell: str) -> bool:
    return cell.startswith("[") and cell.endswith("]")


def _are_lists(cells: Collection[str]) -> bool:
    """Return whether some cells are lists; a class may be called "[other]"."""
    bracketed = [cell for cell in cells if _is_list(cell)]
    return (
        len(bracketed) == len(cells)
        or any("," in cell for cell in bracketed)
        or any(_read_list(cell) is not None for cell in bracketed)
    )


def _read_list(cell: str) -> list[Any] | None:
    """Return the list that is written in a cell; None if it is none."""
    for text in (cell, cell.replace("'", '"')):  # as Python prints a list
        with contextlib.suppress(ValueError, RecursionError):
            values = json.loads(text)
            return values if isinstance(values, list) else None
    return None


def _unlisted(row: LabelRow) -> tuple[str, ...]:
    if not row.labels:
        return ()
    (cell,) = row.labels
    if not _is_list(cell):
        raise DataError(
            f"{row.place}: the label '{printable(cell)}' is no list, as other cells of that column "
            "are; write all as lists, or none"
        )
    values = _read_list(cell)
    if values is None:
        raise DataError(
            f"{row.place}: the label '{printable(cell[:60])}' cannot be read as a list; write it "
            'as ["cat", "dog"]'
        )
    kinds = {str if isinstance(value, str) else type(value) for value in values}
    if kinds - {str, int}:
        raise DataError(
            f"{row.place}: the list '{printable(cell[:60])}' holds something else than names or "
            "whole numbers"
        )
    if len(kinds) > 1:
        raise DataError(
            f"{row.place}: the list '{printable(cell[:60])}' mixes numbers and names; write all of "
            "them as names"
        )
    found = (composed(str(value).strip()) for value in values)
    return tuple(dict.fromkeys(name for name in found if name))


def require_one_kind(names: Iterable[str]) -> None:
    """Reject classes of which some are numbers and others names.

    Raises:
        DataError: If there are both.
    """
    names = list(names)
    numbers = [name for name in names if NUMBER.fullmatch(name)]
    if numbers and len(numbers) < len(names):
        others = [name for name in names if not NUMBER.fullmatch(name)]
        raise DataError(
            f"the labels mix numbers ({quoted(numbers, most=3)}) and names "
            f"({quoted(others, most=3)}); write all of them as names"
        )
