"""`convscope data show`, `check`, `suspects`, `learning-curve` and `shards`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from convscope.cli._options import (
    Data,
    DataDir,
    DataWord,
    Fit,
    Gpus,
    Json,
    Labels,
    Memory,
    Ray,
    Settings,
    Threads,
    executor_of,
    one_data,
    picture_option,
    read_settings,
)
from convscope.cli._stopping import repeatable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from matplotlib.figure import Figure

    from convscope.recipe import AugmentSettings
    from convscope.types import Dataset

app = typer.Typer(
    no_args_is_help=True, help="Look at data before training on it; put it in shards."
)

_N_CLASSES = 10
"""Classes that `learning-curve` lists."""

Size = Annotated[
    int | None, typer.Option(min=1, help="Side in pixels to which images of a folder are resized.")
]


@app.command()
def show(
    data_word: DataWord = None,
    data: Data = None,
    labels: Labels = None,
    out: Annotated[
        str | None, picture_option("Picture of a grid of training images with their class names.")
    ] = None,
    image_size: Size = None,
    fit: Fit = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Setting of augmentation, such as augment.crop=0.1, to see in the picture what it "
            "makes of images; or of the split, such as split.val_fraction=0.2.",
        ),
    ] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Show the number of images of each class and part; with --out draw some of them.

    For CIFAR-10, the default, the picture is the tutorial's grid: training images 190 to 209 of its
    split. With settings of augmentation it shows some images, and four versions of each.

    For example:

        convscope data show --data digits
        convscope data show --data photos/ --out samples.png
        # is this too much of a shift?
        convscope data show --data photos/ --set augment.crop=0.3 --out shifted.png
    """
    import convscope
    from convscope.datasets.source import data_settings

    named = one_data(data_word, data)
    data = "cifar10" if named is None else named
    place = data_settings(data, labels)
    picture = _outside(place, out)
    split, augment = _shown_settings(settings, picture)
    dataset = convscope.load(
        data,
        labels=labels,
        data_dir=data_dir,
        image_size=image_size,
        fit=fit or "squash",
        split=split,
    )
    if picture is not None:
        from convscope.report.figures import save_figure

        save_figure(_samples(dataset, augment), picture)
    if json:
        from convscope.cli._json import print_json

        print_json({**_facts(dataset), "picture": picture})
        return
    _print_counts(dataset)
    _print_facts(dataset, None if picture is None else str(picture), place)


def _shown_settings(
    given: list[str] | None, picture: "Path | None"
) -> "tuple[dict[str, Any], AugmentSettings | None]":
    """Return the settings of the split that were given, and those of augmentation; None for none.

    Raises:
        ConfigError: If one is of neither, or one of augmentation has no picture to be seen in.
    """
    from convscope.errors import ConfigError
    from convscope.recipe import Recipe, resolve

    settings = read_settings(given)
    resolved = resolve(Recipe(), settings)
    kinds = {key: key.partition(".")[0] for key in settings}
    for key, kind in kinds.items():
        if kind not in ("split", "augment"):
            raise ConfigError(f"--set {key}: only settings of split and augment can be shown")
        if kind == "augment" and picture is None:
            raise ConfigError(f"--set {key} is seen in a picture only; add --out augmented.png")
    split = {key.removeprefix("split."): settings[key] for key in kinds if kinds[key] == "split"}
    return split, resolved.augment if "augment" in kinds.values() else None


def _samples(dataset: "Dataset", augment: "AugmentSettings | None") -> "Figure":
    """Return a picture of training images, with what augmentation makes of them if it is given."""
    from convscope.datasets.samples import sample_images
    from convscope.report.figures import samples_figure

    shown = sample_images(dataset)
    if augment is None:
        return samples_figure(*shown)
    from convscope.training.preview import COLUMNS, augmented_samples

    versions, captions = augmented_samples(*shown, augment, seed=0, mixed=True)
    return samples_figure(versions, captions, columns=COLUMNS)


def _outside(place: "Mapping[str, Any]", out: str | None) -> "Path | None":
    """Return the path of a result.

    Raises:
        DataError: If it is inside the data folder, which is never written to, or is the table of
            the labels.
        RunError: If it belongs to a run.
    """
    from convscope.datasets.source import require_apart
    from convscope.paths import path_or_none
    from convscope.run import Run

    target = path_or_none(out, "--out")
    if target is None:
        return None
    return Run.require_spare(require_apart(target, place["data_path"], place.get("labels")))


def _counts(dataset: "Dataset") -> dict[str, Any]:
    """Return the number of images of each class, by part."""
    from convscope.types import n_of_each

    n_classes = len(dataset.class_names)
    return {name: n_of_each(part.labels, n_classes) for name, part in dataset.parts.items()}


def _facts(dataset: "Dataset") -> dict[str, Any]:
    return {
        "name": dataset.name,
        "image_shape": dataset.image_shape,
        "class_names": dataset.class_names,
        "multi_label": dataset.multi_label,
        "counts": {
            part: dict(zip(dataset.class_names, count.tolist(), strict=True))
            for part, count in _counts(dataset).items()
        },
        "provenance": dataset.provenance,
    }


def _print_counts(dataset: "Dataset") -> None:
    from convscope.cli._tables import NUMBER, TEXT, print_table

    counts = _counts(dataset)
    print_table(
        [("class", TEXT), *((name, NUMBER) for name in counts)],
        [
            *(
                [name, *(f"{count[index]:,}" for count in counts.values())]
                for index, name in enumerate(dataset.class_names)
            ),
            ["all", *(f"{len(part):,}" for part in dataset.parts.values())],
        ],
    )


def _print_facts(dataset: "Dataset", picture: str | None, place: "Mapping[str, Any]") -> None:
    from convscope.cli._tables import console
    from convscope.datasets.source import words_of
    from convscope.wording import command_line

    height, width, channels = dataset.image_shape
    kind = "grey" if channels == 1 else "RGB"
    out_console = console()
    facts = {"images": f"{height} x {width} pixels, {kind}", **dataset.provenance}
    if picture is not None:
        facts["picture"] = picture
    out_console.print()
    for key, value in facts.items():
        out_console.print(f"{key:<13}{value}", markup=False, soft_wrap=True)
    if picture is None and out_console.is_terminal:
        again = command_line("data", "show", *words_of(place), "--out", "samples.png")
        typer.echo(f"\nTo see some of them: {again}", err=True)


@app.command()
def check(
    data_word: DataWord = None,
    data: Data = None,
    labels: Labels = None,
    out: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="File for all findings, as JSON."),
    ] = None,
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Check data for problems: broken and blank images, duplicates, series, leaks between parts.

    Nothing is changed. The exit code is 1 if there is an error among the findings.

    For example:

        convscope data check --data photos/
        # all files of each finding, for a program
        convscope data check --data photos/ --out findings.json
    """
    import convscope
    from convscope.cli._tables import TEXT, console, print_table
    from convscope.datasets.source import data_settings
    from convscope.storage import write_text

    data = _required(data_word, data)
    target = _outside(data_settings(data, labels), out)
    report = convscope.check(data, labels=labels, data_dir=data_dir)
    if target is not None:
        write_text(target, report.to_json())
    if json:
        from convscope.cli._json import print_json

        print_json(report.to_dict())
    else:
        columns = ("", "finding", "what", "where", "what to do")
        rows = [[*row[:3], row[3].split("\n"), row[4]] for row in report.rows()]
        print_table([(name, TEXT) for name in columns], rows)
        screen = console()
        screen.print(f"\n{report.summary()}", markup=False, soft_wrap=True)
        if target is not None:
            screen.print(f"all of it  {target}", markup=False, soft_wrap=True)
    if report.has_errors:
        raise typer.Exit(1)


@app.command()
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
        _required(data_word, data),
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


def _required(word: str | None, option: str | None) -> str:
    from convscope.errors import ConfigError

    named = one_data(word, option)
    if named is None:
        raise ConfigError("name the data: --data NAME or --data PATH")
    return named


@app.command()
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

    data = _required(data_word, data)
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


@app.command(name="learning-curve")
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

    data = _required(data_word, data)
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
