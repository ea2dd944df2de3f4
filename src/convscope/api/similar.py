"""The training images of a run that are most similar to an image."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from convscope.datasets.source import moved, require_apart
from convscope.errors import ConfigError
from convscope.paths import path_or_none, user_path
from convscope.planning.data import load_of_run
from convscope.planning.plan import run_config
from convscope.progress import Progress, console_progress
from convscope.run import Run
from convscope.storage import require_other
from convscope.wording import sureness

if TYPE_CHECKING:
    from convscope.evaluation.neighbours import Similar


def similar(
    run: Run | Path | str,
    image: Path | str,
    *,
    top: int = 9,
    weights: str | None = None,
    out: Path | str | None = None,
    data: Path | str | None = None,
    labels: Path | str | None = None,
    data_dir: Path | str | None = None,
    progress: Progress | None = None,
) -> "Similar":
    """Find and draw the training images that a run's network sees as most similar to an image.

    Similarity is the cosine of the angle between features, those that the head gets.

    Args:
        run: Run or its folder.
        image: Image file.
        top: Number of training images, at least 1.
        weights: "best", "last" or "refit"; None takes the recipe's choice.
        out: Picture file; None takes `similar.png` in the run's folder.
        data: Current place of the run's folder of images, if it moved.
        labels: Current place of the table of their labels, if that moved.
        data_dir: Further folder to look for the files of a built-in dataset.
        progress: Called with all events; None draws on standard error.

    Raises:
        RunError: If there is no such run or no such weights.
        ImageError: If the file cannot be read as an image.
        DataError: If the images are not those of the run.
    """
    from convscope.evaluation.embedding import Embedder
    from convscope.evaluation.neighbours import Neighbourhood, Similar
    from convscope.report.figures import samples_figure, save_figure

    progress = progress or console_progress()
    run, file = Run.open(run), user_path(image, "IMAGE")
    if top < 1:
        raise ConfigError(f"top must be at least 1, not {top}")
    config, place = run_config(run), path_or_none(out, "--out") or run.similar_picture
    now = moved(config, data, labels)
    require_apart(require_other(place, [file]), now.data_path, now.labels)
    Run.require_spare(place, run.similar_picture)
    embedder = Embedder(run, weights)
    pixels = embedder.classifier.decode(file)[None]
    said = embedder.classifier.answer(file, embedder.embed(pixels)[1][0])
    dataset = load_of_run(config, run.split_file, data, labels, data_dir, progress)
    ((near, images),) = Neighbourhood(embedder, dataset, progress).nearest(pixels, top)
    named = "\n".join(f"{name} {sureness(said.probs[name])}" for name in said.class_names)
    captions = [f"this image:\n{named or said.answer}"]
    captions += [each.caption for each in near]
    title = f"{run.name}: the training images most similar to {file.name}"
    save_figure(samples_figure(np.concatenate([pixels, images]), captions), place, title=title)
    return Similar(said, near, place)
