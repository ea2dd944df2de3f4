"""The message after Ctrl-C, and after SIGTERM."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer


@contextmanager
def repeatable() -> Iterator[None]:
    """On Ctrl-C in a command that resumes when it is repeated, say so, and exit."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("\nStopped. Finished training is kept; repeat the command to resume.", err=True)
        raise typer.Exit(130) from None
