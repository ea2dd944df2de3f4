"""The images behind a number."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from convscope.datasets.division.splits import verify_split
from convscope.datasets.source import moved, require_apart
from convscope.errors import ConfigError, RunError
from convscope.evaluation.opening import open_test, require_judged
from convscope.evaluation.telling import Kind, Seen, most_telling, seen_at
from convscope.paths import path_or_none
from convscope.planning.data import load_of_run
from convscope.planning.plan import run_config
from convscope.progress import Progress, console_progress
from convscope.run import Run
from convscope.types import PART_NAMES, UInt8Array
from convscope.wording import command_line, composed


def gallery(
    run: Run | Path | str,
    of: Kind = "losses",
    *,
    split: Literal["val", "test"] = "val",
    true: str | None = None,
    predicted: str | None = None,
    n: int = 20,
    similar: int = 0,
    out: Path | str | None = None,
    data: Path | str | None = None,
    labels: Path | str | None = None,
    data_dir: Path | str | None = None,
    progress: Progress | None = None,
) -> list[Seen]:
    """Draw the images that are most telling about a run, from its saved predictions.

    Args:
        run: Evaluated run or its folder.
        of: "losses" for the hardest images; "suspects" for those whose label is probably wrong;
            "right" for the most confident correct ones.
        split: "val" or "test"; a look at test images is logged.
        true: Class of the label, to select images.
        predicted: Predicted class, to select images.
        n: Largest number of images.
        similar: Number of training images, the most similar ones, beside each image.
        out: Picture file; None takes `gallery.png` in the run's folder.
        data: Current place of the run's folder of images, if it moved.
        labels: Current place of the table of their labels, if that moved.
        data_dir: Further folder to look for the files of a built-in dataset.
        progress: Called with all events; None draws on standard error.

    Returns:
        The drawn images, in order.

    Raises:
        RunError: If the run has not been evaluated on that split, its saved model is missing, or no
            image matches.
        UnknownNameError: If there is no such class.
        ConfigError: If there is no such part.
        DataError: If the images are not those of the run.
    """
    from convscope.report.figures import samples_figure, save_figure

    progress = progress or console_progress()
    run = Run.open(run)
    seen, images = chosen_images(
        run,
        of,
        split=split,
        true=true,
        predicted=predicted,
        n=n,
        similar=similar,
        data=data,
        labels=labels,
        data_dir=data_dir,
        progress=progress,
    )
    place = gallery_place(run, out)
    now = moved(run_config(run), data, labels)
    require_apart(place, now.data_path, now.labels)
    Run.require_spare(place, run.gallery_picture)
    captions = [text for each in seen for text in each.captions]
    columns = len(captions) // len(seen) if similar else 5
    title = f"{run.name}: {_shown(of, split, several=seen[0].multi_label)}"
    if similar:
        title += "; beside each the most similar training images"
    save_figure(samples_figure(images, captions, columns=columns), place, title=title)
    return seen


def gallery_place(run: Run, out: Path | str | None) -> Path:
    """Return the file of the picture: `out`, or if that is None the one in the run's folder."""
    return path_or_none(out, "--out") or run.gallery_picture


def _shown(of: Kind, split: str, *, several: bool) -> str:
    """Return what the images are, and what is written below them."""
    part = PART_NAMES[split]
    images = {
        "losses": f"the hardest {part} images",
        "suspects": f"{part} images whose label is probably wrong",
        "right": f"the most confident correct answers to {part} images",
    }[of]
    if several:
        return f"{images} (captions: the classes, then an answer that differs)"
    captions = "label and probability"
    if of != "right":
        captions = "label?, then the answer and its probability"
    return f"{images} (captions: {captions})"


def chosen_images(
    run: Run,
    of: Kind = "losses",
    *,
    split: Literal["val", "test"],
    true: str | None = None,
    predicted: str | None = None,
    n: int,
    similar: int = 0,
    data: Path | str | None = None,
    labels: Path | str | None = None,
    data_dir: Path | str | None,
    by: str = "gallery",
    progress: Progress,
) -> tuple[list[Seen], UInt8Array]:
    """Return the images that `gallery` draws, with the predictions for them.

    A look at test images is logged under the name of the command `by`. Each image is followed by
    those that are similar to it.
    """
    from convscope.classifier.keras_model import spec_of
    from convscope.evaluation.calibration import with_temperature
    from convscope.evaluation.predictions import read_predictions

    require_judged(split)
    names = run.class_names
    true, predicted = (name and run.class_called(name) for name in (true, predicted))
    if n < 1:
        raise ConfigError(f"n must be at least 1, not {n}")
    if similar < 0:
        raise ConfigError(f"similar must be at least 0, not {similar}")
    if not run.predictions_file.exists():
        raise RunError(
            f"{run.path} has not been evaluated; run: {command_line('evaluate', run.path)}"
        )
    by_split, about = read_predictions(run.predictions_file)
    said = by_split.get(split)
    if said is None:
        raise RunError(f"{run.path} has not been evaluated on {split} images")
    spec = spec_of(run, about.get("weights", "last"))
    thresholds = spec.thresholds
    as_trained, said = said, with_temperature(said, spec.temperature)
    # Suspect labels are those of `doctor`, by the probabilities as trained.
    ranked = as_trained if of == "suspects" else said
    order = most_telling(ranked, of, names, true, predicted, thresholds)[:n]
    if not order:
        raise RunError(f"no {split} image of {run.path} matches")
    seen = [seen_at(said, i, names, thresholds) for i in order]
    dataset = load_of_run(run_config(run), run.split_file, data, labels, data_dir, progress)
    verify_split(dataset, run.split_file, split)
    part = dataset.validation
    if split == "test":
        weights = about.get("weights", "last")
        part = open_test(dataset, run, by=by, weights=weights, shown=True, progress=progress)
    place = {composed(str(image_id)): index for index, image_id in enumerate(part.ids)}
    images = np.stack([part.images[place[composed(each.image_id)]] for each in seen])
    if similar:
        from convscope.classifier.keras_model import weights_for
        from convscope.evaluation.embedding import Embedder
        from convscope.evaluation.neighbours import Neighbourhood

        embedder = Embedder(run, weights_for(run, about.get("weights", "last"), split))
        found = Neighbourhood(embedder, dataset, progress).nearest(images, similar)
        seen = [replace(each, similar=near) for each, (near, _) in zip(seen, found, strict=True)]
        rows = zip(images, found, strict=True)
        images = np.concatenate([part for image, (_, near) in rows for part in (image[None], near)])
    return seen, images
