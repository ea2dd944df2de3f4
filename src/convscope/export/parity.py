"""Check of an exported model against the trained one, on real images, before it is kept."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from convscope.classifier.classify import Classifier
from convscope.classifier.decisions import decided
from convscope.engines.choice import median_ms
from convscope.errors import FailureError
from convscope.evaluation.multi_label import name_of_score, score_of_answers
from convscope.images.decode import decode_image
from convscope.progress import Progress
from convscope.types import FloatArray, Split, UInt8Array, evenly_spread

LARGEST_DIFFERENCE = 1e-4
"""Allowed difference of a probability in float32, for the same pixels."""

LEAST_FILE_AGREEMENT = 0.995
"""Least share of files for which both give the same class. An engine whose arithmetic is coarser
than the graph asks for may give a resized pixel another grey level, so that a file between two
classes changes sides. One file may always do so, however few there are."""

MOST_ACCURACY_LOST = 0.005
"""Allowed loss of accuracy of an int8 model, a fraction."""

MOST_DECISIONS_CHANGED = 0.1
"""Classes of an image, on average, for which an int8 model may decide otherwise than the float32
one, where an image may have any number of them."""

LATENCY_BATCHES = (1, 64)

MOST_IMAGES = 2_000
"""Validation images that are compared, at most, evenly spread."""

_MOST_FILES = 200
_BATCH = 64
_SECONDS = 1.0


@dataclass(frozen=True)
class Parity:
    """An exported model beside the trained one.

    Attributes:
        n_images: Number of validation images that both classified, as arrays of pixels.
        largest_difference: Largest difference of a probability.
        agreement: Share of images with the same class; where an image may have any number of
            classes, of decisions that are the same.
        accuracy: Accuracy of the trained and of the exported model, fractions; or mAP.
        n_files: Number of image files that the graph resized itself.
        file_agreement: Share of files with the same class, or of decisions.
        latency_ms: Median time for a batch of the trained and of the exported model, by size of the
            batch; none if they were not timed.
        size_mb: Size of the exported file or folder, in megabytes of 1,000,000 bytes.
        measure: What `accuracy` is: "accuracy" or "mAP".
        float32_mb: Size of the same file in float32, in megabytes; 0 if `size_mb` is that.
    """

    n_images: int
    largest_difference: float
    agreement: float
    accuracy: tuple[float, float]
    n_files: int
    file_agreement: float
    latency_ms: dict[int, tuple[float, float]]
    size_mb: float
    measure: str = "accuracy"
    float32_mb: float = 0.0

    def speedup(self, batch: int) -> float:
        """Return how many times as fast as the trained model it classifies a batch."""
        trained, exported = self.latency_ms[batch]
        return trained / exported


def compare_models(
    trained: Classifier,
    exported: Classifier,
    part: Split,
    sources: Sequence[Path | bytes],
    *,
    size_mb: float,
    progress: Progress,
    said: FloatArray | None = None,
    timed: bool = True,
) -> Parity:
    """Return how an exported model compares with the trained one.

    Args:
        trained: Classifier of the run.
        exported: Classifier of the exported file.
        part: Validation images; at most 2,000 of them are used, evenly spread.
        sources: Image files, or their bytes, of any size.
        size_mb: Size of the exported file.
        progress: Called with each batch.
        said: Probabilities by the exported model for those images, if it was asked before.
        timed: Whether both are timed, which takes some seconds.
    """
    rows = evenly_spread(len(part), MOST_IMAGES)
    answers: list[tuple[FloatArray, FloatArray]] = []
    with progress.task("Comparing on validation images", len(rows), "images") as step:
        for start in range(0, len(rows), _BATCH):
            batch = part.images[rows[start : start + _BATCH]]
            own = exported.predict_on_batch(batch) if said is None else said[start : start + _BATCH]
            answers.append((trained.predict_on_batch(batch), own))
            step(len(batch))
    before, after = (np.concatenate(each) for each in zip(*answers, strict=True))
    labels = part.labels[rows]
    several = trained.spec.multi_label

    def agreement(one: FloatArray, other: FloatArray) -> float:
        if several:
            least, own = trained.spec.thresholds, exported.spec.thresholds
            return float(np.mean(decided(one, least) == decided(other, own)))
        return float(np.mean(one.argmax(1) == other.argmax(1)))

    same = [
        agreement(trained.predict_on_batch(shrunk), exported.predict_on_batch(whole))
        for shrunk, whole in _both_sizes(trained, exported, sources)
    ]
    batches = LATENCY_BATCHES if timed else ()
    images = np.resize(part.images[rows[:_BATCH]], (max(LATENCY_BATCHES), *part.images.shape[1:]))
    return Parity(
        n_images=len(rows),
        largest_difference=float(np.abs(before - after).max()),
        agreement=agreement(before, after),
        accuracy=(score_of_answers(before, labels), score_of_answers(after, labels)),
        n_files=len(same),
        file_agreement=float(np.mean(same)),
        latency_ms={n: _latencies(trained, exported, images[:n]) for n in batches},
        size_mb=size_mb,
        measure=name_of_score(multi_label=several),
    )


def require_parity(parity: Parity) -> None:
    """Raise unless an exported float32 model gives the answers of the trained one.

    Raises:
        FailureError: If it does not.
    """
    if not parity.largest_difference <= LARGEST_DIFFERENCE:
        raise FailureError(
            "the exported model does not give the answers of the trained one: on "
            f"{parity.n_images} validation images a probability differs by "
            f"{parity.largest_difference:.2g}, and {LARGEST_DIFFERENCE:g} is allowed; "
            "nothing was written"
        )
    allowed = max(1, round((1 - LEAST_FILE_AGREEMENT) * parity.n_files))
    if round((1 - parity.file_agreement) * parity.n_files) > allowed:
        raise FailureError(
            "the exported model does not resize images as the trained one sees them: only "
            f"{parity.file_agreement:.1%} of {parity.n_files} files get the same answer; "
            "nothing was written"
        )


def files_of(part: Split, folder: Path | None) -> list[Path | bytes]:
    """Return image files of a part, at most 200, whose size is mostly not that of the model.

    Args:
        part: Validation images.
        folder: Folder of their files; None if there is none: then they are enlarged pictures of the
            images, as bytes of PNG files.
    """
    rows = evenly_spread(len(part), _MOST_FILES)
    if folder is not None:
        files = [folder / str(part.ids[row]) for row in rows]
        found: list[Path | bytes] = [file for file in files if file.is_file()]
        if found:
            return found
    return [_enlarged(part.images[row]) for row in rows]


def _enlarged(image: UInt8Array) -> bytes:
    picture = Image.fromarray(image.squeeze())
    # By no whole number, and not alike in both directions.
    size = (picture.width * 3 // 2 + 1, picture.height * 7 // 4 + 2)
    file = io.BytesIO()
    picture.resize(size, Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()


def _both_sizes(
    trained: Classifier, exported: Classifier, sources: Sequence[Path | bytes]
) -> Iterator[tuple[UInt8Array, UInt8Array]]:
    """Yield each file as either of the two gets it, as batches of one."""
    spec = trained.spec
    for source in sources:
        decoded = trained.decode(source)[np.newaxis]
        if "resizing" in exported.spec.in_graph:
            own = decode_image(source, channels=spec.channels, white=spec.white)
            yield decoded, own[np.newaxis]
        else:
            yield decoded, decoded


def _latencies(
    trained: Classifier, exported: Classifier, images: UInt8Array
) -> tuple[float, float]:
    """Return the median times of both for a batch, in milliseconds."""
    models = {"trained": trained, "exported": exported}
    calls = {name: partial(each.predict_on_batch, images) for name, each in models.items()}
    found = median_ms(calls, _SECONDS)
    return found["trained"], found["exported"]
