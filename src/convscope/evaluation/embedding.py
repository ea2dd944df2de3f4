"""Features of images by a run's network, its answers with them, and the table of both."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from convscope.classifier.classify import at_temperature, batch_size_for
from convscope.classifier.keras_model import open_classifier, which_weights
from convscope.evaluation.predictions import predict_images
from convscope.models import is_backbone
from convscope.models.features import split_at_features
from convscope.models.folding import fold_batch_norm
from convscope.progress import Progress
from convscope.recipe import read_run_config
from convscope.run import Run
from convscope.storage import atomic_path
from convscope.types import (
    PART_NAMES,
    FloatArray,
    InputSpec,
    Predictions,
    Split,
    UInt8Array,
    UnreadableImage,
)
from convscope.wording import in_utf8

if TYPE_CHECKING:
    import keras

_MANY = 200
"""Images from which preparing a faster engine pays."""

_ROWS = 1024
"""Images in a row group of the table, which are in memory at a time."""


class Embedder:
    """A run's classifier that gives the features behind its answers.

    Attributes:
        run: The run.
        weights: Name of its weights, one of `run.WEIGHTS`.
        classifier: The classifier.
        batch_size: Number of images per batch that is fast on a CPU.
        feature_shape: Shape of the features of an image, as the head gets them.

    Args:
        run: Trained run.
        weights: One of `run.WEIGHTS`; None takes the recipe's choice.
    """

    def __init__(self, run: Run, weights: str | None) -> None:
        self.run = run
        self.weights = which_weights(run, weights)
        # This chooses the run's backend, before anything imports Keras.
        self.classifier = open_classifier(run, self.weights)
        self._config = read_run_config(run.config_file)
        self._spec = InputSpec(**run.state["input"])
        network = cast("keras.Model", self.classifier.network)
        lower, self._head = split_at_features(network, backbone=is_backbone(self._config.model))
        self._lower = fold_batch_norm(lower)
        self.feature_shape: tuple[int, ...] = tuple(lower.output.shape[1:])
        self.batch_size = batch_size_for(max(self._spec.height, self._spec.width))
        self._run_lower: Callable[[UInt8Array], Any] = self._lower.predict_on_batch

    def prepare(self, n_images: int, progress: Progress) -> None:
        """Prepare for so many images: for many, by the fastest engine at hand.

        Args:
            n_images: Number of images that will be embedded.
            progress: Told if that engine cannot run the network.
        """
        from convscope.training.inference import FrozenInference

        if n_images >= _MANY:
            key = self.run.weights_sha256(self.weights)
            self._run_lower = FrozenInference(self._lower, key, self.batch_size, progress)

    def features(self, images: UInt8Array) -> FloatArray:
        """Return features of shape (batch, n_features) for pixels of (batch, ...), float32."""
        return _flat(np.asarray(self._run_lower(images), np.float32))

    def embed(self, images: UInt8Array) -> tuple[FloatArray, FloatArray]:
        """Return features and probabilities of images.

        Args:
            images: Raw pixels, shape (batch, height, width, channels), 0..255.

        Returns:
            Shapes (batch, n_features), of the images as they are, and (batch, n_classes), as the
            classifier predicts them.
        """
        features = np.asarray(self._run_lower(images), np.float32)
        spec = self.classifier.spec
        if spec.views.several:
            return _flat(features), self.classifier.predict_on_batch(images)
        probs = np.asarray(self._head.predict_on_batch(features), np.float32)
        return _flat(features), at_temperature(
            probs, spec.temperature, multi_label=spec.multi_label
        )

    def features_of(self, split: Split, label: str, progress: Progress) -> FloatArray:
        """Return features of shape (n_images, n_features), computed or from the cache.

        Args:
            split: Images.
            label: Name of the work in progress output.
            progress: Called with each batch.
        """
        return _flat(self._features_of(split, label, progress))

    def predict_split(
        self, split: Split, name: str, *, batch_size: int, progress: Progress
    ) -> Predictions:
        """Return predictions on the split called `name`, with features from the cache if possible.

        If training or another run with the same backbone has seen the same images, the backbone
        need not run again. The predictions are those of the network on the pixels, up to float32
        rounding.

        Args:
            split: Images.
            name: Name of the split: "val" or "test".
            batch_size: Features per batch.
            progress: Called with each batch.
        """
        label = f"Features of {PART_NAMES[name]} images"
        features = self._features_of(split, label, progress)
        # A head takes too little time for a progress line.
        probs = predict_images(
            self._head, features, batch_size=batch_size, progress=Progress(), label=label
        )
        return Predictions(probs, split.labels, split.ids, name, split.groups)

    def _features_of(self, split: Split, label: str, progress: Progress) -> FloatArray:
        from convscope.training.frozen import pooled_features

        found = pooled_features(self._lower, self._config, self._spec, split, label, progress)
        return found.array


@dataclass(frozen=True)
class Embedding:
    """Table of features.

    Attributes:
        path: Parquet file.
        n_images: Number of its rows.
        n_features: Number of features of an image.
        skipped: Files that could not be read.
    """

    path: Path
    n_images: int
    n_features: int
    skipped: tuple[UnreadableImage, ...]


def write_embedding(
    embedder: Embedder,
    files: Sequence[Path],
    path: Path,
    *,
    progress: Progress,
) -> Embedding:
    """Write the features of image files as a Parquet table, a row per image, in row groups.

    Columns: `image` (path), `answer` (predicted class, or all classes that the image is said to
    have), `prob` (probability of the most probable class), and `features` (list of float32). Its
    metadata name run, weights and classes. Memory does not grow with the number of images.

    Args:
        embedder: Network.
        files: Paths of the images.
        path: File to replace as a whole.
        progress: Called with each batch.

    Raises:
        StorageError: If the file cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    classifier = embedder.classifier
    embedder.prepare(len(files), progress)
    columns = {
        "image": pa.string(),
        "answer": pa.string(),
        "prob": pa.float32(),
        "features": pa.list_(pa.float32()),
    }
    spec = classifier.spec
    about = {"weights": embedder.weights, "weights_sha256": spec.weights_sha256}
    about |= {"run": spec.run_id, "classes": "\n".join(spec.class_names)}
    schema = pa.schema(columns.items(), metadata=about)
    n_images = n_features = 0
    skipped: list[UnreadableImage] = []
    waiting: list[pa.Table] = []

    def write(least: int) -> None:
        # Batches are smaller than row groups should be.
        if sum(map(len, waiting)) >= least:
            writer.write_table(pa.concat_tables(waiting).combine_chunks())
            waiting.clear()

    with (
        progress.task("Embedding", len(files), "images") as step,
        atomic_path(path) as temporary,
        pq.ParquetWriter(temporary, schema, use_dictionary=["answer"]) as writer,
    ):
        for batch in classifier.read(files, embedder.batch_size):
            pixels: list[UInt8Array] = []
            files_read: list[Path] = []
            for file, read in batch:
                if isinstance(read, UnreadableImage):
                    skipped.append(read)
                else:
                    pixels.append(read)
                    files_read.append(file)
            if pixels:
                features, probs = embedder.embed(np.stack(pixels))
                answers = map(classifier.answer, files_read, probs)
                ends = np.arange(len(pixels) + 1, dtype=np.int32) * features.shape[1]
                rows = {
                    "image": [in_utf8(str(file)) for file in files_read],
                    "answer": [answer.answer for answer in answers],
                    "prob": probs.max(axis=1),
                    "features": pa.ListArray.from_arrays(ends, features.ravel()),
                }
                waiting.append(pa.table(rows, schema))
                n_images, n_features = n_images + len(pixels), features.shape[1]
                write(_ROWS)
            step(len(batch))
        write(1)
    return Embedding(path, n_images, n_features, tuple(skipped))


def _flat(features: FloatArray) -> FloatArray:
    return features.reshape(len(features), -1)
