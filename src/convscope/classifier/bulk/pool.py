"""Prediction of very many images by many workers: chunks go out, answers come back in order.

Of the images only a window is on its way, so memory stays constant, and whoever takes the answers
slowly slows the workers down. Each image has one answer whatever happens to the workers: it is
given where the chunk comes back, and a chunk that was lost with its worker is sent again.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from convscope.classifier.bulk.worker import Answered
from convscope.classifier.classify import answer_of
from convscope.classifier.spec import ClassifierSpec
from convscope.errors import DataError, FailureError
from convscope.progress import Progress
from convscope.types import ImagePrediction, PackedImage, UnreadableImage

Chunk = list[Path | PackedImage]

_MOST_BYTES = 2**22
"""Content of images of archives from which a chunk is full, in bytes; large photos make small
chunks."""


class LostError(Exception):
    """A chunk was lost with each worker that had it; the message says how often, in words."""


class Pool(Protocol):
    """Workers that classify chunks of images: processes here, or tasks on a cluster."""

    def window(self) -> int:
        """Return how many chunks may be on their way, so that no worker is idle."""

    def send(self, images: Sequence[Path | PackedImage], /) -> Any:
        """Give a chunk to the workers, and return what `receive` takes."""

    def receive(self, sent: Any, /) -> Answered:
        """Wait for the answers of a chunk; one that is lost with its worker is tried again.

        Raises:
            LostError: If it was lost each time.
            ConvscopeError: If no worker can do it.
        """

    def close(self, sent: Sequence[Any], /) -> None:
        """Let the workers end, and whatever is on its way be dropped."""


def predict_in_pool(
    files: Iterable[Path | PackedImage],
    total: int | None,
    *,
    pool: Pool,
    spec: ClassifierSpec,
    batch_size: int,
    progress: Progress,
) -> Iterator[ImagePrediction | UnreadableImage]:
    """Classify image files on the workers of a pool.

    Args:
        files: Paths of the images, or image files in archives.
        total: Number of images; None if it is not known.
        pool: Workers; closed at the end.
        spec: Spec of the model.
        batch_size: Images per chunk; fewer if they are large files of an archive.
        progress: Called with each image.

    Yields:
        Prediction for each file in order, or the reason why it could not be read.

    Raises:
        DataError: If a node of the workers does not see a file that is here.
        FailureError: If all images of a chunk were lost with their workers.
    """
    chunks = _chunks(files, batch_size)
    waiting: deque[tuple[Chunk, Any]] = deque()
    try:
        with progress.task("Predicting", total, "images") as step:
            while True:
                for chunk in islice(chunks, max(0, pool.window() - len(waiting))):
                    waiting.append((chunk, pool.send(chunk)))
                if not waiting:
                    return
                chunk, sent = waiting[0]
                try:
                    found = _results(chunk, pool.receive(sent), spec)
                except LostError as error:
                    found = _one_by_one(chunk, pool, spec, str(error))
                for result in found:
                    yield result
                    step(1)
                waiting.popleft()
    finally:
        pool.close([sent for _, sent in waiting])


def _chunks(files: Iterable[Path | PackedImage], batch_size: int) -> Iterator[Chunk]:
    chunk: Chunk = []
    n_bytes = 0
    for image in files:
        chunk.append(image)
        if isinstance(image, PackedImage):
            n_bytes += len(image.content)
        if len(chunk) == batch_size or n_bytes >= _MOST_BYTES:
            yield chunk
            chunk, n_bytes = [], 0
    if chunk:
        yield chunk


def _results(
    chunk: Chunk, answered: Answered, spec: ClassifierSpec
) -> list[ImagePrediction | UnreadableImage]:
    for index in answered.unseen:
        path = _path_of(chunk[index])
        if path.exists():
            raise DataError(
                f"node {answered.node} does not see {path}; choose a place that all nodes share "
                "under the same path, or an archive (.tar), whose images are sent to them"
            )
    rows = iter(zip(answered.probs, answered.rejected.tolist(), strict=True))
    results: list[ImagePrediction | UnreadableImage] = []
    for index, image in enumerate(chunk):
        path = _path_of(image)
        if index in answered.unreadable:
            results.append(UnreadableImage(path, answered.unreadable[index]))
        else:
            probs, rejected = next(rows)
            results.append(answer_of(spec, path, probs, rejected=rejected))
    return results


def _one_by_one(
    chunk: Chunk, pool: Pool, spec: ClassifierSpec, how_often: str
) -> list[ImagePrediction | UnreadableImage]:
    """Return the results of a chunk that workers do not survive: the image at fault is unreadable.

    Raises:
        FailureError: If no image of it can be classified, so that something else is at fault.
    """
    results: list[ImagePrediction | UnreadableImage] = []
    n_lost = 0
    for image in chunk:
        try:
            results += _results([image], pool.receive(pool.send([image])), spec)
        except LostError:
            n_lost += 1
            path = _path_of(image)
            reason = f"{path} cannot be read: {how_often}, each time with this image"
            results.append(UnreadableImage(path, reason))
    if n_lost == len(chunk) > 1:
        raise FailureError(
            f"{how_often}, with {_path_of(chunk[0])} and each of the {n_lost - 1} images after it "
            "(out of memory?); choose fewer --workers, or more --memory for each on a cluster, and "
            "repeat the command"
        )
    return results


def _path_of(image: Path | PackedImage) -> Path:
    return image.path if isinstance(image, PackedImage) else image
