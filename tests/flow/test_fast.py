"""The fast recipe from end to end: its own network, to the same bits after a kill, on any shape."""

import numpy as np
import pytest
from killing import assert_same, at_rename, train_until_killed, weights

from convscope import api
from convscope.errors import ConfigError
from convscope.evaluation.predictions import load_model
from convscope.progress import Progress
from convscope.run import Run

FAST = {
    "model": "fast-small",
    "recipe": "fast",
    "data": "digits",
    "epochs": 3,
    # Digits are not the same in a mirror.
    "settings": {"augment.flip": False, "mirror": False},
}


def train(out, settings=FAST, **changes) -> Run:
    return api.train(out=out, progress=Progress(), **{**settings, **changes})


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> Run:
    return train(tmp_path_factory.mktemp("fast") / "run")


def test_it_learns_quickly(uninterrupted):
    assert uninterrupted.metrics["test"]["accuracy"] > 0.9


def test_what_was_whitened_stays(uninterrupted, tmp_path):
    (tmp_path / "other").mkdir()
    other = train(tmp_path / "other" / "run", epochs=1, seed=5)
    first, second = weights(uninterrupted)[:2], weights(other)[:2]
    # The same data give the same patches, whatever the seed and however long it learns.
    for mine, theirs in zip(first, second, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_killed_it_ends_with_the_same_bits(tmp_path, uninterrupted):
    out = tmp_path / "run"
    train_until_killed(out, FAST, at_rename("snapshot.npz", nth=2, when="after"))
    assert_same(train(out, resume=True), uninterrupted)


def test_the_recipe_brings_its_own_network(tmp_path):
    run = api.train(
        out=tmp_path / "run",
        recipe="fast",
        data="digits",
        epochs=1,
        settings={"augment.flip": False},
        test=False,
        progress=Progress(),
    )
    config = api.run_config(run)
    assert config.model == "fast-medium"
    # It is judged by both ways round.
    val = api.load("digits", progress=Progress()).val
    both = load_model(run.weights("last"), mirror=True).predict_on_batch(val.images)
    assert run.metrics["val"]["accuracy"] == np.mean(both.argmax(axis=1) == val.labels)


def test_a_network_that_cannot_be_whitened_is_refused_in_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"no layer to whiten") as caught:
        train(tmp_path / "run", model="cnn-functional")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
