"""What several commands on data are given."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from convscope.cli._options import one_data

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Size = Annotated[
    int | None, typer.Option(min=1, help="Side in pixels to which images of a folder are resized.")
]


def required(word: str | None, option: str | None) -> str:
    """Return the data that a command is given, as by `one_data`.

    Raises:
        ConfigError: If none is given, or two are.
    """
    from convscope.errors import ConfigError

    named = one_data(word, option)
    if named is None:
        raise ConfigError("name the data: --data NAME or --data PATH")
    return named


def outside(place: "Mapping[str, Any]", out: str | None) -> "Path | None":
    """Return the path of a result.

    Raises:
        DataError: If it is inside the data folder, which is never written to, or is the table of
            the labels.
        RunError: If it belongs to a run.
    """
    from convscope.datasets.source import require_apart
    from convscope.paths import path_or_none
    from convscope.run import Run

    target = path_or_none(out, "--out")
    if target is None:
        return None
    return Run.require_spare(require_apart(target, place["data_path"], place.get("labels")))
