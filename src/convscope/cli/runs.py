"""`convscope runs`, `convscope runs rm` and `convscope runs clean`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from convscope.cli._options import Json
from convscope.errors import RunError
from convscope.paths import user_path
from convscope.run import ROOT, Run

if TYPE_CHECKING:
    from convscope.ledger import Ledger


Folder = Annotated[str, typer.Argument(metavar="FOLDER", help="Folder of runs.")]

_COLUMNS = (
    "run",
    "status",
    "started (UTC)",
    "val accuracy",
    "test accuracy",
    "test openings",
    "on this machine",
)


def runs(
    root: Folder = str(ROOT),
    json: Json = False,
) -> None:
    """List the runs with their state and accuracy, the oldest first.

    "test openings" counts the evaluations of a run on its test images; "on this machine" those of
    the same images by all runs: the best of many is partly lucky.
    """
    from convscope.cli._tables import NUMBER, TEXT, print_table
    from convscope.ledger import Ledger

    ledger = Ledger()
    found = (_facts(run, ledger) for run in Run.find_all(root))
    if json:
        from convscope.cli._json import print_json

        print_json(list(found))
        return
    print_table(
        [(name, TEXT if place < 3 else NUMBER) for place, name in enumerate(_COLUMNS)],
        map(_row, found),
    )


def _row(facts: dict[str, Any]) -> list[Any]:
    started = str(facts["created"] or "")[:16].replace("T", " ") or None
    accuracies = [
        f"{facts[f'{part}_accuracy']:.4f}"
        if facts[f"{part}_accuracy"] is not None
        else f"mAP {facts[f'{part}_map']:.4f}"
        if facts[f"{part}_map"] is not None
        else None
        for part in ("val", "test")
    ]
    counts = [facts["test_openings"], facts["openings_on_this_machine"]]
    return [facts["run"], facts["status"], started, *accuracies, *counts]


def _facts(run: Run, ledger: "Ledger") -> dict[str, Any]:
    try:
        state, openings, status = run.state, run.test_openings, run.status
        metrics = run.metrics if run.metrics_file.exists() else {}
    except RunError:
        # One damaged run must not hide the others.
        state, openings, status, metrics = {}, None, "damaged", {}
    tally = ledger.tally_of(openings or ())
    return {
        "run": run.name,
        "path": run.path,
        "status": status,
        "created": state.get("created"),
        "val_accuracy": metrics.get("val", {}).get("accuracy"),
        "test_accuracy": metrics.get("test", {}).get("accuracy"),
        "val_map": metrics.get("val", {}).get("mean_average_precision"),
        "test_map": metrics.get("test", {}).get("mean_average_precision"),
        "test_openings": None if openings is None else len(openings),
        "openings_on_this_machine": None if tally is None else tally.times,
    }


class _Runs(TyperGroup):
    """The commands about runs; any other word is a folder whose runs are listed."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Let `convscope runs [FOLDER]` be `convscope runs list [FOLDER]`."""
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_Runs, subcommand_metavar="[FOLDER | COMMAND ...]")
app.command("list")(runs)


@app.callback()
def about() -> None:
    """List the runs with their state and accuracy; remove runs.

    'convscope runs' lists those below runs/, 'convscope runs FOLDER' those below a folder.
    """


@app.command("rm")
def remove(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", help="Run folders, or names below runs/."),
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Also remove files that convscope did not write.")
    ] = False,
) -> None:
    """Remove runs with all their results, permanently.

    Nothing is removed if one of them is not a run, is being trained, or holds files that convscope
    did not write. Links are not followed. Uses of test images stay counted.

    For example:

        convscope runs rm runs/NAME
    """
    from convscope.housekeeping.runs import remove_runs
    from convscope.wording import file_size

    for path, n_bytes in remove_runs(runs, force=force).items():
        typer.echo(f"removed {path} ({file_size(n_bytes)})")


@app.command()
def clean(
    root: Folder = str(ROOT),
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Remove them instead of listing them.")
    ] = False,
    json: Json = False,
) -> None:
    """List the runs without a result; with --yes, remove them.

    They failed, were stopped or were killed before there was a trained model or a state to resume
    from.

    For example:

        convscope runs clean --yes
    """
    from convscope.cli._json import print_json
    from convscope.cli._tables import NUMBER, TEXT, print_table
    from convscope.housekeeping.runs import end_of, remove_runs_without_result, runs_without_result
    from convscope.storage import size_on_disk
    from convscope.wording import command_line, counted, file_size

    folder = user_path(root, "FOLDER")
    if yes:
        removed = remove_runs_without_result(folder)
        if json:
            print_json([{"run": path, "n_bytes": size} for path, size in removed.items()])
            return
        total = file_size(sum(removed.values()))
        typer.echo(f"{counted(len(removed), 'run')} removed, {total} freed")
        return
    found = runs_without_result(folder)
    if json:
        print_json(
            [
                {
                    "run": run.path,
                    "status": status,
                    "n_bytes": size_on_disk(run.path),
                    "reason": reason,
                }
                for run in found
                for status, reason in [end_of(run)]
            ]
        )
        return
    if not found:
        typer.echo(f"each run below {folder} has a result, or is being trained")
        return
    print_table(
        [("run", TEXT), ("status", TEXT), ("size", NUMBER), ("why it ended", TEXT)],
        (
            [run.name, status, file_size(size_on_disk(run.path)), reason]
            for run in found
            for status, reason in [end_of(run)]
        ),
    )
    again = command_line("runs", "clean", *([] if folder == ROOT else [folder]), "--yes")
    typer.echo(f"\nNothing was removed yet; to remove them: {again}")
