"""The training images that a run's network sees as most similar to an image."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convscope.datasets.division.splits import verify_split
from convscope.evaluation.embedding import Embedder
from convscope.progress import Progress
from convscope.types import (
    PART_NAMES,
    Dataset,
    FloatArray,
    ImagePrediction,
    IntArray,
    Neighbour,
    Split,
    UInt8Array,
    names_of,
)

_ROWS = 4096
"""Images whose features are in memory at a time."""


@dataclass(frozen=True)
class Similar:
    """An image, and the training images most similar to it.

    Attributes:
        prediction: Prediction for the image.
        neighbours: Training images, the most similar first.
        picture: Picture of all of them.
    """

    prediction: ImagePrediction
    neighbours: tuple[Neighbour, ...]
    picture: Path


class Neighbourhood:
    """The images that a run's weights were trained on, to be searched by their features.

    Args:
        embedder: Network of the run; its weights "refit" learnt the validation images too.
        dataset: Dataset of the run.
        progress: Called with features that are not in the cache.

    Raises:
        DataError: If the images are not those of the run.
    """

    def __init__(self, embedder: Embedder, dataset: Dataset, progress: Progress) -> None:
        parts = dataset.parts_to_learn(refit=embedder.weights == "refit")
        named = dict(zip(("train", "val"), parts, strict=False))
        for name in named:
            verify_split(dataset, embedder.run.split_file, name)
        self._embedder = embedder
        self._names = dataset.class_names
        self._features = [
            embedder.features_of(part, f"Features of {PART_NAMES[name]} images", progress)
            for name, part in named.items()
        ]
        self._learnt = Split.joined(parts)

    def nearest(self, images: UInt8Array, k: int) -> list[tuple[tuple[Neighbour, ...], UInt8Array]]:
        """Return for each image the `k` most similar training images, the most similar first.

        Args:
            images: Raw pixels, shape (n_images, height, width, channels), few.
            k: Number of neighbours, at least 1; fewer if there are fewer training images.

        Returns:
            The neighbours of each image, and their pixels, shape (k, height, width, channels).
        """
        size = self._embedder.batch_size
        queries = np.concatenate(
            [
                self._embedder.features(images[start : start + size])
                for start in range(0, len(images), size)
            ]
        )
        places, cosines = most_similar(queries, self._features, k)
        found = []
        for rows, values in zip(places, cosines, strict=True):
            split = self._learnt.take(rows)
            near = tuple(
                Neighbour(str(image_id), names_of(label, self._names), float(value))
                for image_id, label, value in zip(split.ids, split.labels, values, strict=True)
            )
            found.append((near, np.asarray(split.images)))
        return found


def most_similar(
    queries: FloatArray, features: Sequence[FloatArray], k: int
) -> tuple[IntArray, FloatArray]:
    """Return the rows of features with the largest cosines to each query, the largest first.

    Args:
        queries: Shape (n_queries, n_features).
        features: Arrays of shape (n, n_features), one after another; may be memory-mapped and
            larger than memory. A row of zeros has the cosine 0 to everything.
        k: Number of rows; all of them if there are fewer.

    Returns:
        Indices and cosines, both of shape (n_queries, k).
    """
    wanted = _unit(queries)
    cosines = np.concatenate(
        [
            wanted @ _unit(part[start : start + _ROWS]).T
            for part in features
            for start in range(0, len(part), _ROWS)
        ],
        axis=1,
    )
    places = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return places, np.take_along_axis(cosines, places, axis=1)


def _unit(features: FloatArray) -> FloatArray:
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.maximum(lengths, np.finfo(np.float32).tiny), np.float32)
