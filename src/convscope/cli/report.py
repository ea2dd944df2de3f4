"""`convscope report`."""

import typer

from convscope.cli._options import DataDir, MovedData, MovedLabels, RunArgument


def report(
    run: RunArgument, data: MovedData = None, labels: MovedLabels = None, data_dir: DataDir = None
) -> None:
    """Write a page and a model card of a run: its accuracy, its errors, its limits.

    `report.html` is one self-contained file for phone, screen and paper. `MODEL_CARD.md` has
    intended use, data, accuracy and limits. Both are made from saved predictions. (A comparison and
    a ladder write their own pages.)

    For example:

        convscope train --data digits --epochs 3 --out runs/shown
        convscope report runs/shown
    """
    import convscope
    from convscope.run import Run

    opened = Run.open(run)
    page = convscope.report(opened, data=data, labels=labels, data_dir=data_dir)
    typer.echo(f"page  {page}")
    typer.echo(f"card  {opened.card_file}")
