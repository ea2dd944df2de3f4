"""A miniature dataset in the official binary format, and a world of faults around it.

The code that gets it is the code that gets the real ones, with other digests.
"""

import contextlib
import dataclasses
import hashlib
import http.server
import io
import os
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
from pathlib import Path

import numpy as np

from convscope.datasets import DataRequest
from convscope.datasets.published.acquire import acquire
from convscope.datasets.published.cifar_files import BatchFiles, parse_binary
from convscope.datasets.published.collection import Collection, Parts, digest_bytes
from convscope.datasets.published.http import HttpSource
from convscope.progress import Progress
from convscope.storage import cache_dir

__all__ = ["DataRequest", "HttpSource", "acquire"]  # what child processes use besides

N_TRAIN, N_TEST = 60, 20
ARCHIVE = "mini-binary.tar.gz"
FILES = BatchFiles("mini-bin", ("one.bin", "two.bin"), "test.bin", parse_binary)
NOWHERE = "http://127.0.0.1:9/"


def mini_parts() -> Parts:
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (N_TRAIN + N_TEST, 32, 32, 3), dtype=np.uint8)
    labels = rng.integers(0, 10, N_TRAIN + N_TEST, dtype=np.uint8)
    return Parts(images[:N_TRAIN], labels[:N_TRAIN], images[N_TRAIN:], labels[N_TRAIN:])


def mini_batches() -> dict[str, bytes]:
    def batch(images: np.ndarray, labels: np.ndarray) -> bytes:
        flat = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        return np.concatenate([labels[:, None], flat], axis=1).tobytes()

    parts, half = mini_parts(), N_TRAIN // 2
    return {
        "one.bin": batch(parts.train_images[:half], parts.train_labels[:half]),
        "two.bin": batch(parts.train_images[half:], parts.train_labels[half:]),
        "test.bin": batch(parts.test_images, parts.test_labels),
    }


def tar_gz(files: dict[str, bytes], folder: str = "mini-bin") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def mini(archive: bytes = b"", base: str = NOWHERE, **changes: object) -> Collection:
    """The miniature dataset; by default its only source is a host that is not there."""
    form = FILES.packed(ARCHIVE, md5(archive))
    collection = Collection(
        name="mini",
        class_names=tuple("abcdefghij"),
        image_shape=(32, 32, 3),
        n_train=N_TRAIN,
        n_test=N_TEST,
        forms=(FILES.unpacked(), form),
        sources=(HttpSource(base, {ARCHIVE: md5(archive)}, form.read),),
        licence="none",
        citation="nobody",
        manual_download=ARCHIVE,
        sha256={name: digest_bytes(array) for name, array in mini_parts().arrays().items()},
    )
    return dataclasses.replace(collection, **changes)


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def assert_mini(dataset) -> None:
    parts = mini_parts()
    np.testing.assert_array_equal(dataset.train.images, parts.train_images)
    np.testing.assert_array_equal(dataset.train.labels, parts.train_labels)
    test = dataset.test.open(lambda n: None)
    np.testing.assert_array_equal(test.images, parts.test_images)
    np.testing.assert_array_equal(test.labels, parts.test_labels)
    assert dataset.train.labels.dtype == np.int64
    assert dataset.train.ids[59] == "train/00059"
    assert test.ids[12] == "test/00012"
    assert dataset.val is None


def cached_files() -> list[str]:
    home = cache_dir() / "datasets" / "mini"
    return sorted(path.name for path in home.glob("*") if path.is_file())


FINISHED = [
    "source.json",
    "test_images.npy",
    "test_labels.npy",
    "train_images.npy",
    "train_labels.npy",
]


class Listener(Progress):
    """Progress that remembers what it was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.counted: dict[str, int] = {}

    def say(self, text: str) -> None:
        self.lines.append(text)

    def task(self, label: str, total: int | None, unit: str):
        @contextlib.contextmanager
        def counting():
            def step(n: int, note: str = "") -> None:
                self.counted[label] = self.counted.get(label, 0) + n

            yield step

        return counting()


class Shelf:
    """A web server on this machine whose faults are chosen by the test."""

    def __init__(self, files: dict[str, bytes], *, ranges: bool = True) -> None:
        self.files, self.ranges = files, ranges
        self.delay_s = 0.0
        self.faults: list[str] = []  # what goes wrong with the next requests, in turn
        self.requests: list[tuple[str, str | None]] = []
        shelf = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                shelf.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        self.requests.append((handler.path, wanted))
        time.sleep(self.delay_s)
        fault = self.faults.pop(0) if self.faults else ""
        data = self.files.get(handler.path.lstrip("/"))
        if data is None or fault == "500":
            handler.send_error(404 if data is None else 500)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        if start > len(data):
            handler.send_error(416)
            return
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        handler.send_header("Content-Length", str(len(data) - start))
        if fault == "gzip":  # as some servers declare .gz files
            handler.send_header("Content-Encoding", "gzip")
        handler.end_headers()
        rest = data[start:]
        handler.wfile.write(rest[: len(rest) // 2] if fault == "drop" else rest)
        handler.close_connection = True

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def child(code: str, **variables: str) -> "subprocess.Popen[str]":
    """Start a Python process that has this file's names, the same cache, and `code`."""
    return subprocess.Popen(
        [sys.executable, "-c", "import miniature as here\n" + textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
