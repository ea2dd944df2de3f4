"""One of many workers that classify images: a process that keeps its engine warm."""

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convscope.classifier.classify import Classifier
from convscope.classifier.exported import classifier_in
from convscope.datasets.folders.parallel import map_ordered
from convscope.errors import ImageError
from convscope.types import BoolArray, FloatArray, PackedImage, UInt8Array


@dataclass(frozen=True)
class Order:
    """How to classify, the same for all images.

    Attributes:
        sha256: Checksum of the exported file.
        engine: Name of the engine.
        threads: Processor cores of a worker.
        reject: Whether images that look like no class are rejected.
    """

    sha256: str
    engine: str
    threads: int = 1
    reject: bool = False


@dataclass(frozen=True)
class Answered:
    """Answers for some images.

    Attributes:
        probs: Probabilities of the images that could be read, in order, shape (n_read, n_classes).
        rejected: Which of them look like no class, shape (n_read,).
        unreadable: Reason of each other one, by its index.
        unseen: Indices of those that are not there at all, on the node of the worker.
        node: Name of that node.
    """

    probs: FloatArray
    rejected: BoolArray
    unreadable: dict[int, str]
    unseen: tuple[int, ...]
    node: str


_warm: dict[Order, Classifier] = {}
"""The classifier of this process, if it has one."""


def answers(
    order: Order, content: Callable[[], bytes], images: Sequence[Path | PackedImage]
) -> Answered:
    """Return the answers for some images, which are one batch of the engine.

    Args:
        order: How to classify.
        content: Function that returns the bytes of the exported file, called once in a process.
        images: Paths of image files, or image files in archives with their content.

    Raises:
        RunError: If images are to be rejected, and the model has no threshold.
    """
    if order not in _warm:
        _warm.clear()
        _warm[order] = classifier_in(content(), engine=order.engine, threads=order.threads)
    classifier = _warm[order]

    def read(image: Path | PackedImage) -> UInt8Array | str:
        try:
            return classifier.decode(image)
        except ImageError as error:
            return str(error)

    pixels: list[UInt8Array] = []
    unreadable: dict[int, str] = {}
    # A single thread does better alone than with a second one, which waits for Python's lock.
    for index, found in enumerate(map_ordered(read, images, order.threads)):
        if isinstance(found, str):
            unreadable[index] = found
        else:
            pixels.append(found)
    probs = np.empty((0, len(classifier.spec.class_names)), np.float32)
    rejected = np.zeros(len(pixels), np.bool_)
    if pixels and order.reject:
        probs, rejected = classifier.predict_and_reject(np.stack(pixels))
    elif pixels:
        probs = classifier.predict_on_batch(np.stack(pixels))
    unseen = (index for index in unreadable if _is_missing(images[index]))
    return Answered(probs, rejected, unreadable, tuple(unseen), platform.node())


def _is_missing(image: Path | PackedImage) -> bool:
    return isinstance(image, Path) and not os.path.lexists(image)
