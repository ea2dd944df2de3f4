"""Features of image files by a run's network."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from convscope.datasets.source import require_apart
from convscope.paths import path_or_none
from convscope.planning.plan import run_config
from convscope.progress import Progress, console_progress
from convscope.run import Run
from convscope.storage import require_other

if TYPE_CHECKING:
    from convscope.evaluation.embedding import Embedding


def embed(
    run: Run | Path | str,
    images: Path | str | Iterable[Path | str],
    *,
    weights: str | None = None,
    out: Path | str | None = None,
    progress: Progress | None = None,
) -> "Embedding":
    """Write the features that a run's head gets for image files, and its answers, to a table.

    Args:
        run: Run or its folder.
        images: Files, folders (searched for images) and glob patterns.
        weights: "best", "last" or "refit"; None takes the recipe's choice.
        out: Parquet file; None takes `embedding.parquet` in the run's folder.
        progress: Called with each batch; None draws on standard error.

    Raises:
        RunError: If there is no such run or no such weights.
        DataError: If a path does not exist, or nothing matches.
        StorageError: If the file cannot be written.
    """
    from convscope.evaluation.embedding import Embedder, write_embedding
    from convscope.images.find import find_images

    run, place = Run.open(run), path_or_none(out, "--out")
    files = find_images(images)
    config = run_config(run)
    place = require_apart(place or run.embedding_file, config.data_path, config.labels)
    Run.require_spare(require_other(place, files), run.embedding_file)
    embedder = Embedder(run, weights)
    return write_embedding(embedder, files, place, progress=progress or console_progress())
