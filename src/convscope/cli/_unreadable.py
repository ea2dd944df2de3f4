"""Images that a command had to skip."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import typer

from convscope.wording import printable

if TYPE_CHECKING:
    from convscope.types import UnreadableImage


def report_unreadable(files: "Iterable[UnreadableImage]") -> None:
    """Name each on standard error; if there is one, end with exit code 1."""
    reasons = [file.reason for file in files]
    for reason in reasons:
        typer.echo(f"skipped: {printable(reason)}", err=True)
    if reasons:
        raise typer.Exit(1)
