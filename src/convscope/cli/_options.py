"""Options that several commands share, so that the same word means the same everywhere."""

from pathlib import Path
from typing import Annotated

import typer

RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="The run: its folder, or its name below runs/.")
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        help="A further place to look for dataset files before downloading. Also: $CONVSCOPE_DATA.",
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(help="'best' (validation accuracy) or 'last'. Default: what the recipe says."),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Images at a time.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]

_PICTURES = (".png", ".svg", ".pdf")


def picture_path(path: Path | None) -> Path | None:
    """Check, as the callback of an option, that a file's ending names a kind of picture."""
    if path is not None and path.suffix.lower() not in _PICTURES:
        raise typer.BadParameter(f"{path} must end in {', '.join(_PICTURES)}")
    return path
