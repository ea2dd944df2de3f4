"""How unlike the training images an image is, from features alone."""

import dataclasses

import numpy as np
import pytest

from convscope.classifier.familiarity import Familiarity


@pytest.fixture(scope="module")
def known() -> tuple[np.ndarray, Familiarity]:
    """Features that vary in three directions, and a little in all others."""
    rng = np.random.default_rng(0)
    axes = rng.normal(size=(3, 200))
    features = (rng.normal(size=(400, 3)) @ axes + 0.1 * rng.normal(size=(400, 200))) * 5 + 70
    return features[:300].astype(np.float32), Familiarity.of(features[:300].astype(np.float32))


def test_images_like_those_of_training_are_at_a_distance_of_about_one(known):
    features, familiarity = known
    assert familiarity.distances(features).mean() == pytest.approx(1, abs=0.05)
    assert familiarity.axes.shape == (200, 75)
    np.testing.assert_allclose(np.linalg.norm(familiarity.axes, axis=0), 1, atol=1e-4)


@pytest.mark.parametrize("n_features", [8, 150])
def test_along_its_axes_the_images_vary_as_it_says(n_features):
    rng = np.random.default_rng(1)
    features = rng.normal(size=(60, n_features)) @ rng.normal(size=(n_features, n_features))
    found = Familiarity.of(features)
    along = (features - found.centre) * found.scale @ found.axes
    np.testing.assert_allclose(along.var(axis=0, ddof=1), found.variances, rtol=1e-4)
    np.testing.assert_allclose(found.axes.T @ found.axes, np.eye(len(found.variances)), atol=1e-5)


def test_what_no_training_image_has_is_farther_than_more_of_what_they_have(known):
    features, familiarity = known
    middle = features.mean(axis=0)
    along = features[0] - middle
    across = np.random.default_rng(1).normal(size=200).astype(np.float32)
    across *= np.linalg.norm(along) / np.linalg.norm(across)
    near, far = familiarity.distances(np.stack([middle + along, middle + across]))
    assert far > 10 * near


def test_an_image_is_rejected_beyond_the_farthest(known):
    features, familiarity = known
    distances = familiarity.distances(features)
    limited = dataclasses.replace(familiarity, farthest=float(np.median(distances)))
    assert limited.rejects(features).mean() == pytest.approx(0.5, abs=0.01)


def test_few_images_and_features_that_never_vary_are_enough():
    features = np.zeros((3, 10), np.float32)
    features[1:, 0] = (1, 2)
    found = Familiarity.of(features).distances(np.eye(10, dtype=np.float32) * 5)
    assert np.isfinite(found).all()
    assert np.isfinite(Familiarity.of(features[:1]).distances(features)).all()


def test_what_is_written_is_read(known, tmp_path):
    features, familiarity = known
    kept = dataclasses.replace(
        familiarity, farthest=1.5, rejected={"val": 0.05}, weights_sha256="ab" * 32
    )
    kept.write(tmp_path / "last.npz")
    found = Familiarity.read(tmp_path / "last.npz")
    assert (found.farthest, found.rejected, found.weights_sha256) == (1.5, {"val": 0.05}, "ab" * 32)
    np.testing.assert_array_equal(found.distances(features), kept.distances(features))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("centre", np.zeros(3, np.float32)), ("axes", np.zeros(200, np.float32))),
        *(("variances", np.full(75, np.nan, np.float32)), ("rejected", "[1]")),
        *(("farthest", np.array("x")), ("scale", np.array([{}] * 200, dtype=object))),
    ],
)
def test_a_damaged_file_is_refused_in_a_line(known, tmp_path, name, value):
    path = tmp_path / "last.npz"
    known[1].write(path)
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **{**arrays, name: value})
    with pytest.raises(ValueError, match=".") as caught:
        Familiarity.read(path)
    assert "\n" not in str(caught.value)
    path.write_bytes(b"PK")
    with pytest.raises(ValueError, match="."):
        Familiarity.read(path)
