"""`convscope data show`, `check`, `suspects`, `learning-curve` and `shards`."""

import typer

from convscope.cli.data import check, learning_curve, shards, show, suspects

app = typer.Typer(
    no_args_is_help=True, help="Look at data before training on it; put it in shards."
)
app.command("show")(show.show)
app.command("check")(check.check)
app.command("shards")(shards.shards)
app.command("suspects")(suspects.suspects)
app.command("learning-curve")(learning_curve.learning_curve)
