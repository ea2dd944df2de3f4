"""Classifying image files with a run."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from convscope.progress import Progress, console_progress
from convscope.run import Run
from convscope.types import ImagePrediction, UnreadableImage


def predict(
    run: Run | Path | str,
    images: Iterable[Path | str],
    *,
    weights: str | None = None,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> Iterator[ImagePrediction | UnreadableImage]:
    """Classify image files, in batches, as they are read.

    Probabilities are at the temperature that `evaluate` fitted on validation images, so that they
    mean what they say; the answers do not depend on it.

    Args:
        run: The run or its folder.
        images: Files, folders (searched for images) and glob patterns.
        weights: "best" or "last"; None is what the recipe says.
        batch_size: Images at a time.
        progress: Told of each batch; None draws on standard error.

    Returns:
        An iterator that gives, for each file in order, its prediction or why it could not be read.

    Raises:
        RunError: If there is no such run or no such weights.
        DataError: If a path does not exist, or nothing matches.
    """
    from convscope.classifier.keras_model import open_classifier
    from convscope.images.find import find_images

    progress = progress or console_progress()
    run = Run.open(run)
    files = find_images(images)
    classifier = open_classifier(run, weights)
    return classifier.predict_files(files, batch_size=batch_size, progress=progress)
