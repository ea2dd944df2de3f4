"""What every registered dataset says about itself, found by the registry."""

import re

import numpy as np
import pytest

from convscope.datasets import DATASETS, DataRequest
from convscope.datasets.division.splits import divide
from convscope.recipe import SplitSettings
from convscope.types import Dataset

ENTRIES = DATASETS.entries()
# Of the user's own images nothing is known beforehand.
OFFICIAL = [entry for entry in ENTRIES if entry.name not in ("folder", "shards")]
# These need no download.
AT_HAND = [entry for entry in OFFICIAL if entry.info["download_mb"] == 0]


def by_name(entry) -> str:
    return entry.name


def test_there_are_some():
    names = {entry.name for entry in ENTRIES}
    assert names >= {"cifar10", "cifar100", "digits", "fashion_mnist", "folder", "mnist"}
    assert AT_HAND


@pytest.mark.parametrize("entry", ENTRIES, ids=by_name)
def test_says_what_it_is(entry):
    assert re.fullmatch(r"[a-z][a-z0-9_]*", entry.name)
    first, *rest = entry.doc.splitlines()
    assert 10 < len(first) <= 100
    assert first.endswith(".")
    assert not rest[0]
    assert "Args:" in entry.doc
    assert "Raises:" in entry.doc


@pytest.mark.parametrize("entry", OFFICIAL, ids=by_name)
def test_gives_its_facts(entry):
    info = entry.info
    assert info.keys() >= {
        "n_classes",
        "n_train",
        "n_test",
        "image_shape",
        "download_mb",
        "licence",
    }
    height, width, channels = info["image_shape"]
    assert height > 0
    assert width > 0
    assert channels in (1, 3)
    assert info["n_classes"] >= 2
    assert info["n_train"] >= info["n_classes"]
    assert info["n_test"] >= 0
    assert info["download_mb"] >= 0
    assert info["licence"].strip()
    assert "References:" in entry.doc


@pytest.mark.parametrize("entry", ENTRIES, ids=by_name)
def test_its_split_is_made_of_settings_that_exist(entry):
    SplitSettings(**entry.info.get("split", {}))


@pytest.mark.parametrize("entry", AT_HAND, ids=by_name)
def test_loads_what_its_facts_say(entry):
    dataset = entry.value(DataRequest())
    info = entry.info
    assert isinstance(dataset, Dataset)
    assert dataset.name == entry.name
    assert len(dataset.class_names) == info["n_classes"]
    assert len(dataset.train) == info["n_train"]
    assert dataset.image_shape == info["image_shape"]
    assert len(dataset.test or ()) == info["n_test"]
    assert dataset.train.images.dtype == np.uint8
    assert dataset.train.images.max() > 1, "raw 0..255, not scaled"
    assert set(dataset.train.labels) == set(range(info["n_classes"]))
    assert len(set(dataset.train.ids)) == info["n_train"]
    assert dataset.provenance["source"]
    assert dataset.provenance["licence"] == info["licence"]
    again = entry.value(DataRequest())
    assert again.train.hashes == dataset.train.hashes
    assert again.train.ids.tolist() == dataset.train.ids.tolist()
    parts = divide(dataset, **SplitSettings(**info.get("split", {})).model_dump())
    assert parts.val is not None
    assert parts.test is not None
