"""`convscope predict`."""

import csv
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convscope.cli._json import print_json
from convscope.cli._options import BatchSize, Json, RunArgument, SavedWeights
from convscope.cli._unreadable import report_unreadable
from convscope.wording import spreadsheet_path, spreadsheet_text

if TYPE_CHECKING:
    from convscope.types import ImagePrediction, UnreadableImage


class Format(StrEnum):
    """Formats of the output."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def predict(
    run: RunArgument,
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE...", help="Image files, folders, glob patterns.")
    ],
    output: Annotated[
        Format,
        typer.Option(
            "--format",
            help="Format of the output; CSV and JSON hold the probability of every class.",
        ),
    ] = Format.TABLE,
    top: Annotated[int, typer.Option(min=1, help="Classes per image (table).")] = 3,
    batch_size: BatchSize = 256,
    weights: SavedWeights = None,
    json: Json = False,
) -> None:
    """Classify images: class names and probabilities.

    A file that cannot be read is reported and skipped; the exit code is then 1.

    For example:

        convscope predict runs/NAME photo.jpg folder/ '*.png'
        convscope predict runs/NAME folder/ --format csv > answers.csv
    """
    import convscope
    from convscope.errors import ConfigError
    from convscope.types import UnreadableImage

    if json:
        if output is Format.CSV:
            raise ConfigError("--json and --format csv: choose one")
        output = Format.JSON
    results = convscope.predict(run, images, weights=weights, batch_size=batch_size)
    read: list[ImagePrediction] = []
    unreadable: list[UnreadableImage] = []
    table = None
    for result in results:
        if isinstance(result, UnreadableImage):
            unreadable.append(result)
        elif output is Format.CSV:
            # Row by row: there may be millions.
            if table is None:
                # Python itself turns it into the system's line end.
                table = csv.writer(sys.stdout or _Nowhere(), lineterminator="\n")
                table.writerow(["image", "class", *map(spreadsheet_text, result.probs)])
            image, answer = spreadsheet_path(str(result.path)), spreadsheet_text(result.class_name)
            table.writerow([image, answer, *result.probs.values()])
        else:
            read.append(result)
    if output is Format.JSON:
        _print_json(read, unreadable)
    elif output is Format.TABLE:
        _print_table(read, top)
    report_unreadable(unreadable)


class _Nowhere:
    """Replacement of a closed standard output."""

    def write(self, text: str) -> None:
        """Discard a text."""


def _print_json(read: "list[ImagePrediction]", unreadable: "list[UnreadableImage]") -> None:
    content: dict[str, Any] = {
        "predictions": [
            {"image": str(item.path), "class": item.class_name, "probs": item.probs}
            for item in read
        ],
        "skipped": [{"image": str(item.path), "reason": item.reason} for item in unreadable],
    }
    print_json(content)


def _print_table(read: "list[ImagePrediction]", top: int) -> None:
    from convscope.cli._tables import TEXT, print_table

    rows = ([item.path, *(f"{name} {prob:.1%}" for name, prob in item.top(top))] for item in read)
    n_columns = min(top, len(read[0].probs)) if read else 0
    names = ["prediction", *(f"{rank}." for rank in range(2, n_columns + 1))]
    print_table([("image", TEXT), *((name, TEXT) for name in names)], rows)
