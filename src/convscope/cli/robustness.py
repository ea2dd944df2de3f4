"""`convscope robustness`."""

from typing import Annotated

import typer

from convscope.cli._options import (
    DataDir,
    Json,
    MaxImages,
    MovedData,
    MovedLabels,
    RunArgument,
    Split,
    read_names,
    read_numbers,
)


def robustness(
    run: RunArgument,
    corruptions: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="Corruptions: gaussian-noise, shot-noise, impulse-noise, gaussian-blur, contrast, "
            "brightness, jpeg, pixelate. Default: all.",
        ),
    ] = None,
    severities: Annotated[
        str, typer.Option(metavar="1,2,...", help="Severities, from 1 (mild) to 5 (strong).")
    ] = "1,2,3,4,5",
    split: Split = "val",
    n: MaxImages = 2_000,
    data: MovedData = None,
    labels: MovedLabels = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Measure accuracy under corruptions: noise, blur, contrast, brightness, JPEG, pixelation.

    The common corruptions of Hendrycks and Dietterich (2019) in five severities, with the strengths
    of CIFAR-10-C; blurs grow with the image. Writes robustness.json and robustness.png.

    For example:

        convscope train --data digits --epochs 3 --out runs/robust
        convscope robustness runs/robust --severities 1,5
    """
    import convscope
    from convscope.cli._tables import NUMBER, TEXT, console, print_table
    from convscope.run import Run
    from convscope.types import PART_NAMES
    from convscope.wording import counted

    opened = Run.open(run)
    levels = read_numbers(severities, "--severities", "numbers separated by commas")
    found = convscope.robustness(
        opened,
        corruptions=read_names(corruptions) if corruptions else None,
        severities=levels,
        split=split,
        n_images=n,
        data=data,
        labels=labels,
        data_dir=data_dir,
    )
    if json:
        from convscope.cli._json import print_json

        print_json(found.content)
        return
    print_table(
        [("corruption", TEXT), *((str(level), NUMBER) for level in found.severities)],
        ([name, *(f"{value:.3f}" for value in row)] for name, row in found.accuracy.items()),
    )
    screen = console()
    screen.print()
    measured = counted(found.n_images, f"{PART_NAMES[found.split]} image")
    screen.print(f"{found.conclusion} Measured on {measured}.", soft_wrap=True)
    if opened.robustness_picture.exists():
        screen.print(f"picture  {opened.robustness_picture}", markup=False, soft_wrap=True)
