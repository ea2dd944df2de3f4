"""`convscope gallery`."""

from typing import Annotated, Literal

import typer

from convscope.cli._options import (
    DataDir,
    Json,
    MaxImages,
    MovedData,
    MovedLabels,
    RunArgument,
    Split,
    picture_option,
)


def gallery(
    run: RunArgument,
    of: Annotated[
        Literal["losses", "suspects", "right"],
        typer.Option(
            help="Images to show: losses (the hardest), suspects (the label is probably wrong) or "
            "right (the most confident correct ones)."
        ),
    ] = "losses",
    split: Split = "val",
    true: Annotated[
        str | None, typer.Option(metavar="CLASS", help="Only images with this label.")
    ] = None,
    predicted: Annotated[
        str | None, typer.Option(metavar="CLASS", help="Only images with this prediction.")
    ] = None,
    n: MaxImages = 20,
    similar: Annotated[
        int,
        typer.Option(min=0, help="Number of similar training images to show beside each image."),
    ] = 0,
    out: Annotated[
        str | None, picture_option("File of the picture. Default: gallery.png in the run.")
    ] = None,
    data: MovedData = None,
    labels: MovedLabels = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Show the images behind a number: the hardest, the mislabelled, one confusion.

    It uses saved predictions; no model runs, except for --similar, which computes the features of
    the training images once. A look at test images is logged. Suspects come from confident
    learning: the run was not trained on these images, and gives another class a probability
    that is typical for images of that class.

    For example:

        convscope train --data digits --epochs 3 --out runs/seen
        convscope gallery runs/seen
        convscope gallery runs/seen --split test --true 8
        # which training images mislead it?
        convscope gallery runs/seen -n 5 --similar 4
    """
    import convscope
    from convscope.api.gallery import gallery_place
    from convscope.cli._tables import NUMBER, TEXT, print_table
    from convscope.run import Run
    from convscope.wording import sureness

    opened = Run.open(run)
    seen = convscope.gallery(
        opened,
        of,
        split=split,
        true=true,
        predicted=predicted,
        n=n,
        similar=similar,
        out=out,
        data=data,
        labels=labels,
        data_dir=data_dir,
    )
    place = gallery_place(opened, out)
    if json:
        from convscope.cli._json import print_json

        print_json({"images": seen, "picture": place})
        return
    prob = "worst mistake" if seen[0].multi_label else "prob"
    columns = [("image", TEXT), ("label", TEXT), ("predicted", TEXT), (prob, NUMBER)]
    rows = [[s.image_id, s.class_name, s.answer, sureness(s.prob)] for s in seen]
    if similar:
        columns.append(("similar training images", TEXT))
        for row, s in zip(rows, seen, strict=True):
            row.append(", ".join(f"{near.image_id} {near.similarity:.2f}" for near in s.similar))
    print_table(columns, rows)
    typer.echo(f"\npicture  {place}")
