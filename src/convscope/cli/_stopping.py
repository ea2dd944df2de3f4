"""What Ctrl-C says."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer


@contextmanager
def repeatable() -> Iterator[None]:
    """Where the same command goes on with what was trained, let Ctrl-C say so; exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(
            "\nStopped. What is trained is kept; the same command goes on with it.", err=True
        )
        raise typer.Exit(130) from None
