"""From pixels or files to predictions: batches, views, temperature, rejection. NumPy only."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from convscope.classifier.spec import ClassifierSpec, Views
from convscope.classifier.views import MeanOverViews, Network
from convscope.errors import ImageError
from convscope.images.decode import decode_image
from convscope.images.fit import to_aspect
from convscope.progress import Progress
from convscope.types import FloatArray, ImagePrediction, UInt8Array, UnreadableImage


class Classifier:
    """A network with everything that turns its output into predictions, on any engine.

    Attributes:
        network: Network from raw pixels to probabilities, for images as they are.
        averaged: The same, averaged over the views of the spec; no temperature. Evaluation fits the
            temperature to its output.
        spec: Class names, input, temperature, views.
    """

    def __init__(self, network: Network, spec: ClassifierSpec) -> None:
        self.network = network
        self.spec = spec
        views = spec.views
        self.averaged: Network = network if views == Views() else MeanOverViews(network, views)

    def predict_on_batch(self, images: UInt8Array, /) -> FloatArray:
        """Return the probabilities of a batch of images.

        Args:
            images: Raw pixels, shape (batch, height, width, channels), 0..255, of any size. Those
                of another aspect ratio than the spec's are cropped or padded like files, if its
                `fit` says so.

        Returns:
            Shape (batch, n_classes), float32, rows sum to 1.
        """
        spec = self.spec
        images = to_aspect(images, (spec.height, spec.width), spec.fit)
        said = np.asarray(self.averaged.predict_on_batch(images), np.float32)
        return at_temperature(said, spec.temperature)

    def decode(self, file: Path) -> UInt8Array:
        """Return the pixels of an image file, shape (height, width, channels).

        The decoder is that of training, so that both see the same pixels.

        Raises:
            ImageError: If the file cannot be read as an image.
        """
        spec = self.spec
        return decode_image(
            file,
            channels=spec.channels,
            size=(spec.height, spec.width),
            fit=spec.fit,
            white=spec.white,
        )

    def answer(self, file: Path, probs: FloatArray) -> ImagePrediction:
        """Return the prediction for a file from its row of probabilities, shape (n_classes,)."""
        by_name = dict(zip(self.spec.class_names, map(float, probs), strict=True))
        return ImagePrediction(file, by_name, rejected=bool(probs.max() < self.spec.reject_below))

    def predict_files(
        self, files: Sequence[Path], *, batch_size: int, progress: Progress
    ) -> Iterator[ImagePrediction | UnreadableImage]:
        """Classify image files, in batches, as they are read.

        Args:
            files: Paths of the images.
            batch_size: Images per batch.
            progress: Called with each batch.

        Yields:
            Prediction for each file in order, or the reason why it could not be read.
        """
        with progress.task("Predicting", len(files), "images") as step:
            for batch in self.read_files(files, batch_size):
                images = [pixels for _, pixels in batch if not isinstance(pixels, UnreadableImage)]
                rows = iter(self.predict_on_batch(np.stack(images)) if images else ())
                for file, read in batch:
                    if isinstance(read, UnreadableImage):
                        yield read
                    else:
                        yield self.answer(file, next(rows))
                step(len(batch))

    def read_files(
        self, files: Sequence[Path], batch_size: int
    ) -> Iterator[list[tuple[Path, UInt8Array | UnreadableImage]]]:
        """Yield batches of files, each with its pixels or the reason why it cannot be read."""
        for start in range(0, len(files), batch_size):
            batch: list[tuple[Path, UInt8Array | UnreadableImage]] = []
            for file in files[start : start + batch_size]:
                try:
                    batch.append((file, self.decode(file)))
                except ImageError as error:
                    batch.append((file, UnreadableImage(file, str(error))))
            yield batch


def at_temperature(probs: FloatArray, temperature: float) -> FloatArray:
    """Return probabilities as if the logits had been divided by a temperature.

    The order of the classes does not change, so no answer does. A probability that float32 rounded
    to 0 counts as the smallest positive one.

    Args:
        probs: Shape (n_images, n_classes), rows sum to 1.
        temperature: Above 1 lowers confidence, below 1 raises it; 1 changes nothing.

    Returns:
        Shape (n_images, n_classes), float32, rows sum to 1.
    """
    if temperature == 1:
        return probs
    logits = np.log(np.maximum(probs.astype(np.float64), np.finfo(np.float32).tiny)) / temperature
    logits -= logits.max(axis=1, keepdims=True)
    scaled = np.exp(logits)
    return np.asarray(scaled / scaled.sum(axis=1, keepdims=True), dtype=np.float32)
