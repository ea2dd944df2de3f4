"""`convscope data suspects`."""

from typing import Annotated

import typer

from convscope.cli._options import (
    Data,
    DataDir,
    DataWord,
    Gpus,
    Json,
    Labels,
    Memory,
    Ray,
    Settings,
    Threads,
    executor_of,
    read_settings,
)
from convscope.cli._stopping import repeatable
from convscope.cli.data._options import required


def suspects(
    data_word: DataWord = None,
    data: Data = None,
    labels: Labels = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Model, see 'convscope models'. Default: a pretrained network for a folder "
            "of images, otherwise fast-small."
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="Recipe, see 'convscope recipes'. Default: that of the model."),
    ] = None,
    folds: Annotated[
        int, typer.Option(min=2, help="Number of folds, with a network for each.")
    ] = 4,
    seed: Annotated[int, typer.Option(help="Seed of initial weights and image order.")] = 83,
    settings: Settings = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Folder of the search. Default: runs/suspects-DATA-MODEL, with a number behind it "
            "if that has the results for other images, such as before labels were corrected.",
        ),
    ] = None,
    data_dir: DataDir = None,
    ray: Ray = None,
    threads: Threads = None,
    gpus: Gpus = None,
    memory: Memory = None,
    json: Json = False,
) -> None:
    """Find training images that are probably mislabelled.

    For each fold of the training images a network is trained on the others, so that every image is
    checked by a network that was not trained on it. Confident learning then finds the labels that
    are ruled out. Writes suspects.csv, the most suspect first, and a picture of the first forty.
    Repeat the command to resume. The data is not changed.

    For example:

        # a folder: a pretrained network runs once on each image, then heads are trained
        convscope data suspects --data photos/
        # a network of your own for each fold, which --ray and --threads are for
        convscope data suspects --data photos/ --model fast-small --set image_size=64
    """
    import convscope
    from convscope.cli._tables import NUMBER, TEXT, console, print_table
    from convscope.wording import sureness

    data = required(data_word, data)
    with repeatable():
        found = convscope.suspects(
            data,
            labels=labels,
            model=model,
            recipe=recipe,
            folds=folds,
            seed=seed,
            settings=read_settings(settings),
            out=out,
            data_dir=data_dir,
            executor=executor_of(ray, threads, gpus, memory),
        )
    if json:
        from convscope.cli._json import print_json

        print_json(
            {
                "n_images": found.n_images,
                "accuracy": found.accuracy,
                "suspects": found.suspects,
                "table": found.table_file,
                "picture": found.picture if found.suspects else None,
            }
        )
        return
    print_table(
        [("image", TEXT), ("label", TEXT), ("predicted", TEXT), ("prob", NUMBER)],
        ([s.image_id, s.class_name, s.answer, sureness(s.prob)] for s in found.suspects[:20]),
    )
    screen = console()
    screen.print()
    screen.print(
        f"{len(found.suspects):,} of {found.n_images:,} training images have doubtful labels, "
        f"by networks with {found.accuracy:.1%} accuracy on images they were not trained on.",
        soft_wrap=True,
    )
    screen.print(f"table    {found.table_file}", markup=False, soft_wrap=True)
    if found.suspects:
        screen.print(f"picture  {found.picture}", markup=False, soft_wrap=True)
