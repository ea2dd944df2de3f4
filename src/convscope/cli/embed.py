"""`convscope embed`."""

from typing import Annotated

import typer

from convscope.cli._options import Images, Json, RunArgument, SavedWeights
from convscope.cli._unreadable import report_unreadable


def embed(
    run: RunArgument,
    images: Images,
    weights: SavedWeights = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="PATH", help="Parquet file of the table. Default: embedding.parquet in the run."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Write features of images, the input of the run's head, to a Parquet table.

    A row per image: image, answer, prob (of the answer) and features, a list of float32. For a
    pretrained backbone they are its pooled features, for other networks the input of the last
    dense layer.

    A file that cannot be read is reported and skipped; the exit code is then 1.

    For example:

        convscope embed runs/NAME folder/ --out features.parquet
    """
    import convscope

    found = convscope.embed(run, images, weights=weights, out=out)
    if json:
        from convscope.cli._json import print_json

        print_json(found)
    else:
        typer.echo(f"{found.n_images:,} images, {found.n_features:,} features each")
        typer.echo(f"table  {found.path}")
    report_unreadable(found.skipped)
