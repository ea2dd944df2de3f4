"""Outputs of a frozen network, computed once per image and kept on disk.

A frozen backbone gives the same features in every epoch. They are computed once per image, stored
as a memory-mapped array in the cache, and serve every epoch, every head and every later run that
needs the same. "The same" is decided by content: the key is a hash of the network's weights, of its
settings, and of the images. Other weights or other pixels give another key, never a stale hit. Rows
of other sets of the same network are copied: folds hold the same images in other parts.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
import numpy.typing as npt

from convscope.errors import ConfigError, StorageError
from convscope.locks import exclusive, writer_lock
from convscope.progress import Progress
from convscope.storage import cache_dir, npy_header, storage_errors, write_text
from convscope.training.features_rows import KnownRows
from convscope.training.features_store import (
    DONE,
    FEATURES,
    MANIFEST,
    ROWS,
    drop_unused,
    make_room,
    open_set,
    seconds_of,
)
from convscope.training.inference import FrozenInference, engine_of

_FORMAT = 1
_COPIED_ROWS = 512
"""Rows of other sets that are copied at once."""

_SYNC_S = 5.0
"""A kill or a power cut costs at most this many seconds of work plus one batch."""


class Source(Protocol):
    """Images or features, read batch by batch: an array, a view of one, an augmented view."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: Any) -> npt.NDArray[Any]: ...


@dataclass(frozen=True)
class Features:
    """Features of images, in the order of the images.

    Attributes:
        array: Shape (n_images, ...), float32 or float16, memory-mapped. While it or a view of it
            lives, no process removes the features from the cache.
        key: Hash of everything they were computed from.
        seconds: Time that computing them took, now or when they entered the cache.
    """

    array: npt.NDArray[Any]
    key: str
    seconds: float


def compute_features(
    network: keras.Model,
    source: Source,
    source_key: str,
    *,
    about: Mapping[str, Any],
    batch_size: int,
    storage: str,
    label: str,
    progress: Progress,
    row_keys: Sequence[str] | None = None,
) -> Features:
    """Return the outputs of a network for images, from the cache or computed into it.

    A computation that was killed resumes where it stopped.

    Args:
        network: Network from a batch of `source` to an array; it is not changed.
        source: Inputs of the network.
        source_key: Hash of the contents of `source`.
        about: Other facts that decide the result and do not show in the weights: kind of network,
            precision, size and scaling of its input.
        batch_size: Images per batch.
        storage: Data type on disk: "float32", or "float16" for half the space.
        label: Name of the work in progress output.
        progress: Called with each batch.
        row_keys: Hash of the contents of each row, without line breaks, by which rows of other sets
            are found; None if a row's contents depend on its position.

    Raises:
        ConfigError: If a feature is too large for `storage`.
        StorageError: If the disk is too small even after unused features were evicted.
    """
    shape = (len(source), *network.output.shape[1:])
    described = {
        "format": _FORMAT,
        "source": source_key,
        "weights": _weights_hash(network),
        "shape": shape,
        "storage": storage,
        "engine": engine_of(network),
        **about,
    }
    key = _digest(described)
    # Sets of one network differ in their images alone.
    network_key = _digest({**described, "source": None, "shape": shape[1:]})
    root = cache_dir() / "features"
    waiting = "Waiting for another process that computes the same features"
    news = progress.is_news(key)
    with exclusive(writer_lock(root / key), wait=True, on_wait=lambda: progress.say(waiting)):
        kept = open_set(root / key, shape, storage)
        if kept is None:
            drop_unused(root / key)
            inference = FrozenInference(network, network_key, batch_size, progress)
            known = KnownRows(root / key, network_key, storage, row_keys)
            described["seconds"] = _compute(
                inference, source, root / key, shape, storage, batch_size, label, progress, known
            )
            if row_keys is not None:
                described["network_key"] = network_key
                write_text(root / key / ROWS, "\n".join(row_keys))
            write_text(root / key / MANIFEST, json.dumps(described, default=str) + "\n")
            kept = open_set(root / key, shape, storage)
            if kept is None:
                raise StorageError(f"the features in {root / key} cannot be read back; try again")
        else:
            # The head, its evaluation and a second training ask for the same features.
            if news:
                progress.say(f"{label}: found in the cache")
            with contextlib.suppress(OSError):
                os.utime(root / key / MANIFEST)
        seconds = seconds_of(root / key)
    return Features(kept, key, seconds)


def _compute(
    inference: FrozenInference,
    source: Source,
    folder: Path,
    shape: tuple[int, ...],
    storage: str,
    batch_size: int,
    label: str,
    progress: Progress,
    known: KnownRows,
) -> float:
    """Write the features, from where an earlier process stopped; return the seconds of both.

    With those that rows of other sets took.
    """
    dtype = np.dtype(storage)
    row_bytes = dtype.itemsize * int(np.prod(shape[1:]))
    path = folder / FEATURES
    with storage_errors(path):
        folder.mkdir(parents=True, exist_ok=True)
        stream = path.open("r+b" if path.exists() else "w+b")
    # Around the stream too: closing it retries what a full disk refused.
    missing = known.missing(shape[0])
    # Copying takes no time, so it is one line and no task.
    work = progress if len(missing) else Progress()
    if not len(missing):
        progress.say(f"{label}: found in the cache")
    with storage_errors(path), stream, work.task(label, shape[0], "images") as step:
        header = npy_header(shape, dtype)
        done, earlier = _left_by_earlier(folder, stream, header, row_bytes)
        began = time.monotonic() - earlier
        make_room(folder, len(header) + (shape[0] - done) * row_bytes)
        with storage_errors(path):
            if not done:
                for claim in (MANIFEST, DONE):  # of damaged features
                    (folder / claim).unlink(missing_ok=True)
                stream.seek(0)
                stream.write(header)
            stream.seek(len(header) + done * row_bytes)
            stream.truncate()
        step(done)
        synced = time.monotonic()
        for start, stop in _chunks(missing, done, shape[0], batch_size):
            rows = stop - start
            features = np.empty((rows, *shape[1:]), dtype)
            known.copy(features, start)
            lost = missing[np.searchsorted(missing, start) : np.searchsorted(missing, stop)]
            if len(lost):
                batch = source[start:stop] if len(lost) == rows else source[lost]
                features[lost - start] = _narrowed(inference(batch), dtype)
            # Plain writes: a full disk under a mapped page kills the process.
            with storage_errors(path):
                stream.write(features.tobytes())
                if time.monotonic() - synced > _SYNC_S:
                    _sync(stream, folder, start + rows, time.monotonic() - began)
                    synced = time.monotonic()
            step(rows)
        with storage_errors(path):
            _sync(stream, folder, shape[0], time.monotonic() - began)
    return round(time.monotonic() - began + known.seconds, 3)


def _chunks(
    missing: npt.NDArray[np.intp], start: int, stop: int, batch_size: int
) -> Iterator[tuple[int, int]]:
    """Divide rows so that each chunk has at most one batch to compute; a full one if possible."""
    while start < stop:
        ahead = np.searchsorted(missing, start) + batch_size
        end = int(missing[ahead]) if ahead < len(missing) else stop
        end = min(end, start + max(_COPIED_ROWS, batch_size))
        yield start, end
        start = end


def _digest(described: Mapping[str, Any]) -> str:
    text = json.dumps(described, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _narrowed(features: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    with np.errstate(over="ignore"):
        narrow = features.astype(dtype)
    if np.isinf(narrow).any() and np.isfinite(features).all():
        largest = float(np.abs(features).max())
        raise ConfigError(
            f"a feature of {largest:.3g} is too large for {dtype}; "
            "start again with --set backbone.storage=float32"
        )
    return narrow


def _left_by_earlier(folder: Path, stream: Any, header: bytes, row_bytes: int) -> tuple[int, float]:
    """Return how many rows of an earlier process are surely on the disk, and its seconds."""
    try:
        rows, seconds = (folder / DONE).read_text(encoding="utf-8").split()
        noted, took = int(rows), float(seconds)
    except (OSError, ValueError):
        return 0, 0.0
    stream.seek(0)
    whole = stream.read(len(header)) == header
    there = (os.fstat(stream.fileno()).st_size - len(header)) // row_bytes
    return (noted, took) if whole and 0 <= noted <= there else (0, 0.0)


def _sync(stream: Any, folder: Path, rows: int, seconds: float) -> None:
    stream.flush()
    os.fsync(stream.fileno())
    write_text(folder / DONE, f"{rows} {seconds:.1f}\n")


def _weights_hash(network: keras.Model) -> str:
    digest = hashlib.sha256()
    for weight in network.weights:
        array = np.ascontiguousarray(weight.numpy())
        digest.update(f"{array.shape}{array.dtype}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
