"""MNIST and Fashion-MNIST: miniature IDX files, and Debian's copy where it is installed."""

import dataclasses
import gzip
import hashlib
import http.server
import struct
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from convscope.datasets import DataRequest, fashion_mnist, mnist
from convscope.datasets.published.collection import Collection
from convscope.datasets.published.http import HttpSource
from convscope.datasets.published.idx_files import FILES, digest_idx, read_idx, read_idx_folder
from convscope.errors import DownloadError, IntegrityError

N_TRAIN, N_TEST = 30, 10
RNG = np.random.default_rng(4)
ARRAYS = {
    "train_images": RNG.integers(0, 256, (N_TRAIN, 28, 28), dtype=np.uint8),
    "train_labels": np.arange(N_TRAIN, dtype=np.uint8) % 10,
    "test_images": RNG.integers(0, 256, (N_TEST, 28, 28), dtype=np.uint8),
    "test_labels": np.arange(N_TEST, dtype=np.uint8)[::-1].copy(),
}


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    header = bytes([0, 0, kind, array.ndim])
    return header + b"".join(struct.pack(">I", n) for n in array.shape) + array.tobytes()


def official_files() -> dict[str, bytes]:
    return {f"{FILES[part]}.gz": gzip.compress(idx(array)) for part, array in ARRAYS.items()}


def miniature(collection: Collection, **changes: object) -> Collection:
    """The collection with fewer images and no sources; the readers are the real ones."""
    sha256 = {part: hashlib.sha256(idx(array)).hexdigest() for part, array in ARRAYS.items()}
    few = {"n_train": N_TRAIN, "n_test": N_TEST, "sha256": sha256, "sources": ()}
    return dataclasses.replace(collection, **{**few, "system_folders": (), **changes})


def assert_official(dataset) -> None:
    assert dataset.image_shape == (28, 28, 1)
    np.testing.assert_array_equal(dataset.train.images[..., 0], ARRAYS["train_images"])
    np.testing.assert_array_equal(dataset.train.labels, ARRAYS["train_labels"])
    test = dataset.test.open(lambda n: None)
    np.testing.assert_array_equal(test.images[..., 0], ARRAYS["test_images"])
    np.testing.assert_array_equal(test.labels, ARRAYS["test_labels"])


@pytest.mark.parametrize("subfolder", [".", "MNIST/raw", "mnist"])
@pytest.mark.parametrize("packed", [True, False])
def test_mnist_from_a_folder(tmp_path, monkeypatch, subfolder, packed):
    monkeypatch.setattr(mnist, "MNIST", miniature(mnist.MNIST))
    (tmp_path / subfolder).mkdir(parents=True, exist_ok=True)
    for name, data in official_files().items():
        path = tmp_path / subfolder / name
        if packed:
            path.write_bytes(data)
        else:
            path.with_suffix("").write_bytes(gzip.decompress(data))
    dataset = mnist.load_mnist(DataRequest(data_dir=tmp_path))
    assert_official(dataset)
    assert dataset.class_names == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
    assert dataset.train.images.flags.writeable
    assert_official(mnist.load_mnist(DataRequest()))  # from the cache


def test_fashion_mnist_from_the_systems_folder(tmp_path, monkeypatch):
    collection = miniature(fashion_mnist.FASHION_MNIST, system_folders=(tmp_path,))
    monkeypatch.setattr(fashion_mnist, "FASHION_MNIST", collection)
    for name, data in official_files().items():
        (tmp_path / name).write_bytes(data)
    dataset = fashion_mnist.load_fashion_mnist(DataRequest())
    assert_official(dataset)
    assert dataset.class_names[9] == "Ankle boot"
    assert dataset.provenance["source"] == str(tmp_path)


def test_one_set_is_not_taken_for_the_other(tmp_path, monkeypatch):
    """The files of both have the same names; the digests tell them apart."""
    other = {**miniature(mnist.MNIST).sha256, "train_images": "0" * 64}
    monkeypatch.setattr(mnist, "MNIST", miniature(mnist.MNIST, sha256=other))
    for name, data in official_files().items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(IntegrityError, match="the train images are not those of mnist"):
        mnist.load_mnist(DataRequest(data_dir=tmp_path))


def test_a_missing_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(mnist, "MNIST", miniature(mnist.MNIST))
    for name, data in official_files().items():
        if name != "t10k-labels-idx1-ubyte.gz":
            (tmp_path / name).write_bytes(data)
    with pytest.raises(IntegrityError, match=r"lacks t10k-labels-idx1-ubyte\.gz"):
        mnist.load_mnist(DataRequest(data_dir=tmp_path))


@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(idx(ARRAYS["train_images"]))[:200],
        gzip.compress(idx(ARRAYS["train_images"])[:-1]),
        gzip.compress(idx(ARRAYS["train_images"], kind=13)),
        gzip.compress(b"\0\0"),
        b"<html>not found</html>",
        b"",
    ],
    ids=["cut gzip", "cut inside", "floats", "header only", "a web page", "empty"],
)
def test_a_damaged_file_is_an_integrity_error(tmp_path, data):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"train-images-idx3-ubyte\.gz"):
        read_idx(path)


def test_the_digest_is_that_of_the_idx_file():
    for array in ARRAYS.values():
        grey = array[..., np.newaxis] if array.ndim == 3 else array
        assert digest_idx(grey) == hashlib.sha256(idx(array)).hexdigest()


def test_the_second_host_is_asked_where_the_first_is_away(tmp_path, monkeypatch):
    files = official_files()
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))
    )
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    md5 = {name: hashlib.md5(data).hexdigest() for name, data in files.items()}
    base = f"http://127.0.0.1:{server.server_port}/"
    sources = (
        HttpSource("http://127.0.0.1:9/", md5, read_idx_folder),
        HttpSource(base, md5, read_idx_folder),
    )
    monkeypatch.setattr(mnist, "MNIST", miniature(mnist.MNIST, sources=sources))
    try:
        dataset = mnist.load_mnist(DataRequest())
    finally:
        server.shutdown()
        server.server_close()
    assert_official(dataset)
    assert dataset.provenance["source"] == base


def test_the_official_sources_are_those_that_were_published():
    names = {f"{name}.gz" for name in FILES.values()}
    first, second = mnist.MNIST.sources
    assert first.base == "http://yann.lecun.com/exdb/mnist/"
    assert second.base == "https://ossci-datasets.s3.amazonaws.com/mnist/"
    (fashion,) = fashion_mnist.FASHION_MNIST.sources
    assert set(first.md5) == set(second.md5) == set(fashion.md5) == names


def test_without_files_or_network_the_error_says_what_to_do(monkeypatch):
    sources = tuple(
        dataclasses.replace(source, base="http://127.0.0.1:9/") for source in mnist.MNIST.sources
    )
    monkeypatch.setattr(mnist, "MNIST", dataclasses.replace(mnist.MNIST, sources=sources))
    with pytest.raises(DownloadError, match=r"Put train-images-idx3-ubyte\.gz and the three"):
        mnist.load_mnist(DataRequest())


@pytest.mark.skipif(
    not all(path.is_dir() for path in fashion_mnist.FASHION_MNIST.system_folders),
    reason="needs Debian's package dataset-fashion-mnist",
)
def test_debians_fashion_mnist_is_the_official_one():
    dataset = fashion_mnist.load_fashion_mnist(DataRequest())
    test = dataset.test.open(lambda n: None)
    assert dataset.train.images.shape == (60_000, 28, 28, 1)
    assert np.bincount(dataset.train.labels).tolist() == [6000] * 10
    assert np.bincount(test.labels).tolist() == [1000] * 10
    assert dataset.train.labels[:5].tolist() == [9, 0, 0, 3, 0]
    assert dataset.provenance["source"] == str(Path("/usr/share/datasets/fashion-mnist"))
