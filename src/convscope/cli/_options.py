"""Options shared by several commands, so that the same word means the same everywhere."""

from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from convscope.errors import ConfigError
from convscope.paths import user_path

if TYPE_CHECKING:
    from convscope.studies.executor import Executor

DATA_HELP = (
    "Dataset (see 'convscope datasets'), folder of images, archive of one (.zip, .tar ...), "
    "list of images and labels (.csv ...), or place of shards ('convscope data shards')."
)

ENGINE_HELP = (
    "Engine of an exported file: onnxruntime (default), openvino, or auto: the fastest here, "
    "measured once."
)

RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="Run folder, its name below runs/, or its address.")
]
# Paths stay text until `paths.user_path` reads them: an empty one would become the current folder.
DataWord = Annotated[
    str | None,
    typer.Argument(metavar="[DATA]", help=f"{DATA_HELP} The same as --data.", show_default=False),
]
Data = Annotated[str | None, typer.Option("--data", help=DATA_HELP)]
Images = Annotated[
    list[str], typer.Argument(metavar="IMAGE...", help="Image files, folders, glob patterns.")
]
Labels = Annotated[
    str | None,
    typer.Option(
        "--labels",
        metavar="TABLE",
        help="Table of labels in place of class folders: a CSV, TSV, JSON lines or Parquet file "
        "with columns for file, label and, optionally, split. With named columns: "
        "labels.csv:file=COLUMN,label=COLUMN,split=COLUMN. With group=COLUMN the images of a "
        "group, such as those of one patient, go to one part. An image may have any number of "
        "classes: a list, 'cat|dog', or a column of 0 and 1 for each (classes=COLUMN+COLUMN); "
        "separator=comma and multi_label=yes where the table does not show it.",
    ),
]
DataDir = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        help="Folder in which to look for dataset files before downloading. Also: $CONVSCOPE_DATA.",
    ),
]
MovedData = Annotated[
    str | None,
    typer.Option(
        "--data", metavar="PATH", help="Current place of the run's folder of images, if it moved."
    ),
]
MovedLabels = Annotated[
    str | None,
    typer.Option(
        "--labels", metavar="TABLE", help="Current place of the run's table of labels, if it moved."
    ),
]
SavedWeights = Annotated[
    str | None,
    typer.Option(
        help="Weights: 'best' (on validation images), 'last', or 'refit' (on training and "
        "validation images). Default: the recipe's."
    ),
]
Split = Annotated[
    Literal["val", "test"],
    typer.Option(help="Part of the data; test images are logged as opened."),
]
MaxImages = Annotated[int, typer.Option("-n", min=1, help="Maximum number of images.")]
BatchSize = Annotated[
    int | None,
    typer.Option(
        min=1, help="Images per batch.", show_default="by the input: 512 at 32 px, 32 at 224 px"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="JSON output, for programs.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 picks a free one.")]

# Options that change a recipe. The recipe checks the numbers, wherever they come from.
RecipeName = Annotated[
    str | None,
    typer.Option(
        help="Recipe, see 'convscope recipes'. Default: tutorial; for a pretrained backbone: "
        "logistic on a folder of images, probe otherwise and with --epochs. For a folder with no "
        "model named, 'train' searches for the best (auto)."
    ),
]
Epochs = Annotated[
    int | None, typer.Option(help="Passes over the training images. Default: the recipe's.")
]
ImageSize = Annotated[
    int | None,
    typer.Option(
        help="Side in pixels of the network's input. Default: the recipe's, or else the data's."
    ),
]
Fit = Annotated[
    str | None,
    typer.Option(
        metavar="squash|crop|pad",
        help="Treatment of an image of another aspect ratio: squash, crop to the centre, or pad "
        "with grey. Default: squash.",
    ),
]
BackboneWeights = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        help="Weights of a backbone: a file, its folder, or 'random'. Default: ImageNet's, from "
        "$CONVSCOPE_WEIGHTS, Keras' cache or the network.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any other setting, such as augment.crop=0.1; 'convscope recipes show NAME' "
        "lists and explains them.",
    ),
]

Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Train on a Ray cluster, several runs at once: HOST:PORT, or 'auto' for the one that "
        "runs here. Extra: ray.",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="CPU cores per run, where a command trains several. Default: all of this machine.",
    ),
]
Gpus = Annotated[
    float | None, typer.Option(min=0, help="GPUs of each run, with --ray; a fraction shares one.")
]
Memory = Annotated[
    float | None,
    typer.Option(metavar="GB", help="Memory to reserve for each run, with --ray."),
]


def executor_of(
    ray: str | None, threads: int | None, gpus: float | None, memory: float | None
) -> "Executor | None":
    """Return the executor that the options ask for; None for a study's own.

    Raises:
        ConfigError: If options do not go together, or the cluster cannot be used.
        MissingExtraError: If Ray is not installed.
    """
    if ray is not None:
        from convscope.studies.on_ray import on_ray

        return on_ray(ray, threads=threads, gpus=gpus or 0, memory_gb=memory)
    if gpus is not None or memory is not None:
        raise ConfigError("--gpus and --memory reserve shares of a cluster; give --ray too")
    if threads is None:
        return None
    from convscope.studies.executor import LocalExecutor

    return LocalExecutor(threads)


_PICTURES = (".png", ".svg", ".pdf")


def picture_option(help_text: str) -> Any:
    """Return the option for the path of a picture; its ending decides the format."""
    return typer.Option(metavar="PATH", callback=_picture_path, help=help_text)


def one_data(word: str | None, option: str | None) -> str | None:
    """Return the data that a command is given, as a word or with --data.

    Raises:
        ConfigError: If both are given and differ.
    """
    if word is not None and option is not None and word != option:
        raise ConfigError(f"the data is given twice: {word} and --data {option}; give it once")
    return word if option is None else option


def read_settings(given: list[str] | None) -> dict[str, Any]:
    """Return the values of `--set` by dotted name; the last of equal names counts.

    Raises:
        ConfigError: If one is not KEY=VALUE.
    """
    from convscope.recipe import parse_setting

    return dict(parse_setting(text) for text in given or [])


def read_alternatives(given: list[str] | None) -> dict[str, list[Any]]:
    """Return the values of `--vary` by dotted name; the last of equal names counts.

    Raises:
        ConfigError: If one is not KEY=A,B or has a single value.
    """
    from convscope.recipe import parse_alternatives

    return dict(parse_alternatives(text) for text in given or [])


def read_names(text: str) -> list[str]:
    """Return words separated by commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def read_numbers(text: str, option: str, what: str) -> list[int]:
    """Return whole numbers separated by commas.

    Args:
        text: Value of the option.
        option: Name of the option.
        what: Description of valid values, for the error.

    Raises:
        typer.BadParameter: If one is not a whole number.
    """
    try:
        return [int(part) for part in read_names(text)]
    except ValueError:
        raise typer.BadParameter(f"'{text}' must be {what}", param_hint=option) from None


def _picture_path(path: str | None) -> str | None:
    if path is not None:
        user_path(path, "--out")
    if path is not None and PurePath(path).suffix.lower() not in _PICTURES:
        raise typer.BadParameter(f"{path} must end in {' or '.join(_PICTURES)}")
    return path
