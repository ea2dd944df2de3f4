"""`convscope similar`."""

from typing import Annotated

import typer

from convscope.cli._options import (
    DataDir,
    Json,
    MovedData,
    MovedLabels,
    RunArgument,
    SavedWeights,
    picture_option,
)


def similar(
    run: RunArgument,
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="Image file.")],
    top: Annotated[int, typer.Option(min=1, help="Number of training images.")] = 9,
    weights: SavedWeights = None,
    out: Annotated[
        str | None, picture_option("File of the picture. Default: similar.png in the run.")
    ] = None,
    data: MovedData = None,
    labels: MovedLabels = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Find the training images that are most similar to an image, in the eyes of the network.

    Similarity is the cosine between features, the input of the run's head: 1 for equal images. The
    features of the training images are computed once and kept in the cache; those of a frozen
    backbone are there already.

    For example:

        convscope similar runs/NAME photo.jpg
    """
    import convscope
    from convscope.cli._tables import NUMBER, TEXT, print_table
    from convscope.wording import sureness

    found = convscope.similar(
        run,
        image,
        top=top,
        weights=weights,
        out=out,
        data=data,
        labels=labels,
        data_dir=data_dir,
    )
    said = found.prediction
    if json:
        from convscope.cli._json import print_json

        print_json(
            {
                "image": said.path,
                "class": said.class_name,
                "classes": said.class_names,
                "probs": said.probs,
                "similar": found.neighbours,
                "picture": found.picture,
            }
        )
        return
    named = " + ".join(f"{name} {sureness(said.probs[name], 1)}" for name in said.class_names)
    typer.echo(f"{said.path}: {named or said.answer}\n")
    print_table(
        [("training image", TEXT), ("label", TEXT), ("similarity", NUMBER)],
        ([each.image_id, each.class_name, f"{each.similarity:.3f}"] for each in found.neighbours),
    )
    typer.echo(f"\npicture  {found.picture}")
