"""`convscope data shards`."""

from typing import Annotated

import typer

from convscope.cli._options import Data, DataDir, DataWord, Fit, Json, Labels
from convscope.cli.data._options import Size, required


def shards(
    out: Annotated[
        str,
        typer.Option(
            metavar="PLACE", help="Folder of the shards, or its address, such as s3://bucket/birds."
        ),
    ],
    data_word: DataWord = None,
    data: Data = None,
    labels: Labels = None,
    image_size: Size = None,
    fit: Fit = None,
    shard_mb: Annotated[
        float, typer.Option(help="Megabytes of decoded pixels in a shard.")
    ] = 128.0,
    near: Annotated[
        int, typer.Option(min=1, help="Number of shards among which training shuffles images.")
    ] = 16,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Write data as shards, of which training needs only a few on the disk at a time.

    For sets that are larger than a disk: images are decoded one by one, and each shard is sent as
    soon as it is full. Training names the place as its data, fetches shards when it needs them, and
    resumes bit for bit. The size of the images is decided here.

    For example:

        convscope data shards --data photos/ --image-size 224 --out s3://lab/photos
        convscope train --data s3://lab/photos --model mobilenet_v2
    """
    import convscope

    written = convscope.write_shards(
        required(data_word, data),
        out,
        labels=labels,
        image_size=image_size,
        fit=fit or "squash",
        shard_mb=shard_mb,
        near=near,
        data_dir=data_dir,
    )
    if json:
        from convscope.cli._json import print_json

        print_json(written)
        return
    from convscope.wording import command_line, counted

    typer.echo(
        f"{counted(written.n_images, 'image')} in {counted(written.n_shards, 'shard')} "
        f"({written.n_bytes / 1e6:,.0f} MB) at {written.place}"
    )
    typer.echo(f"to train on them: {command_line('train', '--data', written.place)}")
