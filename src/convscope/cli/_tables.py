"""Tables for people, on standard output."""

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from convscope.wording import printable

NUMBER = "right"
TEXT = "left"


def print_table(
    columns: Sequence[tuple[str, str]],
    rows: Iterable[Sequence[Any]],
    *,
    out: Console | None = None,
) -> None:
    """Print rows under named columns.

    Args:
        columns: Name and justification (`NUMBER` or `TEXT`) of each.
        rows: Values, shown as they are; None is shown as an empty cell, a list as a line each.
        out: Console to print on; None is standard output.
    """
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name, justify in columns:
        table.add_column(name, justify="right" if justify == NUMBER else "left", overflow="fold")
    for row in rows:
        # Plain text: names of files and classes may look like markup.
        table.add_row(*(Text("\n".join(map(printable, _lines(value)))) for value in row))
    (out or console()).print(table)


def _lines(value: Any) -> list[str]:
    if isinstance(value, list):
        return [str(line) for line in value]
    return ["" if value is None else str(value)]


def console(*, stderr: bool = False) -> Console:
    """Return the console of standard output, without a limit of width if that is not a terminal.

    Args:
        stderr: Whether to use standard error instead.
    """
    out = Console(highlight=False, emoji=False, stderr=stderr)
    if out.is_terminal:
        return out
    return Console(highlight=False, emoji=False, stderr=stderr, width=10_000)
