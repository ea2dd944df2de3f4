"""Classification of image files with a run or an exported model."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from convscope.classifier import classify
from convscope.classifier.exported import Classifier, is_exported
from convscope.errors import ConfigError
from convscope.images.find import find_images
from convscope.progress import Progress, console_progress
from convscope.types import ImagePrediction, UnreadableImage

if TYPE_CHECKING:
    from convscope.run import Run


def predict(
    run: "Run | Path | str",
    images: Iterable[Path | str],
    *,
    weights: str | None = None,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> Iterator[ImagePrediction | UnreadableImage]:
    """Classify image files, in batches, as they are read.

    Probabilities are at the temperature that `evaluate` fitted on validation images, so that they
    are calibrated; the answers do not depend on it.

    Args:
        run: Run, its folder, or an exported ONNX file, for which no framework is needed.
        images: Files, folders (searched for images) and glob patterns.
        weights: "best", "last" or "refit"; None takes the recipe's choice.
        batch_size: Images per batch.
        progress: Called with each batch; None draws on standard error.

    Returns:
        An iterator over the files in order, with a prediction or the reason of a failure for each.

    Raises:
        RunError: If there is no such run or no such weights.
        DataError: If a path does not exist, or nothing matches.
    """
    progress = progress or console_progress()
    if isinstance(run, Path | str) and is_exported(run):
        if weights is not None:
            raise ConfigError(f"{run} holds one set of weights; leave out --weights")
        classifier: classify.Classifier = Classifier(run)
        files = find_images(images)
    else:
        from convscope.classifier.keras_model import open_classifier
        from convscope.run import Run

        opened = Run.open(run)
        files = find_images(images)
        classifier = open_classifier(opened, weights)
    return classifier.predict_files(files, batch_size=batch_size, progress=progress)
