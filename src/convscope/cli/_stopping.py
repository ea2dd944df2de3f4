"""The message after Ctrl-C, and after SIGTERM."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer


@contextmanager
def repeatable(kept: str = "Finished training is kept") -> Iterator[None]:
    """On Ctrl-C in a command that resumes when it is repeated, say so, and exit.

    Args:
        kept: What is not lost.
    """
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"\nStopped. {kept}; repeat the command to resume.", err=True)
        raise typer.Exit(130) from None
