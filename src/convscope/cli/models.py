"""`convscope models` and `convscope models show`."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(invoke_without_command=True, help="List the models, or look into one.")


@app.callback()
def models(context: typer.Context) -> None:
    """List the models; 'convscope models show NAME' looks into one."""
    if context.invoked_subcommand is not None:
        return
    from convscope.cli._tables import TEXT, print_table
    from convscope.models import MODELS

    print_table(
        [("model", TEXT), ("what it is", TEXT)],
        ([entry.name, entry.summary] for entry in MODELS.entries()),
    )


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="See 'convscope models'.")],
    image_size: Annotated[int, typer.Option(min=1, help="Side of the input in pixels.")] = 32,
    channels: Annotated[int, typer.Option(min=1, max=3, help="1 for grey, 3 for RGB.")] = 3,
    classes: Annotated[int, typer.Option(min=2, help="Number of classes.")] = 10,
    out: Annotated[Path | None, typer.Option(help="Where the picture goes.  [NAME.png]")] = None,
) -> None:
    """Show a model: its layers, the arithmetic of each size, and a picture.

    The geometry sheet writes out N_out = floor((N_in + 2p - k)/s) + 1 with the numbers of each
    layer, how much of the image one value sees (receptive field), and what it costs.
    """
    from convscope import api
    from convscope.cli._tables import NUMBER, TEXT, console, print_table

    picture = out or Path(f"{name}.png")
    sheet = api.describe_model(
        name, image_size=image_size, channels=channels, n_classes=classes, picture=picture
    )
    print_table(
        [("layer", TEXT), ("type", TEXT), ("output shape", TEXT), ("parameters", NUMBER)],
        ([row.name, row.type, row.output_shape, f"{row.n_params:,}"] for row in sheet.layers),
        title=f"{name}, {image_size} x {image_size} x {channels}, {classes} classes",
    )
    out_console = console()
    out_console.print(
        f"\nparameters {sheet.n_params:,}: trainable {sheet.n_trainable:,}, "
        f"not trainable {sheet.n_params - sheet.n_trainable:,}\n"
    )
    print_table(
        [
            ("layer", TEXT),
            ("kernel", TEXT),
            ("stride", TEXT),
            ("padding", TEXT),
            ("size: floor((N + 2p - k)/s) + 1", TEXT),
            ("sees", NUMBER),
            ("multiply-adds", NUMBER),
        ],
        sheet.geometry_rows(),
    )
    out_console.print(f"\nmultiply-adds {sheet.n_multiply_adds:,} for one image")
    out_console.print(f"picture       {picture}", markup=False, soft_wrap=True)
