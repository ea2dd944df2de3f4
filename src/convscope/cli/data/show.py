"""`convscope data show`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from convscope.cli._options import (
    Data,
    DataDir,
    DataWord,
    Fit,
    Json,
    Labels,
    one_data,
    picture_option,
    read_settings,
)
from convscope.cli.data._options import Size, outside

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from matplotlib.figure import Figure

    from convscope.recipe import AugmentSettings
    from convscope.types import Dataset


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
    picture = outside(place, out)
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
