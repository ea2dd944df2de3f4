"""`convscope data check`."""

from typing import Annotated

import typer

from convscope.cli._options import Data, DataDir, DataWord, Json, Labels
from convscope.cli.data._options import outside, required


def check(
    data_word: DataWord = None,
    data: Data = None,
    labels: Labels = None,
    out: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="File for all findings, as JSON."),
    ] = None,
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Check data for problems: broken and blank images, duplicates, series, leaks between parts.

    Nothing is changed. The exit code is 1 if there is an error among the findings.

    For example:

        convscope data check --data photos/
        # all files of each finding, for a program
        convscope data check --data photos/ --out findings.json
    """
    import convscope
    from convscope.cli._tables import TEXT, console, print_table
    from convscope.datasets.source import data_settings
    from convscope.storage import write_text

    data = required(data_word, data)
    target = outside(data_settings(data, labels), out)
    report = convscope.check(data, labels=labels, data_dir=data_dir)
    if target is not None:
        write_text(target, report.to_json())
    if json:
        from convscope.cli._json import print_json

        print_json(report.to_dict())
    else:
        columns = ("", "finding", "what", "where", "what to do")
        rows = [[*row[:3], row[3].split("\n"), row[4]] for row in report.rows()]
        print_table([(name, TEXT) for name in columns], rows)
        screen = console()
        screen.print(f"\n{report.summary()}", markup=False, soft_wrap=True)
        if target is not None:
            screen.print(f"all of it  {target}", markup=False, soft_wrap=True)
    if report.has_errors:
        raise typer.Exit(1)
