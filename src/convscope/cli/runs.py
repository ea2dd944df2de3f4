"""`convscope runs`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from convscope.errors import RunError
from convscope.run import ROOT, Run


def runs(
    root: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of runs.")] = ROOT,
) -> None:
    """List the runs with their state and accuracy, the oldest first."""
    from convscope.cli._tables import NUMBER, TEXT, print_table

    print_table(
        [
            ("run", TEXT),
            ("status", TEXT),
            ("started (UTC)", TEXT),
            ("val accuracy", NUMBER),
            ("test accuracy", NUMBER),
            ("test openings", NUMBER),
        ],
        (_row(run) for run in Run.find_all(root)),
    )


def _row(run: Run) -> list[Any]:
    try:
        return _tell(run)
    except RunError:
        # One damaged run must not hide the others.
        return [run.name, "damaged", *[None] * 4]


def _tell(run: Run) -> list[Any]:
    state = run.state
    metrics = run.metrics if run.metrics_file.exists() else {}
    accuracies = [
        f"{metrics[name]['accuracy']:.4f}" if name in metrics else None for name in ("val", "test")
    ]
    started = str(state.get("created", ""))[:16].replace("T", " ")
    return [run.name, run.status, started, *accuracies, len(state.get("test_openings", []))]
