"""`convscope gallery`."""

from enum import StrEnum
from typing import Annotated

import typer

from convscope.cli._options import DataDir, Json, MovedData, RunArgument, picture_option


class Of(StrEnum):
    """Which images are shown."""

    LOSSES = "losses"
    SUSPECTS = "suspects"
    RIGHT = "right"


class Part(StrEnum):
    """Which part they are taken from."""

    VAL = "val"
    TEST = "test"


def gallery(
    run: RunArgument,
    of: Annotated[
        Of,
        typer.Option(
            help="losses: those it finds hardest; suspects: those whose label is probably wrong; "
            "right: those of whose class it is surest."
        ),
    ] = Of.LOSSES,
    split: Annotated[Part, typer.Option(help="Validation or test images.")] = Part.VAL,
    true: Annotated[str | None, typer.Option(metavar="CLASS", help="Only of this class.")] = None,
    predicted: Annotated[
        str | None, typer.Option(metavar="CLASS", help="Only those taken for this class.")
    ] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="How many at most.")] = 20,
    picture: Annotated[
        str | None, picture_option("Where the picture goes. Default: gallery.png in the run.")
    ] = None,
    data: MovedData = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Look at the images behind a number: the hardest, the mislabelled, one class for another.

    From the saved predictions; no model runs. That test images are looked at is logged. Labels are
    suspected by confident learning: the run did not learn these images, and gives another class a
    probability that it gives to images of that class.

    For example:

        convscope train --data digits --epochs 3 --out runs/seen
        convscope gallery runs/seen
        convscope gallery runs/seen --split test --true 8
    """
    import convscope
    from convscope.cli._tables import NUMBER, TEXT, print_table
    from convscope.paths import path_or_none
    from convscope.run import Run

    opened = Run.open(run)
    seen = convscope.gallery(
        opened,
        of.value,
        split=split.value,
        true=true,
        predicted=predicted,
        n=n,
        picture=picture,
        data=data,
        data_dir=data_dir,
    )
    place = path_or_none(picture, "--picture") or opened.gallery_picture
    if json:
        from convscope.cli._json import print_json

        print_json({"images": seen, "picture": place})
        return
    print_table(
        [("image", TEXT), ("labelled", TEXT), ("answer", TEXT), ("sure", NUMBER)],
        ([s.image_id, s.class_name, s.answer, f"{s.prob:.0%}"] for s in seen),
    )
    typer.echo(f"\npicture  {place}")
