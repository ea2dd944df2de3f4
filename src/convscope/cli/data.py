"""`convscope data show`, `data check` and `data suspects`."""

from pathlib import Path
from typing import Annotated

import typer

from convscope.cli._options import (
    DATA_HELP,
    DataDir,
    Json,
    Settings,
    picture_option,
    read_settings,
)
from convscope.cli._stopping import repeatable

app = typer.Typer(no_args_is_help=True, help="Look at data before training on it.")

DataArgument = Annotated[str, typer.Argument(metavar="DATA", help=DATA_HELP)]


@app.command()
def show(
    data: DataArgument = "cifar10",
    out: Annotated[Path | None, picture_option("DATA-samples.png")] = None,
    image_size: Annotated[
        int | None,
        typer.Option(min=1, help="Side in pixels to which a folder's images are resized."),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Write a grid of training images with their class names; print the class counts.

    For CIFAR-10 it is the tutorial's grid: training images 190 to 209 of its split.
    """
    import numpy as np

    import convscope
    from convscope.cli._tables import NUMBER, TEXT, console, print_table
    from convscope.datasets.samples import sample_images
    from convscope.report.figures import draw_samples

    picture = out or _default_place(data, "-samples.png")
    dataset = convscope.load(data, data_dir=data_dir, image_size=image_size)
    draw_samples(*sample_images(dataset), picture)

    parts = {"train": dataset.train, "val": dataset.val, "test": dataset.test}
    n_classes = len(dataset.class_names)
    counts = {
        name: np.bincount(part.labels, minlength=n_classes)
        for name, part in parts.items()
        if part is not None
    }
    print_table(
        [("class", TEXT), *((name, NUMBER) for name in counts)],
        [
            *(
                [name, *(f"{count[index]:,}" for count in counts.values())]
                for index, name in enumerate(dataset.class_names)
            ),
            ["all", *(f"{count.sum():,}" for count in counts.values())],
        ],
    )
    height, width, channels = dataset.image_shape
    kind = "grey" if channels == 1 else "RGB"
    out_console = console()
    out_console.print(f"\nimages     {height} x {width} pixels, {kind}")
    for key, value in dataset.provenance.items():
        out_console.print(f"{key:<11}{value}", markup=False, soft_wrap=True)
    out_console.print(f"picture    {picture}", markup=False, soft_wrap=True)


@app.command()
def check(
    data: DataArgument,
    out: Annotated[
        Path | None, typer.Option(help="Where the machine-readable findings go (JSON).")
    ] = None,
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Look for what spoils training: broken files, odd modes, duplicates, leaks between parts.

    Nothing is changed. The exit code is 1 if there is an error among the findings.
    """
    import convscope
    from convscope.cli._tables import TEXT, console, print_table
    from convscope.storage import write_text

    target = None if json else out or _default_place(data, "-check.json")
    report = convscope.check(data, data_dir=data_dir)
    if target is None:
        typer.echo(report.to_json(), nl=False)
    else:
        columns = ("", "finding", "what", "where", "what to do")
        print_table([(name, TEXT) for name in columns], report.rows())
        write_text(target, report.to_json())
        console().print(f"\n{report.summary()}\nall of it  {target}", markup=False, soft_wrap=True)
    if report.has_errors:
        raise typer.Exit(1)


def _default_place(data: str, ending: str) -> Path:
    """Return where a result goes that was given no place: the current folder.

    Raises:
        DataError: If that is in the data folder, which is never written to.
    """
    from convscope.errors import DataError

    folder = Path(data).expanduser().resolve()
    if folder.is_dir() and Path.cwd().is_relative_to(folder):
        raise DataError(
            f"the result would go into the data folder {folder}, which is never written to; "
            "choose another place with --out"
        )
    return Path(f"{folder.name}{ending}")


@app.command()
def suspects(
    data: DataArgument,
    model: Annotated[str, typer.Option(help="See 'convscope models'.")] = "fast-small",
    recipe: Annotated[
        str | None, typer.Option(help="See 'convscope recipes'. Default: the model's usual one.")
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Networks, each for its part.")] = 4,
    seed: Annotated[int, typer.Option(help="Of the networks.")] = 83,
    settings: Settings = None,
    out: Annotated[
        Path | None, typer.Option(help="Its folder. Default: runs/suspects-DATA-MODEL.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Find training images that are probably labelled wrong.

    The training images are divided into folds; for each a network learns from the others, so that
    every image is judged by one that did not learn it. Confident learning says which labels are
    ruled out. Writes suspects.csv, the most suspect first, and a picture of the first forty. The
    same command goes on with a search that was stopped. Nothing in the data is changed.

    For example:

        convscope data suspects photos/ --set image_size=64
        convscope data suspects photos/ --model mobilenet_v2
    """
    import convscope
    from convscope.cli._tables import NUMBER, TEXT, console, print_table

    with repeatable():
        found = convscope.suspects(
            data,
            model=model,
            recipe=recipe,
            folds=folds,
            seed=seed,
            settings=read_settings(settings),
            out=out,
            data_dir=data_dir,
        )
    print_table(
        [("image", TEXT), ("labelled", TEXT), ("rather", TEXT), ("sure", NUMBER)],
        ([s.image_id, s.class_name, s.answer, f"{s.prob:.0%}"] for s in found.suspects[:20]),
    )
    screen = console()
    screen.print()
    screen.print(
        f"{len(found.suspects):,} of {found.n_images:,} training images have labels in doubt, by "
        f"networks with {found.accuracy:.1%} right on images that they did not learn.",
        soft_wrap=True,
    )
    screen.print(f"table    {found.table_file}", markup=False, soft_wrap=True)
    if found.suspects:
        screen.print(f"picture  {found.picture}", markup=False, soft_wrap=True)
