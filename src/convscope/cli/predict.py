"""`convscope predict`."""

import csv
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from convscope.cli._json import print_json
from convscope.cli._options import ENGINE_HELP, BatchSize, Json, SavedWeights
from convscope.cli._stopping import repeatable
from convscope.cli._unreadable import report_unreadable
from convscope.wording import counted, printable, sureness

if TYPE_CHECKING:
    from convscope.types import ImagePrediction, UnreadableImage


def predict(
    run: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="Run folder, its name below runs/, or an exported ONNX file."
        ),
    ],
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE...",
            help="Image files, folders, glob patterns; lists of files (.txt, .csv, .jsonl, "
            ".parquet); archives (.zip, .tar, .tar.gz), such as shards of WebDataset; '-' for a "
            "list on standard input.",
        ),
    ],
    output: Annotated[
        Literal["table", "csv", "json", "jsonl"],
        typer.Option(
            "--format",
            help="Format of the output; all but the table hold the probability of every class. "
            "jsonl: a line of JSON per image. With --out the ending of the file decides it.",
        ),
    ] = "table",
    top: Annotated[int, typer.Option(min=1, help="Number of classes per image (table).")] = 3,
    batch_size: BatchSize = None,
    weights: SavedWeights = None,
    reject: Annotated[
        bool,
        typer.Option(
            "--reject",
            help="Answer 'none of these' for an image that looks like no class. The threshold "
            "accepts 95 % of the validation images (setting 'accepted'). Works best with a frozen "
            "backbone; what resembles a class may still get its name (docs/results.md).",
        ),
    ] = False,
    engine: Annotated[
        str | None,
        typer.Option(help=ENGINE_HELP),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="File of the answers: .csv, .jsonl or .parquet, a row per image. After a kill the "
            "same command continues where it stopped, with any number of workers.",
        ),
    ] = None,
    sort_into: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="New folder for copies of the images, sorted/CLASS/, to look through and correct: "
            "'convscope train --data FOLDER/sorted' takes them. The images themselves stay where "
            "they are. After a kill the same command continues.",
        ),
    ] = None,
    unsure_below: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            metavar="PROBABILITY",
            help="Copy images whose answer has a lower probability into FOLDER/unsure/CLASS/.",
        ),
    ] = 0.0,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes that classify, each with a core (or --threads); for exported files. "
            "Default: this one alone. With --ray: at most this many; default: all that fit.",
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processor cores of each worker (default 1); without workers, of the engine "
            "(default: all). For exported files.",
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Classify on a Ray cluster: HOST:PORT, or 'auto' for the one that runs here; for "
            "exported files. Its nodes read images under the same paths as here; the model, and "
            "the images of archives, are sent to them. Extra: ray.",
        ),
    ] = None,
    memory: Annotated[
        float | None,
        typer.Option(metavar="GB", help="Memory to reserve for each worker, with --ray."),
    ] = None,
    json: Json = False,
) -> None:
    """Classify images: class names and probabilities.

    A file that cannot be read is reported and skipped; the exit code is then 1. Where an image may
    have any number of classes, the answer is all that reach their thresholds, or none; --top lists
    the most probable ones beside it.

    For example:

        convscope predict runs/NAME photo.jpg folder/ '*.png'
        convscope predict runs/NAME folder/ --format csv > answers.csv
        convscope predict model.onnx million.txt --out answers.jsonl
        convscope predict runs/NAME folder/ --reject
        convscope predict runs/NAME new/ --sort-into labelled/ --unsure-below 0.6
        convscope predict model.onnx 'shards/*.tar' --out answers.parquet --workers 8
        convscope predict model.onnx /shared/list.txt --out answers.parquet --ray HOST:6379
    """
    import convscope
    from convscope.classifier.bulk.answers import csv_header, csv_row, json_line
    from convscope.errors import ConfigError
    from convscope.types import UnreadableImage

    if json:
        if output == "csv":
            raise ConfigError("--json and --format csv: choose one")
        output = "json"
    if out is not None and output != "table" and not out.lower().endswith(f".{output}"):
        option = "--json" if json else f"--format {output}"
        raise ConfigError(
            f"{option} is for standard output, and --out {out} takes the answers, in the format of "
            f"its ending; omit {option}"
        )
    results = convscope.predict(
        run,
        images,
        weights=weights,
        batch_size=batch_size,
        reject=reject,
        engine=engine,
        out=out,
        sort_into=sort_into,
        unsure_below=unsure_below,
        workers=workers,
        threads=threads,
        ray=ray,
        memory_gb=memory,
    )
    read: list[ImagePrediction] = []
    unreadable: list[UnreadableImage] = []
    if out is not None:
        with repeatable("What is answered is kept"):
            _consume(results)
        return
    table = None
    for result in results:
        # Row by row: there may be millions.
        if output == "jsonl":
            typer.echo(json_line(result))
        if isinstance(result, UnreadableImage):
            unreadable.append(result)
        elif output == "csv":
            if table is None:
                # Python itself turns it into the system's line end.
                table = csv.writer(sys.stdout or _Nowhere(), lineterminator="\n")
                several = result.thresholds is not None
                table.writerow(csv_header(result.probs, multi_label=several))
            table.writerow(csv_row(result))
        elif output != "jsonl":
            read.append(result)
    if output == "json":
        _print_json(read, unreadable)
    elif output == "table":
        _print_table(read, top)
    report_unreadable(unreadable)


def _consume(results: "Iterator[ImagePrediction | UnreadableImage]") -> None:
    """Take all results, which are in a file; name those that could not be read."""
    from convscope.classifier.bulk.answers import Answers
    from convscope.types import UnreadableImage

    before = results.n_unreadable_before if isinstance(results, Answers) else 0
    n_unreadable = before
    for result in results:
        if isinstance(result, UnreadableImage):
            n_unreadable += 1
            typer.echo(f"skipped: {printable(result.reason)}", err=True)
    if before:
        one = "is" if before == 1 else "are"
        typer.echo(
            f"{counted(before, 'image')} could not be read before, and {one} in the file", err=True
        )
    if n_unreadable:
        raise typer.Exit(1)


class _Nowhere:
    """Replacement of a closed standard output."""

    def write(self, text: str) -> None:
        """Discard a text."""


def _print_json(read: "list[ImagePrediction]", unreadable: "list[UnreadableImage]") -> None:
    from convscope.classifier.bulk.answers import json_object

    content: dict[str, Any] = {
        "predictions": [json_object(item) for item in read],
        "skipped": [{"image": str(item.path), "reason": item.reason} for item in unreadable],
    }
    print_json(content)


def _print_table(read: "list[ImagePrediction]", top: int) -> None:
    from convscope.cli._tables import TEXT, print_table

    if read and read[0].thresholds is not None:
        several = ([item.path, _said(item), ", ".join(_probs(item, top))] for item in read)
        print_table([("image", TEXT), ("classes", TEXT), ("most probable", TEXT)], several)
        return
    rows = ([item.path, *_ranked(item, top)] for item in read)
    n_columns = min(top, len(read[0].probs)) if read else 0
    names = ["prediction", *(f"{rank}." for rank in range(2, n_columns + 1))]
    print_table([("image", TEXT), *((name, TEXT) for name in names)], rows)


def _said(item: "ImagePrediction") -> str:
    return item.answer if item.rejected else " + ".join(item.class_names) or item.answer


def _probs(item: "ImagePrediction", top: int) -> list[str]:
    return [f"{name} {sureness(prob, 1)}" for name, prob in item.top(top)]


def _ranked(item: "ImagePrediction", top: int) -> list[str]:
    first, *others = _probs(item, top)
    return [f"{item.answer} ({first})" if item.rejected else first, *others]
