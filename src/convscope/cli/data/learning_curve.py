"""`convscope data learning-curve`."""

from typing import Annotated

import typer

from convscope.cli._options import Data, DataDir, DataWord, Json, Labels, Settings, read_settings
from convscope.cli._stopping import repeatable
from convscope.cli.data._options import required

_N_CLASSES = 10
"""Classes that `learning-curve` lists."""


def learning_curve(
    data_word: DataWord = None,
    data: Data = None,
    labels: Labels = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Pretrained backbone, see 'convscope models'. Default: that of recipe logistic."
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Seed of the folds and of the images that are learnt.")
    ] = 83,
    settings: Settings = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Folder of the results. Default: runs/learning-curve-DATA-MODEL.",
        ),
    ] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Find out whether more images would help: accuracy by number of training images.

    A pretrained backbone runs once on each image. Heads learn some of the images, each number twice
    the one before, and are evaluated on others, by cross-validation; test images are not used. A
    line from the last point on says what to expect of all images and of twice as many. Writes
    learning_curve.csv and .png, and classes.csv with the recall of each class for half of the
    images and for all; of a class with few images that says little.

    For example:

        convscope data learning-curve --data photos/
        # smaller images, in a quarter of the time
        convscope data learning-curve --data photos/ --set image_size=112
    """
    import convscope
    from convscope.cli._tables import NUMBER, TEXT, console, print_table

    data = required(data_word, data)
    with repeatable():
        found = convscope.learning_curve(
            data,
            labels=labels,
            model=model,
            seed=seed,
            settings=read_settings(settings),
            out=out,
            data_dir=data_dir,
        )
    if json:
        from convscope.cli._json import print_json

        print_json(
            {
                "n_images": found.n_images,
                "points": found.points,
                "expected_of_all": found.expected_of_all,
                "expected": found.expected,
                "classes": found.classes,
                "table": found.table_file,
                "classes_table": found.classes_table,
                "picture": found.picture,
            }
        )
        return
    print_table(
        [
            ("training images", NUMBER),
            ("accuracy on other images", NUMBER),
            ("95 % interval", TEXT),
        ],
        (
            [f"{each.n_images:,}", f"{each.accuracy:.4f}", f"{each.low:.4f} to {each.high:.4f}"]
            for each in found.points
        ),
    )
    screen, now, twice = console(), found.expected_of_all, found.expected
    screen.print()
    screen.print(
        f"With all {found.n_images:,} images expect about {now.accuracy:.1%}, with twice as many "
        f"{twice.accuracy:.1%} ({twice.low:.1%} to {twice.high:.1%}).",
        soft_wrap=True,
    )
    screen.print()
    print_table(
        [
            *(("class", TEXT), ("images", NUMBER)),
            *(("recall, half of them learnt", NUMBER), ("all", NUMBER)),
        ],
        (
            [
                each.class_name,
                f"{each.n_images:,}",
                f"{each.recall_of_half:.0%}",
                f"{each.recall:.0%}",
            ]
            for each in found.classes[:_N_CLASSES]
        ),
    )
    if (more := len(found.classes) - _N_CLASSES) > 0:
        screen.print(f"and {more:,} classes with a higher recall")
    screen.print()
    files = (
        *(("table", found.table_file), ("classes", found.classes_table)),
        ("picture", found.picture),
    )
    for word, file in files:
        screen.print(f"{word:<8} {file}", markup=False, soft_wrap=True)
