"""From pixels or files to predictions: batches, views, temperature, rejection. NumPy only."""

import dataclasses
import io
import itertools
import os
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar, cast, overload

import numpy as np
import numpy.typing as npt
import PIL.Image
from PIL.Image import Image as Picture

from convscope.classifier.arrivals import Item, arrivals
from convscope.classifier.decisions import logits_of, sigmoid
from convscope.classifier.familiarity import Familiarity
from convscope.classifier.rejection import energy
from convscope.classifier.spec import ClassifierSpec, Views
from convscope.classifier.views import MeanOverViews, Network
from convscope.errors import ConfigError, ImageError, RunError, ShapeError
from convscope.images.decode import DECODER_VERSION, decode_image, pixels_of
from convscope.images.fit import to_aspect
from convscope.images.formats import MAX_PIXELS, refuse
from convscope.paths import is_path, user_path
from convscope.progress import Progress
from convscope.types import (
    BoolArray,
    FloatArray,
    ImagePrediction,
    IntArray,
    PackedImage,
    UInt8Array,
    UnreadableImage,
)


class Tensor(Protocol):
    """An array of another library, which NumPy can read."""

    def __array__(self, *args: Any, **kwargs: Any) -> npt.NDArray[Any]: ...


Image = (
    os.PathLike[str]
    | str
    | bytes
    | bytearray
    | memoryview
    | BinaryIO
    | Picture
    | UInt8Array
    | Tensor
    | PackedImage
)
"""Path of an image file, its bytes, the open file, a picture of Pillow, an array or tensor of shape
(height, width, channels) or (height, width), uint8, or an image file in an archive."""

AnImage = TypeVar("AnImage", bound=Image)

_DEPTHS = (1, 3, 4)

_DECODERS = min(8, os.cpu_count() or 1)
"""Threads that decode: more than the engine leaves idle, fewer than would fill the memory."""


_NUMBERS_AT_ONCE = 1_000_000
"""Numbers of an array that arithmetic in several passes takes together: 8 MB."""


class Classifier:
    """A network with everything that turns its output into predictions, on any engine.

    Attributes:
        network: Network from raw pixels to probabilities, for images as they are.
        averaged: The same, averaged over the views of the spec; no temperature. Evaluation fits the
            temperature to its output.
        spec: Class names, input, temperature, views.
        familiarity: What the features of the training images have in common, if known.

    Args:
        network: Network.
        spec: Spec.
        familiarity: What the features of the training images have in common, if known.
        with_features: Network from raw pixels to those features and to the probabilities, for
            images as they are.
        remedy: What to do where a threshold for images of no class is missing.
    """

    def __init__(
        self,
        network: Network,
        spec: ClassifierSpec,
        familiarity: Familiarity | None = None,
        with_features: Network | None = None,
        *,
        remedy: str = "evaluate its run once more, and export it again",
    ) -> None:
        self.network = network
        self.spec = spec
        self.familiarity = familiarity
        self._with_features = with_features
        self._remedy = remedy
        views = Views() if "views" in spec.in_graph else spec.views
        self.averaged: Network = network
        if views.several:
            self.averaged = MeanOverViews(network, views, multi_label=spec.multi_label)
        self._temperature = 1.0 if "temperature" in spec.in_graph else spec.temperature

    def predict_on_batch(self, images: UInt8Array, /) -> FloatArray:
        """Return the probabilities of a batch of images.

        Args:
            images: Raw pixels, shape (batch, height, width, channels), 0..255, of any size. Those
                of another aspect ratio than the spec's are cropped or padded like files, if its
                `fit` says so.

        Returns:
            Shape (batch, n_classes), float32, rows sum to 1 unless an image may have any number of
            classes.

        Raises:
            ShapeError: If they are no such array, uint8.
        """
        spec = self.spec
        self._require_batch(images)
        if not len(images):  # nothing that an engine could be asked
            return np.empty((0, len(spec.class_names)), np.float32)
        if "resizing" not in spec.in_graph:
            images = to_aspect(images, (spec.height, spec.width), spec.fit)
        return self._final(self.averaged.predict_on_batch(images))

    def _require_batch(self, images: npt.NDArray[Any]) -> None:
        """Refuse what is no batch of raw pixels, which each engine would say in its own way.

        Raises:
            ShapeError: If it is none.
        """
        shape, channels = np.shape(images), self.spec.channels
        given = getattr(images, "dtype", type(images).__name__)
        if given != np.uint8 or len(shape) != 4 or shape[3] != channels or 0 in shape[1:]:
            raise ShapeError(
                f"a batch is an array of shape (batch, height, width, {channels}) with whole "
                f"numbers 0..255, uint8; this one has shape {shape} and type {given}"
            )

    def _final(self, said: Any) -> FloatArray:
        """Return the probabilities that a network said, at the temperature."""
        probs = np.asarray(said, np.float32)
        return at_temperature(probs, self._temperature, multi_label=self.spec.multi_label)

    def decode(self, image: Image, *, max_pixels: int = MAX_PIXELS) -> UInt8Array:
        """Return the pixels of an image, shape (height, width, channels), of the model's size.

        The decoder is that of training, so that both see the same pixels.

        Args:
            image: Image of any size.
            max_pixels: Largest number of pixels of a file, which is refused by its header if it has
                more, and of any image while it is resized.

        Raises:
            ImageError: If a file cannot be read as an image, or an image is too large.
            ShapeError: If an array is no image of 8 bits, or something else is no image.
        """
        spec = self.spec
        image = _recognised(image)
        wanted: dict[str, Any] = {
            "channels": spec.channels,
            "size": (spec.height, spec.width),
            "fit": spec.fit,
            "white": spec.white,
        }
        if isinstance(image, np.ndarray):
            if self._fits(image[np.newaxis]):
                return image
            image = _picture(image)
        if isinstance(image, Picture):
            try:
                return pixels_of(image, **wanted, max_pixels=max_pixels)
            except Exception as error:  # Pillow may read its file only now
                refuse("the image", error, max_pixels)
        source, name = cast(Any, image), ""
        if isinstance(image, PackedImage):
            if image.reason:
                raise ImageError(f"{image.path} {image.reason}")
            source, name = image.content, str(image.path)
        elif not _is_image(image):
            raise ShapeError(
                "an image is the path of a file, its bytes, the file opened for bytes, a picture "
                f"of Pillow, or an array; this one is of type {type(image).__name__}"
            )
        return decode_image(source, **wanted, name=name, max_pixels=max_pixels)

    @overload  # a path or bytes are one image, though they can be iterated over
    def predict(  # type: ignore[overload-overlap]
        self, images: Image, *, reject: bool = ...
    ) -> ImagePrediction: ...
    @overload
    def predict(
        self, images: Iterable[Image], *, batch_size: int | None = ..., reject: bool = ...
    ) -> Iterator[ImagePrediction | UnreadableImage]: ...
    def predict(
        self,
        images: Image | Iterable[Image],
        *,
        batch_size: int | None = None,
        reject: bool = False,
    ) -> ImagePrediction | Iterator[ImagePrediction | UnreadableImage]:
        """Classify an image, or many.

        Args:
            images: An image, or any iterable of images: the path of a file, its bytes, the file
                opened for bytes, a picture of Pillow, or an array or tensor of shape (height,
                width, channels) or (height, width), uint8, of any size, RGB and not OpenCV's BGR.
                An array of shape (n_images, height, width, channels) is many images, and so is one
                of paths.
            batch_size: Largest number of images per batch, if there are many; None takes as many
                as suit the size of the model's input, see `batch_size_for`.
            reject: Whether images that look like no class are rejected.

        Returns:
            For one image its prediction. For many an iterator over the predictions, in order, with
            the reason in the place of each that could not be read. Where their number is not known,
            as of a generator, they are read in a thread of their own, and those that have come are
            answered at once.

        Raises:
            ImageError: If one image was given, and it cannot be read.
            ShapeError: If an array is no image of 8 bits, or something else is no image.
            RunError: If `reject` is True and the classifier has no threshold.
            ConfigError: If `batch_size` is below 1.
        """
        if batch_size is None:
            batch_size = batch_size_for(max(self.spec.height, self.spec.width))
        require_batch_size(batch_size)
        known = _recognised(images)
        if isinstance(known, np.ndarray) and known.ndim == 1 and known.dtype.kind in "UTO":
            known = known.tolist()  # paths, as tables hold them
        # What can give no images is refused as one.
        if _is_image(known) or not (hasattr(known, "__iter__") or hasattr(known, "__getitem__")):
            pixels = self.decode(known)[np.newaxis]
            ((probs, rejected),) = self._answers(pixels, reject)
            return self.answer(_path_of(images), probs, rejected=rejected)
        live = isinstance(known, Iterable) and not isinstance(known, Sized)
        return self._predict_many(known, batch_size, reject, live=live)

    def _predict_many(
        self, images: Iterable[Image], batch_size: int, reject: bool, *, live: bool
    ) -> Iterator[ImagePrediction | UnreadableImage]:
        if isinstance(images, np.ndarray) and self._fits(images[:1]):
            # Nothing to decode: no threads.
            for first in range(0, len(images), batch_size):
                for probs, rejected in self._answers(images[first : first + batch_size], reject):
                    yield self.answer(None, probs, rejected=rejected)
            return
        for batch in self.read(images, batch_size, live=live):
            pixels = [read for _, read in batch if not isinstance(read, UnreadableImage)]
            rows = iter(self._answers(np.stack(pixels), reject) if pixels else ())
            for image, read in batch:
                if isinstance(read, UnreadableImage):
                    yield read
                else:
                    probs, rejected = next(rows)
                    yield self.answer(_path_of(image), probs, rejected=rejected)

    def read(
        self, images: Iterable[AnImage], batch_size: int, *, live: bool = False
    ) -> Iterator[list[tuple[AnImage, UInt8Array | UnreadableImage]]]:
        """Yield batches of images, each with its pixels or the reason why it cannot be read.

        Args:
            images: Images.
            batch_size: Images per batch.
            live: Whether images come when they like, so that a batch is not waited for.
        """
        # Files out of an archive wait in memory for a decoder, so only some of them may.
        room = threading.Semaphore(2 * _DECODERS)

        def one(image: AnImage) -> UInt8Array | UnreadableImage:
            try:
                return self.decode(image)
            except ImageError as error:
                return UnreadableImage(_path_of(image), str(error))
            finally:
                if isinstance(image, PackedImage):
                    room.release()

        # Some are decoded while the engine works; Pillow leaves Python free meanwhile.
        with ThreadPoolExecutor(max_workers=_DECODERS) as pool:

            def begun() -> Iterator[tuple[AnImage, Future[UInt8Array | UnreadableImage]]]:
                for image in images:
                    if isinstance(image, PackedImage):
                        room.acquire()
                    yield _emptied(image), pool.submit(one, image)

            batches = (arrivals if live else _batches_ahead)(begun(), batch_size)
            try:
                for batch in batches:
                    yield [(image, read.result()) for image, read in batch]
            finally:
                batches.close()
                # Whoever stops early does not wait for what nobody will see.
                pool.shutdown(wait=False, cancel_futures=True)
                room.release()  # nor does a thread that would have one more image decoded

    def _fits(self, images: npt.NDArray[Any]) -> bool:
        """Return whether images are raw pixels of the model's size."""
        spec = self.spec
        size = (spec.height, spec.width, spec.channels)
        return images.shape[1:] == size and images.dtype == np.uint8

    def answer(
        self, file: Path | None, probs: FloatArray, *, rejected: bool = False
    ) -> ImagePrediction:
        """Return the prediction for a file from its row of probabilities, shape (n_classes,)."""
        return answer_of(self.spec, file, probs, rejected=rejected)

    def predict_and_reject(self, images: UInt8Array) -> tuple[FloatArray, BoolArray]:
        """Return the probabilities of images, and which of them look like no class.

        On a frozen backbone that is decided by the features of the images, otherwise, and less
        well, by the energy of the probabilities.

        Args:
            images: Raw pixels, as for `predict_on_batch`.

        Returns:
            Shapes (batch, n_classes) and (batch,).

        Raises:
            RunError: If the classifier has no threshold.
        """
        spec = self.spec
        self._require_batch(images)
        if not len(images):
            return self.predict_on_batch(images), np.zeros(0, bool)
        if spec.reject_above > 0:  # of an exported model
            exported: Any = self.network
            found = exported.outputs(images, ["probs", "distance"])
            return found["probs"], self.rejects(found)
        if self.familiarity is not None and self._with_features is not None:
            images = to_aspect(images, (spec.height, spec.width), spec.fit)
            features, said = self._with_features.predict_on_batch(images)
            if self.averaged is not self.network:
                said = self.averaged.predict_on_batch(images)
            return self._final(said), self.familiarity.rejects(np.asarray(features))
        probs = self.predict_on_batch(images)
        if spec.multi_label:
            raise RunError(
                "--reject on multi-label images needs the features of a frozen backbone, which "
                "this model lacks; omit --reject"
            )
        if spec.reject_below == 0:
            raise RunError(
                f"this classifier has no threshold for images of no class; {self._remedy}"
            )
        return probs, self.rejects({"probs": probs})

    def rejects(self, outputs: Mapping[str, FloatArray]) -> BoolArray:
        """Return which images look like no class, shape (batch,), by what a model said of them.

        Args:
            outputs: "probs", and "distance" of an exported model that has one to compare.
        """
        if self.spec.reject_above > 0:
            return np.asarray(outputs["distance"] > self.spec.reject_above)
        return np.asarray(energy(outputs["probs"]) < self.spec.reject_below)

    def _answers(self, images: UInt8Array, reject: bool) -> list[tuple[FloatArray, bool]]:
        if not reject:
            return [(probs, False) for probs in self.predict_on_batch(images)]
        probs, rejected = self.predict_and_reject(images)
        return list(zip(probs, rejected.tolist(), strict=True))

    def predict_files(
        self,
        files: Iterable[Path | PackedImage],
        total: int | None = None,
        *,
        batch_size: int,
        progress: Progress,
        reject: bool = False,
        live: bool = False,
    ) -> Iterator[ImagePrediction | UnreadableImage]:
        """Classify image files, in batches, as they are read.

        Args:
            files: Paths of the images, or image files in archives.
            total: Number of images; None if it is not known.
            batch_size: Images per batch.
            progress: Called with each image.
            reject: Whether images that look like no class are rejected.
            live: Whether paths come when they like, so that those that have come are answered.

        Yields:
            Prediction for each file in order, or the reason why it could not be read.
        """
        with progress.task("Predicting", total, "images") as step:
            for result in self._predict_many(files, batch_size, reject, live=live):
                yield result
                step(1)


def _batches_ahead(items: Iterator[Item], batch_size: int) -> Generator[list[Item]]:
    """Yield lists of so many items, with as many more begun while one is worked on."""
    ahead: deque[Item] = deque()
    while True:
        ahead.extend(itertools.islice(items, 2 * batch_size - len(ahead)))
        if not ahead:
            return
        yield [ahead.popleft() for _ in range(min(batch_size, len(ahead)))]


def batch_size_for(side: int) -> int:
    """Return a batch size that is fast on a CPU and needs little memory.

    Args:
        side: Longer side of the images, in pixels.

    Examples:
        >>> batch_size_for(32), batch_size_for(224)
        (512, 32)
    """
    fitting = 128 * (96 / side) ** 2
    return int(min(512, max(16, 2 ** round(np.log2(fitting)))))


def decoder_note(spec: ClassifierSpec) -> str:
    """Return a line if the model was trained with another decoder of images; else ""."""
    if spec.decoder_version == DECODER_VERSION:
        return ""
    return (
        f"Note: the model was trained with version {spec.decoder_version} of the decoder of "
        f"images, and this is version {DECODER_VERSION}: some files may give other pixels"
    )


def require_batch_size(batch_size: int) -> None:
    """Refuse batches without an image.

    Raises:
        ConfigError: If they are.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, not {batch_size}")


def answer_of(
    spec: ClassifierSpec, file: Path | None, probs: FloatArray, *, rejected: bool = False
) -> ImagePrediction:
    """Return the prediction for a file from its row of probabilities, shape (n_classes,)."""
    names = spec.class_names
    by_name = dict(zip(names, probs.tolist(), strict=True))
    thresholds = dict(zip(names, spec.thresholds, strict=True)) if spec.multi_label else None
    return ImagePrediction(file, by_name, rejected=rejected, thresholds=thresholds)


def best_first(probs: FloatArray) -> IntArray:
    """Return the indices of the classes by probability, the best first, as `ImagePrediction.top`.

    Of equal ones the first class comes first, which is also that of `argmax`: float32 rounds many
    to 0.

    Args:
        probs: Shape (..., n_classes).

    Examples:
        >>> best_first(np.array([0.2, 0.4, 0.4, 0.0], np.float32)).tolist()
        [1, 2, 0, 3]
    """
    return np.asarray(np.argsort(-probs, axis=-1, kind="stable"), np.int64)


def _emptied(image: AnImage) -> AnImage:
    """Return an image without the content of its file, if that was in an archive."""
    if isinstance(image, PackedImage):
        return cast(AnImage, dataclasses.replace(image, content=b""))
    return image


def _recognised(image: Any) -> Any:
    """Return an image of any kind as path, bytes, open file, picture or array; others as given."""
    if isinstance(image, Path | bytes | Picture | np.ndarray | PackedImage):
        return image
    if is_path(image):
        return user_path(image, "the path of the image")
    if isinstance(image, bytearray | memoryview):
        return bytes(image)
    # What holds many images may not fit into memory, such as an open file of HDF5.
    if hasattr(image, "__array__") and len(getattr(image, "shape", ())) < 4:
        return np.asarray(image)
    return image


def _is_image(known: object) -> bool:
    """Return whether what `_recognised` returned is one image, though of perhaps wrong shape."""
    if isinstance(known, np.ndarray):
        return known.ndim < 4
    if isinstance(known, Path | bytes | Picture | PackedImage):
        return True
    return hasattr(known, "read") and not isinstance(known, io.TextIOBase)


def _path_of(image: object) -> Path | None:
    if isinstance(image, PackedImage):
        return image.path
    return Path(image) if isinstance(image, str | os.PathLike) else None


def _picture(pixels: npt.NDArray[Any]) -> Picture:
    """Return an array of pixels as a picture of Pillow.

    Raises:
        ShapeError: If it is no image of 8 bits.
    """
    shape = pixels.shape
    if pixels.dtype != np.uint8 or not (
        len(shape) == 2 or (len(shape) == 3 and shape[2] in _DEPTHS)
    ):
        raise ShapeError(
            "an image is an array of shape (height, width, channels) with whole numbers 0..255, "
            f"uint8, and 1, 3 or 4 channels; this one has shape {shape} and type {pixels.dtype}"
        )
    if 0 in shape:
        raise ShapeError(f"an image has at least one pixel; this one has shape {shape}")
    return PIL.Image.fromarray(pixels[:, :, 0] if shape[2:] == (1,) else pixels)


def at_temperature(
    probs: FloatArray, temperature: float, *, multi_label: bool = False
) -> FloatArray:
    """Return probabilities as if the logits had been divided by a temperature.

    The order of the classes does not change, so no answer does. A probability that float32 rounded
    to 0 counts as the smallest positive one.

    Args:
        probs: Shape (n_images, n_classes), rows sum to 1.
        temperature: Above 1 lowers confidence, below 1 raises it; 1 changes nothing.
        multi_label: Whether each class has a probability of its own, by a sigmoid.

    Returns:
        Shape (n_images, n_classes), float32, rows sum to 1 unless `multi_label`.
    """
    if temperature == 1:
        return probs
    if multi_label:
        return sigmoid(logits_of(probs) / temperature)
    final = np.empty(probs.shape, np.float32)
    for some in row_parts(*probs.shape):
        wide = np.maximum(probs[some].astype(np.float64), np.finfo(np.float32).tiny)
        logits = np.log(wide) / temperature
        logits -= logits.max(axis=1, keepdims=True)
        scaled = np.exp(logits)
        final[some] = scaled / scaled.sum(axis=1, keepdims=True)
    return final


def row_parts(n_rows: int, n_columns: int) -> Iterator[slice]:
    """Yield slices of rows for arithmetic in several passes: few numbers in memory at a time."""
    at_once = max(1, _NUMBERS_AT_ONCE // max(1, n_columns))
    for start in range(0, n_rows, at_once):
        yield slice(start, start + at_once)
