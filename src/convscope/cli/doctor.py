"""`convscope doctor`."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convscope.cli._options import DataDir, Json, MovedData, MovedLabels

if TYPE_CHECKING:
    from convscope.diagnosis import Diagnosis


def doctor(
    what: Annotated[
        str,
        typer.Argument(
            metavar="RUN | CONFIG", help="Run (its folder or name), or YAML file of settings."
        ),
    ],
    range_test: Annotated[
        bool,
        typer.Option(
            "--range-test",
            help="Learning-rate range test (LR finder), for networks trained from scratch: 120 "
            "steps with rising rates, to see which ones train.",
        ),
    ] = False,
    data: MovedData = None,
    labels: MovedLabels = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Find out why a number is bad: check for known traps, with evidence and remedy.

    Each finding states its certainty: certain, likely, possible (worth a look), or note (worth
    knowing). The test images stay sealed, and nothing is trained except with --range-test. A file
    of settings can be checked before it costs a run.

    The exit code is 0, whatever is found.

    For example:

        convscope train --data digits --epochs 3 --out runs/first
        convscope doctor runs/first
    """
    import convscope
    from convscope.cli._json import print_json

    found = convscope.doctor(
        what, try_rates=range_test, data=data, labels=labels, data_dir=data_dir
    )
    if json:
        print_json(dataclasses.asdict(found))
        return
    _print(found, Path(what))


def _print(found: "Diagnosis", what: Path) -> None:
    from rich.text import Text

    from convscope.cli._tables import console
    from convscope.wording import counted

    screen = console()
    styles = {"certain": "bold red", "likely": "bold yellow", "possible": "yellow", "note": "dim"}
    for name, finding in found.findings.items():
        head = Text.assemble(
            (f"{finding.sure:<9}", styles[finding.sure]), (finding.symptom, "bold")
        )
        screen.print(head, soft_wrap=True)
        screen.print(Text(f"{'':<9}{finding.evidence}"), soft_wrap=True)
        for remedy in finding.remedies:
            screen.print(Text(f"{'':<9}{remedy.words}:"), soft_wrap=True)
            screen.print(Text(f"{'':<11}{remedy.command}", "cyan"), soft_wrap=True)
        screen.print(Text(f"{'':<9}({name})", "dim"), soft_wrap=True)
        screen.print()
    if found.together:
        screen.print(Text("All certain findings, fixed in one training:"), soft_wrap=True)
        screen.print(Text(f"{'':<11}{found.together}", "cyan"), soft_wrap=True)
        screen.print()
    n_traps = len(found.findings) + len(found.quiet)
    if found.alarms:
        said = f"{len(found.alarms)} of {n_traps} traps found in {what}"
    else:
        said = f"{what} is healthy: {counted(n_traps, 'trap')} checked, no alarm"
        if found.findings:
            said += f", {counted(len(found.findings), 'note')}"
    screen.print(Text(f"{said}."), soft_wrap=True)
    for name, reason in found.unknown.items():
        screen.print(Text(f"not checked: {name} ({reason})", "dim"), soft_wrap=True)
