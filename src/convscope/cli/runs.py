"""`convscope runs`, `convscope runs rm` and `convscope runs clean`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from convscope.errors import RunError
from convscope.run import ROOT, Run

if TYPE_CHECKING:
    from convscope.ledger import Ledger


def runs(
    root: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of runs.")] = ROOT,
) -> None:
    """List the runs with their state and accuracy, the oldest first.

    "test openings" says how often a run was judged on its test images; "on this machine" how often
    these images were, by all runs: the best of many is better by luck in part.
    """
    from convscope.cli._tables import NUMBER, TEXT, print_table
    from convscope.ledger import Ledger

    ledger = Ledger()
    print_table(
        [
            ("run", TEXT),
            ("status", TEXT),
            ("started (UTC)", TEXT),
            ("val accuracy", NUMBER),
            ("test accuracy", NUMBER),
            ("test openings", NUMBER),
            ("on this machine", NUMBER),
        ],
        (_row(run, ledger) for run in Run.find_all(root)),
    )


def _row(run: Run, ledger: "Ledger") -> list[Any]:
    try:
        return _tell(run, ledger)
    except RunError:
        # One damaged run must not hide the others.
        return [run.name, "damaged", *[None] * 5]


def _tell(run: Run, ledger: "Ledger") -> list[Any]:
    state = run.state
    metrics = run.metrics if run.metrics_file.exists() else {}
    accuracies = [
        f"{metrics[name]['accuracy']:.4f}" if name in metrics else None for name in ("val", "test")
    ]
    started = str(state.get("created", ""))[:16].replace("T", " ")
    openings = run.test_openings
    tally = ledger.tally_of(openings)
    here = None if tally is None else tally.times
    return [run.name, run.status, started, *accuracies, len(openings), here]


class _Runs(TyperGroup):
    """The commands about runs; what is none of them is a folder whose runs are listed."""

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
        typer.Argument(metavar="RUN...", help="The runs: folders, or names below runs/."),
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Also files in them that convscope did not write.")
    ] = False,
) -> None:
    """Remove runs, with all that came of them. There is no way back.

    Nothing is removed if one of them is no run, is being trained, or holds files that convscope
    did not write. Links are not followed. Looks at test images stay counted.
    """
    from convscope.housekeeping.runs import remove_runs
    from convscope.wording import file_size

    for path, n_bytes in remove_runs(runs, force=force).items():
        typer.echo(f"removed {path} ({file_size(n_bytes)})")


@app.command()
def clean(
    root: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of runs.")] = ROOT,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove them, not only list.")] = False,
) -> None:
    """Remove the runs of which nothing came; without --yes, only list them.

    Those that failed, were stopped or were killed before there was a trained model or anything
    to go on from.
    """
    from convscope.cli._tables import NUMBER, TEXT, print_table
    from convscope.housekeeping.runs import end_of, remove_runs_without_result, runs_without_result
    from convscope.storage import size_on_disk
    from convscope.wording import command_line, counted, file_size

    if yes:
        removed = remove_runs_without_result(root)
        total = file_size(sum(removed.values()))
        typer.echo(f"{counted(len(removed), 'run')} removed, {total} freed")
        return
    found = runs_without_result(root)
    if not found:
        typer.echo(f"each run below {root} has a result, or is being trained")
        return
    print_table(
        [("run", TEXT), ("status", TEXT), ("size", NUMBER), ("why it ended", TEXT)],
        (
            [run.name, status, file_size(size_on_disk(run.path)), reason]
            for run in found
            for status, reason in [end_of(run)]
        ),
    )
    again = command_line("runs", "clean", *([] if root == ROOT else [root]), "--yes")
    typer.echo(f"\nNothing was removed yet; to remove them: {again}")
