"""`convscope models` and `convscope models show`."""

from pathlib import Path
from typing import Annotated

import typer

from convscope.cli._options import picture_path

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
    out: Annotated[
        Path | None,
        typer.Option(callback=picture_path, help="Where the picture goes. Default: NAME.png."),
    ] = None,
) -> None:
    """Show a model: its layers, the arithmetic of each size, and a picture.

    The geometry sheet writes out N_out = floor((N_in + 2p - k)/s) + 1 with the numbers of each
    layer, how much of the image one value sees (receptive field), and what it costs.
    """
    from convscope import api
    from convscope.cli._tables import NUMBER, TEXT, console, print_table

    picture = out or Path(f"{name}.png")
    sheet = api.describe(
        name, image_size=image_size, channels=channels, n_classes=classes, picture=picture
    )
    print_table(
        [("layer", TEXT), ("type", TEXT), ("output shape", TEXT), ("parameters", NUMBER)],
        ([row.name, row.kind, _shape(row.output_shape), f"{row.params:,}"] for row in sheet.layers),
        title=f"{name}, {image_size} x {image_size} x {channels}, {classes} classes",
    )
    print_table(
        [("", TEXT), ("", NUMBER)],
        [
            ["total parameters", f"{sheet.n_params:,}"],
            ["trainable", f"{sheet.n_trainable:,}"],
            ["not trainable", f"{sheet.n_params - sheet.n_trainable:,}"],
        ],
    )
    console().print()
    print_table(
        [
            ("layer", TEXT),
            ("kernel k", NUMBER),
            ("stride s", NUMBER),
            ("padding 2p", NUMBER),
            ("size N_out = floor((N_in + 2p - k)/s) + 1", TEXT),
            ("sees, pixels", NUMBER),
            ("parameters", NUMBER),
            ("multiply-adds", NUMBER),
        ],
        [
            *(
                [
                    layer.name,
                    _pair(layer.kernel),
                    _pair(layer.stride),
                    _pair(layer.padding),
                    layer.formula or _shape(layer.output_shape),
                    _pair(layer.receptive_field),
                    f"{layer.params:,}",
                    f"{layer.multiply_adds:,}",
                ]
                for layer in sheet.geometry
            ),
            ["all", *[None] * 5, f"{sheet.n_params:,}", f"{sheet.n_multiply_adds:,}"],
        ],
    )
    console().print(f"\npicture  {picture}", markup=False, soft_wrap=True)


def _shape(shape: tuple[int | None, ...]) -> str:
    return " x ".join("any" if side is None else str(side) for side in shape)


def _pair(pair: tuple[int, int] | None) -> str | None:
    if pair is None:
        return None
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]} x {pair[1]}"
