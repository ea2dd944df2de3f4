"""Export of a run's model."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from convscope import backend as backends
from convscope.datasets import holds_files
from convscope.datasets.source import moved, require_apart
from convscope.errors import ConfigError, MissingExtraError
from convscope.paths import path_or_none
from convscope.planning.data import load_of_run
from convscope.planning.plan import run_config
from convscope.progress import Progress, console_progress
from convscope.run import Run

if TYPE_CHECKING:
    from convscope.export.parity import Parity


def export(
    run: Run | Path | str,
    *,
    format: str = "onnx",
    int8: bool = False,
    weights: str | None = None,
    out: Path | str | None = None,
    data: Path | str | None = None,
    labels: Path | str | None = None,
    data_dir: Path | str | None = None,
    progress: Progress | None = None,
) -> "tuple[Path, Parity]":
    """Write a run's classifier in a format for use elsewhere, if it gives the same answers there.

    The exported model takes raw pixels and gives final probabilities: resizing, views and
    temperature are inside. It is opened in its own engine and compared with the trained model on
    validation images; one that differs is not kept.

    Args:
        run: Run or its folder.
        format: Registered format ("onnx", "openvino", "litert", "savedmodel", "triton",
            "ovms", "web").
        int8: Whether to calculate in 8-bit integers (ONNX, LiteRT); kept only if that costs at most
            half a point of validation accuracy and gains enough: ONNX 1.1 times the speed on this
            machine, at a batch of 1 or of 64; LiteRT half of the size. Its thresholds are chosen
            anew on validation images.
        weights: "best", "last" or "refit"; None takes the recipe's choice.
        out: File to write, with the format's ending (".onnx", ".tflite"), or folder; None takes a
            name in the run's folder `export/`, with the weights in it if they are not the
            recipe's choice.
        data: Current place of the folder of images, if it moved.
        labels: Current place of the table of their labels, if that moved.
        data_dir: Further folder to look for the files of a built-in dataset.
        progress: Called with the comparison; None draws on standard error.

    Returns:
        Path of the exported model, and its comparison with the trained one.

    Raises:
        RunError: If there is no such run or no such weights, or `out` belongs to a run or is a
            folder that exists already.
        UnknownNameError: If there is no such format.
        ConfigError: If `out` does not have the ending of the format's files.
        MissingExtraError: If a package is missing; TensorFlow is needed for every format, on
            whichever backend the run was trained.
        DataError: If the validation images are missing or not those of the run, or `out` is in the
            folder of images.
        FailureError: If the network cannot be converted, or answers differently.
    """
    from convscope.classifier.keras_model import (
        open_classifier,
        unevaluated_note,
        weights_for,
        which_weights,
    )
    from convscope.datasets.division.splits import verify_split
    from convscope.export import FORMATS
    from convscope.export.writing import require_new, spec_beside, write_float32, write_int8

    progress = progress or console_progress()
    run = Run.open(run)
    form = FORMATS.get(format)()
    if int8 and form.int8 is None:
        able = [entry.name for entry in FORMATS.entries() if entry.value().int8 is not None]
        raise ConfigError(f"--int8 is for the formats {' and '.join(sorted(able))}, not {format}")
    for package, extra in (*form.packages, ("tensorflow", "train")):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, extra)
    which = which_weights(run, weights)
    # Others than the recipe's have a name of their own: the one without is taken for the run's.
    other = "" if which == which_weights(run, None) else f"-{which}"
    name = f"{run.name}{other}{'-int8' if int8 else ''}{form.suffix}"
    path = path_or_none(out, "--out") or run.exports_dir / name
    config = run_config(run)
    now = moved(config, data, labels)
    require_apart(path, now.data_path, now.labels)
    for written in (path, spec_beside(path)):
        Run.require_spare(written)
    ending = path.suffix.lower()
    others = {entry.value().suffix: entry.name for entry in FORMATS.entries()}
    if ending != form.suffix and ending in others:
        raise ConfigError(
            f"--out {path} ends like the format {others[ending]}, and {format} is asked for"
        )
    if ending != form.suffix and not form.is_folder:
        raise ConfigError(f"--out {path} must end in {form.suffix}; {format} is one file")
    if form.is_folder:
        require_new(path)
    backends.configure("tensorflow")
    dataset = load_of_run(config, run.split_file, data, labels, data_dir, progress)
    verify_split(dataset, run.split_file, "val")
    folder = path_or_none(now.data_path, "data_path") if holds_files(now.data) else None
    classifier = open_classifier(run, weights, reject=True)
    if note := unevaluated_note(run, weights):
        progress.say(note)
    if learnt := weights_for(run, which, "val") != which:
        progress.say(
            "Note: the model has learnt the validation images that it is compared on, so their "
            "accuracy says nothing about new ones; for that: convscope evaluate"
        )
    if int8:
        if learnt:
            progress.say(
                "Note: for the same reason, thresholds of probabilities, and the shares that a "
                "server compares its answers with, stay those of the float32 model"
            )
        accepted = config.accepted
        parity = write_int8(
            classifier, form, path, dataset, folder, progress, accepted=accepted, learnt=learnt
        )
        return path, parity
    parity = write_float32(classifier, form, path, dataset, folder, progress)
    if form.note is not None:
        progress.say(form.note(path))
    return path, parity
