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


_MOST_AT_FIRST = 3
"""Images that are lost one after the other, before any was answered, until it is no longer their
fault: no worker can live."""


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
        FailureError: If all images of a chunk, or the first few of all, were lost with their
            workers.
    """
    n_at_first: int | None = 0  # lost before any was answered
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
                    n_at_first = None
                except LostError as error:
                    found, n_at_first = _one_by_one(chunk, pool, spec, str(error), n_at_first)
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
    chunk: Chunk, pool: Pool, spec: ClassifierSpec, how_often: str, n_at_first: int | None
) -> tuple[list[ImagePrediction | UnreadableImage], int | None]:
    """Return the results of a chunk that workers do not survive: the image at fault is unreadable.

    Args:
        chunk: Images.
        pool: Workers.
        spec: Spec of the model.
        how_often: How often the chunk was lost, in words.
        n_at_first: Number of images before it, if all were lost; None if one was answered.

    Returns:
        The results, and `n_at_first` for the next chunk.

    Raises:
        FailureError: If no image of it, or none of the first few, can be classified, so that
            something else is at fault.
    """
    results: list[ImagePrediction | UnreadableImage] = []
    n_lost = 0
    for image in chunk:
        try:
            results += _results([image], pool.receive(pool.send([image])), spec)
            n_at_first = None
        except LostError:
            n_lost += 1
            if n_at_first is not None:
                n_at_first += 1
                if n_at_first == _MOST_AT_FIRST:
                    which = f"each of the first {n_at_first} images"
                    raise _no_survivor(how_often, which, at_first=True) from None
            path = _path_of(image)
            reason = f"{path} cannot be read: {how_often}, each time with this image"
            results.append(UnreadableImage(path, reason))
    if n_lost == len(chunk) > 1:
        which = f"{_path_of(chunk[0])} and each of the {n_lost - 1} images after it"
        raise _no_survivor(how_often, which, at_first=n_at_first is not None)
    return results, n_at_first


def _no_survivor(how_often: str, which: str, *, at_first: bool) -> FailureError:
    """Return the error of images that cannot all be at fault.

    Args:
        how_often: How often they were lost, in words.
        which: The images, in words.
        at_first: Whether no other one was answered before.
    """
    script = ', or a script whose work is not below `if __name__ == "__main__":`'
    return FailureError(
        f"{how_often}, with {which} (out of memory{script if at_first else ''}?); choose fewer "
        "--workers, or more --memory for each on a cluster, and repeat the command"
    )


def _path_of(image: Path | PackedImage) -> Path:
    return image.path if isinstance(image, PackedImage) else image
