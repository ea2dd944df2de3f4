"""Models that a server answers with: names, versions, loading beside, swapping."""

import asyncio
import dataclasses
import math
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convscope.classifier import classify, exported
from convscope.engines.choice import REFERENCE
from convscope.engines.seal import read_checksum
from convscope.errors import (
    ConfigError,
    ConvscopeError,
    FailureError,
    ImageError,
    ImageTooLargeError,
    RunError,
)
from convscope.machine import usable_cores
from convscope.paths import user_path
from convscope.serving.batcher import Batcher
from convscope.serving.limits import Limits, RefusedError
from convscope.serving.metrics import Metrics, ModelMetrics
from convscope.types import FloatArray, UInt8Array
from convscope.wording import first_line

_N_DECODERS = max(2, usable_cores())
_DECODERS = ThreadPoolExecutor(_N_DECODERS, thread_name_prefix="decoder")
"""Threads that decode images; Pillow releases Python's lock while it does."""

_SMALL_BYTES, _SMALL_PIXELS = 1 << 14, 1 << 14
"""Size of an image that is decoded in the thread of the event loop: a fraction of a millisecond."""

_MOST_AT_ONCE = 8
"""Largest number of images of one request that a thread decodes before others have their turn."""

_SMALL_S = 0.001
"""Seconds for an image, by one thread, below which a network is small."""

_BATCH_S, _MOST_IN_BATCH = 0.025, 32
"""Seconds that a batch takes by default, and the largest number of images in it. What a processor
saves by a larger batch is within the noise, and everybody in it, and after it, waits longer."""

_N_TIMED, _TIMED_S = 5, 0.25
"""Number of trials when an image is timed, and the seconds after which no other one begins."""

PROBS = "probs"
"""Name of the output with the probabilities."""

_NAME = "-_.abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


@dataclass(frozen=True)
class Settings:
    """Settings of all models of a server.

    Attributes:
        engine: Registered engine.
        threads: Threads of the engine for a batch; None takes one for a small network, else all
            usable cores.
        max_batch: Largest number of images in a batch; None takes as many as the engine answers in
            25 ms, at most 32.
        queue: Largest number of images that wait or are being answered, for each model.
        reject: Whether images that look like no class are rejected.
        limits: Limits of requests.
    """

    engine: str = "onnxruntime"
    threads: int | None = None
    max_batch: int | None = None
    queue: int = 512
    reject: bool = False
    limits: Limits = dataclasses.field(default_factory=Limits)


class _Engine:
    """What a model's batches are given to.

    Apart from `Served`, which holds their queue: so nothing holds itself, and a model that was
    replaced is gone with its last request, without a search for what nobody needs.

    Args:
        classifier: The classifier.
        reject: Whether images that look like no class are rejected.

    Attributes:
        further: Shape of a row of each output besides the probabilities, by its name; known once
            the model is warmed up.
    """

    def __init__(self, classifier: classify.Classifier, *, reject: bool) -> None:
        self._classifier = classifier
        self._reject = reject
        self.further: dict[str, tuple[int, ...]] = {}

    def answers(self, images: UInt8Array) -> FloatArray:
        """Return probabilities, and in a last column 1 for images that are rejected, else 0."""
        if self._reject:
            # By an output of the model, so in the engine's thread, too.
            probs, rejected = self._classifier.predict_and_reject(images)
        else:
            probs = self._classifier.predict_on_batch(images)
            rejected = np.zeros(len(probs), bool)
        if not np.isfinite(probs).all():
            raise FailureError("the model's probabilities are not finite")
        found = np.empty((len(probs), probs.shape[1] + 1), np.float32)
        found[:, :-1], found[:, -1] = probs, rejected
        return found

    def all_outputs(self, images: UInt8Array) -> FloatArray:
        """Return what `answers` does, and in further columns the outputs of `further`."""
        network: Any = self._classifier.network
        found: dict[str, FloatArray] = network.outputs(images, [PROBS, *self.further])
        if not all(np.isfinite(values).all() for values in found.values()):
            raise FailureError("the model's outputs are not finite")
        rejects = self._classifier.rejects(found) if self._reject else np.zeros(len(images))
        rows = [found[name].reshape(len(images), -1) for name in self.further]
        return np.column_stack([found[PROBS], rejects.astype(np.float32), *rows])


class Served:
    """One version of a model, ready to answer.

    Args:
        name: Name of the model.
        version: Version, a number as text.
        classifier: The classifier.
        settings: Settings of the server.
        metrics: Metrics of the server.
        at_once: Largest number of batches at once.

    Attributes:
        batcher: Queue before the engine.
        digest: SHA-256 of the file; empty for a classifier that was given as an object.
    """

    def __init__(
        self,
        name: str,
        version: str,
        classifier: classify.Classifier,
        settings: Settings,
        metrics: Metrics,
        at_once: int = 1,
    ) -> None:
        self.name = name
        self.version = version
        self.classifier = classifier
        self.spec = classifier.spec
        self.digest: str = getattr(classifier, "sha256", "")
        self.metrics = ModelMetrics(metrics, name, self.spec.class_names, self.spec.thresholds)
        self._limits = settings.limits
        self._max_batch = settings.max_batch
        self._engine = _Engine(classifier, reject=settings.reject)
        self.batcher = Batcher(
            self._engine.answers,
            max_batch=settings.max_batch or _MOST_IN_BATCH,
            queue=settings.queue,
            at_once=at_once,
            on_batch=self.metrics.batch,
        )
        # Of its own: other requests need not wait for what only the protocol's ask for.
        self._further_batcher = Batcher(
            self._engine.all_outputs, max_batch=self.batcher.max_batch, on_batch=self.metrics.batch
        )

    @property
    def further(self) -> dict[str, tuple[int, ...]]:
        """Shape of a row of each output besides the probabilities, by its name."""
        return self._engine.further

    @property
    def failing(self) -> bool:
        """Whether the engine fails, whatever the images, see `Batcher`."""
        return self.batcher.failing or self._further_batcher.failing

    def warm_up(self) -> None:
        """Run the engine for one image and for a whole batch, so that no client waits for it.

        Chooses the size of batches, if the settings leave it open.

        Raises:
            FailureError: If it does not answer with a probability for each class.
            RunError: If images are to be rejected, and it has no threshold for that.
        """
        self._run_once(1)
        if self._max_batch is None:
            seconds = max(_BATCH_S / _MOST_IN_BATCH, _seconds(self._engine.answers, self._black(1)))
            n_images = max(1, round(_BATCH_S / seconds))
            self.batcher.max_batch = self._further_batcher.max_batch = n_images
        self._run_once(self.batcher.max_batch)
        network: Any = self.classifier.network
        names = [name for name in getattr(network, "names", ()) if name != PROBS]
        if names:
            found = network.outputs(self._black(1), names)
            self._engine.further = {name: values.shape[1:] for name, values in found.items()}

    def _black(self, n_images: int) -> UInt8Array:
        """Return black images of the model's size."""
        spec = self.spec
        return np.zeros((n_images, spec.height, spec.width, spec.channels), np.uint8)

    def _run_once(self, n_images: int) -> None:
        """Run the engine for some images.

        Raises:
            FailureError: If it does not answer with a probability for each class.
        """
        shape = self._engine.answers(self._black(n_images))[:, :-1].shape
        n_classes = len(self.spec.class_names)
        if shape != (n_images, n_classes):
            raise FailureError(
                f"the model gives outputs of shape {shape} for {n_images} images and "
                f"{n_classes} classes"
            )

    async def decode(self, images: Sequence[bytes | UInt8Array]) -> "list[UInt8Array | ImageError]":
        """Return the pixels of images, of the model's size, or the reason why one cannot be read.

        Args:
            images: Encoded images, or pixels of shape (height, width, channels), uint8.
        """
        if len(images) == 1 and self._is_small(images[0]):
            # Quicker than a thread would begin.
            (found,) = self._decode_all(images, _SMALL_PIXELS)
            if not isinstance(found, ImageTooLargeError):
                return [found]
        loop = asyncio.get_running_loop()
        most = self._limits.max_pixels
        share = min(_MOST_AT_ONCE, -(-len(images) // _N_DECODERS))
        parts = [images[start : start + share] for start in range(0, len(images), share)]
        decoded: list[UInt8Array | ImageError] = []
        # A few at a time: other requests get in between, and nothing goes on after a hang-up.
        for first in range(0, len(parts), _N_DECODERS):
            jobs = [
                loop.run_in_executor(_DECODERS, self._decode_all, part, most)
                for part in parts[first : first + _N_DECODERS]
            ]
            for job in jobs:
                decoded += await job
        return decoded

    def _is_small(self, image: bytes | UInt8Array) -> bool:
        spec = self.spec
        if isinstance(image, bytes):
            return len(image) <= _SMALL_BYTES
        return image.shape[:2] == (spec.height, spec.width) or image.size <= _SMALL_PIXELS

    def _decode_all(
        self, images: Sequence[bytes | UInt8Array], max_pixels: int
    ) -> "list[UInt8Array | ImageError]":
        found: list[UInt8Array | ImageError] = []
        for image in images:
            try:
                limit = min(max_pixels, self._limits.max_pixels)
                found.append(self.classifier.decode(image, max_pixels=limit))
            except ImageError as error:
                found.append(error)
        return found

    async def predict(self, pixels: Sequence[UInt8Array]) -> tuple[FloatArray, list[bool]]:
        """Return the probabilities of images that `decode` returned, and count the answers.

        Returns:
            Shape (n_images, n_classes), and whether each image is rejected.
        """
        answers = await self.batcher.predict(_joined(pixels))
        probs, rejected = answers[:, :-1], (answers[:, -1] > 0).tolist()
        self.metrics.answers(probs, rejected)
        return probs, rejected

    async def outputs(
        self, pixels: Sequence[UInt8Array]
    ) -> tuple[dict[str, FloatArray], list[bool]]:
        """Return all outputs of images that `decode` returned, and count the answers.

        Returns:
            Each by its name, and whether each image is rejected.
        """
        answers = await self._further_batcher.predict(_joined(pixels))
        n_classes = len(self.spec.class_names)
        found = {PROBS: answers[:, :n_classes]}
        rejected = (answers[:, n_classes] > 0).tolist()
        self.metrics.answers(found[PROBS], rejected)
        start = n_classes + 1
        for name, shape in self.further.items():
            end = start + math.prod(shape)
            found[name] = answers[:, start:end].reshape(-1, *shape)
            start = end
        return found, rejected


def _joined(pixels: Sequence[UInt8Array]) -> UInt8Array:
    return pixels[0][np.newaxis] if len(pixels) == 1 else np.stack(pixels)


@dataclass(frozen=True)
class Source:
    """Where a model comes from.

    Attributes:
        name: Name of the model.
        path: ONNX file, or folder with a sub-folder for each version; None for an object.
        classifier: Classifier that was given as an object.
    """

    name: str
    path: Path | None
    classifier: classify.Classifier | None = None

    def versions(self) -> dict[str, Path]:
        """Return the file of each version, the newest last.

        Raises:
            RunError: If there is none.
        """
        assert self.path is not None
        if not self.path.is_dir():
            return {"1": self.path}
        try:
            numbers = sorted(
                (int(each.name), each) for each in self.path.iterdir() if each.name.isdecimal()
            )
            found = {
                str(number): file
                for number, folder in numbers
                for file in sorted(filter(exported.is_exported, folder.glob("*")))[:1]
            }
        except OSError as error:
            raise RunError(f"{self.path} cannot be read: {error.strerror}") from None
        if not found and (self.path / "run.json").exists():
            raise exported.export_first(self.path, "serve")
        if not found:
            raise RunError(
                f"{self.path} has no folder '1', '2', ... with an {exported.SUFFIX} file in it; "
                "give the path of an exported file, or such a folder"
            )
        return found


Given = str | Path | classify.Classifier
"""Path of an exported file or of a folder of versions, "NAME=PATH", or a classifier."""


def sources_of(models: "Given | Sequence[Given] | Mapping[str, Given]") -> list[Source]:
    """Return the sources that a user named.

    Raises:
        ConfigError: If two models have one name, or a name has other characters than letters,
            digits, '-', '_' and '.'.
        PathError: If a path is empty or has an unset variable.
    """
    if isinstance(models, Mapping):
        found = [_source(each, name) for name, each in models.items()]
    elif isinstance(models, str | Path | classify.Classifier):
        found = [_source(models)]
    else:
        found = [_source(each) for each in models]
    if not found:
        raise ConfigError("no model was given; name an exported file, such as cats.onnx")
    names = [source.name for source in found]
    for name in names:
        if not name or set(name) - set(_NAME):
            raise ConfigError(
                f"'{name}' cannot be the name of a model in an address; give it one of letters, "
                "digits, '-', '_' and '.': NAME=PATH"
            )
        if names.count(name) > 1:
            raise ConfigError(f"two models are called '{name}'; name one of them: NAME=PATH")
    return found


def _source(given: Given, name: str | None = None) -> Source:
    if isinstance(given, classify.Classifier):
        path = getattr(given, "path", None)
        return Source(name or (path.stem if path else "model"), None, given)
    text = os.fspath(given)
    if name is None and "=" in text and not Path(text).exists():
        name, _, text = text.partition("=")
    path = user_path(text, "the path of the model")
    return Source(path.stem if name is None else name, path)


class Models:
    """All models of a server.

    Args:
        sources: Where they come from; the first is the default of `/predict`.
        settings: Settings of the server.
        metrics: Metrics of the server.

    Attributes:
        draining: Whether the server is about to end.
    """

    def __init__(self, sources: Sequence[Source], settings: Settings, metrics: Metrics) -> None:
        self.sources = {source.name: source for source in sources}
        self._settings = settings
        self._metrics = metrics
        self._loaded: dict[str, dict[str, Served]] = {}
        self._lock = threading.Lock()
        self.draining = False
        self.started = time.time()

    @property
    def names(self) -> list[str]:
        """Names in the order of the command line."""
        return list(self.sources)

    def versions(self, name: str) -> dict[str, Served]:
        """Return the loaded versions of a model, the newest last.

        Raises:
            RefusedError: If there is no such model.
        """
        if name not in self.sources:
            raise RefusedError(
                404, f"there is no model '{name[:64]}'; there are: {', '.join(self.names)}"
            )
        return self._loaded.get(name, {})

    def get(self, name: str | None = None, version: str | None = None) -> Served:
        """Return a model; the first by default, and its newest version.

        Raises:
            RefusedError: If there is none (404), or it is not loaded (503).
        """
        name = self.names[0] if name is None else name
        versions = self.versions(name)
        if not versions:
            raise RefusedError(503, f"model '{name}' is not loaded", retry_after=1)
        if version is None:
            return next(reversed(versions.values()))
        if version not in versions:
            there = ", ".join(versions)
            raise RefusedError(
                404, f"model '{name}' has no version '{version[:64]}'; it has: {there}"
            )
        return versions[version]

    def ready(self, name: str | None = None) -> bool:
        """Return whether a model, or every model, can answer now."""
        if self.draining:
            return False
        names = self.names if name is None else [name]
        return all(
            versions and not any(each.failing for each in versions.values())
            for versions in map(self.versions, names)
        )

    def load_all(self) -> None:
        """Load every model.

        Raises:
            ConvscopeError: If one cannot be loaded.
        """
        for name in self.names:
            self.load(name)

    def load(self, name: str) -> list[str]:
        """Read a model's files again, beside what answers now, warm them up, and swap.

        Requests in progress finish with the version that they began with. A file that has not
        changed is not read again. Called in any thread.

        Args:
            name: Name of the model.

        Returns:
            Versions that are new or changed.

        Raises:
            ConvscopeError: If a version cannot be loaded; what answered before still does.
        """
        source = self.sources[name]
        with self._lock:
            before = self._loaded.get(name, {})
            found: dict[str, Served] = {}
            new = []
            if source.classifier is not None:
                served = before.get("1") or self._served(name, "1", source.classifier)
                self._loaded[name] = {"1": served}
                return [] if before else ["1"]
            for version, path in source.versions().items():
                known = before.get(version)
                if known is not None and known.digest and known.digest == _digest(path):
                    found[version] = known
                    continue
                found[version] = self._served(name, version, *self._read(path))
                new.append(version)
            # In one step: a request sees the old versions or the new ones.
            self._loaded[name] = found
        return new

    def _read(self, path: Path) -> tuple[classify.Classifier, int]:
        """Return the classifier in a file, and how many batches it does best at once.

        Threads that share the work of a small network take longer to wake than they save.
        """
        engine, threads = self._settings.engine, self._settings.threads
        if threads is None:
            # By one engine: to measure all of them for each number of threads would take long.
            alone = exported.Classifier(path, engine=REFERENCE, threads=1, shared=True)
            if _is_small(alone):
                if engine != REFERENCE:
                    alone = exported.Classifier(path, engine=engine, threads=1, shared=True)
                return alone, usable_cores()
        return exported.Classifier(path, engine=engine, threads=threads, shared=True), 1

    def _served(
        self, name: str, version: str, classifier: classify.Classifier, at_once: int = 1
    ) -> Served:
        served = Served(name, version, classifier, self._settings, self._metrics, at_once)
        try:
            served.warm_up()
        except ConvscopeError:
            raise
        except Exception as error:  # any exception of an engine
            raise FailureError(f"the model loads but does not run: {first_line(error)}") from error
        return served


def _is_small(classifier: classify.Classifier) -> bool:
    """Return whether a network is done with an image in less time than threads need to share it."""
    spec = classifier.spec
    image = np.zeros((1, spec.height, spec.width, spec.channels), np.uint8)
    try:
        return _seconds(classifier.predict_on_batch, image) < _SMALL_S
    except Exception:
        return False  # warming up will say why


def _seconds(predict: Callable[[UInt8Array], FloatArray], images: UInt8Array) -> float:
    """Return the least time of several trials."""
    least = math.inf
    begun = time.perf_counter()
    for _ in range(_N_TIMED):
        start = time.perf_counter()
        predict(images)
        least = min(least, time.perf_counter() - start)
        if time.perf_counter() - begun > _TIMED_S:
            break
    return least


def _digest(path: Path) -> str:
    try:
        return read_checksum(path)
    except OSError:
        return ""


def without_folder(error: ConvscopeError, source: Source) -> str:
    """Return the message of an error of loading without the folders on this machine."""
    text = str(error)
    if source.path is not None:
        files = [source.path, *source.path.glob("*/*"), *source.path.glob("*")]
        for path in sorted(files, key=lambda each: -len(str(each))):
            text = text.replace(str(path), path.name)
    return text
