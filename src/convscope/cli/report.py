"""`convscope report`."""

import typer

from convscope.cli._options import DataDir, MovedData, RunArgument


def report(run: RunArgument, data: MovedData = None, data_dir: DataDir = None) -> None:
    """Write a page and a model card of a run: what it reached, where it errs, what to know of it.

    `report.html` is one file with its pictures inside; it needs no network, reads on a phone and
    prints. `MODEL_CARD.md` says what the model is for, how well it does and where it does not.
    Both are made from saved predictions. (A comparison and a ladder write their own pages.)

    For example:

        convscope train --data digits --epochs 3 --out runs/told
        convscope report runs/told
    """
    import convscope
    from convscope.run import Run

    opened = Run.open(run)
    page = convscope.report(opened, data=data, data_dir=data_dir)
    typer.echo(f"page  {page}")
    typer.echo(f"card  {opened.card_file}")
