import keras
import numpy as np
import pytest

from convscope.classifier.keras_model import load_model
from convscope.classifier.spec import Views
from convscope.classifier.views import MeanOverViews
from convscope.images.orientation import turn

IMAGES = np.random.default_rng(0).integers(0, 3, (6, 8, 10, 1), dtype=np.uint8)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model that tells each pixel of an 8 x 10 image from the others."""
    rng = np.random.default_rng(83)
    pixels = keras.Input((8, 10, 1))
    # Modest logits: it is in doubt about everything.
    x = keras.layers.Rescaling(0.05)(keras.layers.Flatten()(pixels))
    path = tmp_path_factory.mktemp("views") / "model.keras"
    model = keras.Model(pixels, keras.layers.Dense(3, activation="softmax")(x))
    model.set_weights([rng.normal(0, 0.2, (80, 3)), rng.normal(0, 0.1, 3)])
    model.save(path)
    return path


def answers(path, images) -> np.ndarray:
    return np.asarray(load_model(path).predict_on_batch(np.ascontiguousarray(images)))


def averaged(path, views) -> MeanOverViews:
    return MeanOverViews(load_model(path), views)


def moved(images, rows, columns) -> np.ndarray:
    """Reference: padded with a mirror at the edges, then cut."""
    n = max(abs(rows), abs(columns))
    padded = np.pad(images, ((0, 0), (n, n), (n, n), (0, 0)), mode="symmetric")
    height, width = images.shape[1:3]
    return padded[:, n + rows : n + rows + height, n + columns : n + columns + width]


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize(
    ("shift", "rows", "columns"), [(0, 0, 0), (0.12, 1, 1), (0.25, 2, 2), (0.15, 1, 2)]
)
def test_in_doubt_it_answers_with_the_weighted_mean(saved, mirror, shift, rows, columns):
    def both_ways(images):
        if not mirror:
            return answers(saved, images)
        return (answers(saved, images) + answers(saved, images[:, :, ::-1])) / 2

    expected = both_ways(IMAGES)
    if shift:
        there, back = (both_ways(moved(IMAGES, s * rows, s * columns)) for s in (1, -1))
        expected = expected / 2 + there / 4 + back / 4
    if mirror or shift:
        assert np.abs(expected - answers(saved, IMAGES)).max() > 0.005
    model = averaged(saved, Views(mirror, shift))
    np.testing.assert_allclose(model.predict_on_batch(IMAGES), expected, atol=1e-6)


@pytest.mark.parametrize("mirror", [False, True])
def test_turned_views_are_the_image_in_all_four_ways_and_mirrored_in_all_eight(mirror):
    """An answer that depends on one corner becomes one on all corners."""

    class UpperLeft:
        def predict_on_batch(self, images) -> np.ndarray:
            first = images[:, 0, 0, :1] / np.float32(255)
            above = images[:, 0, 1, :1] / np.float32(255)
            return np.concatenate([first, above, 1 - first - above], axis=1)

    image = np.zeros((1, 4, 4, 1), np.uint8)
    image[0, 0, 3], image[0, 0, 1], image[0, 3, 1] = 40, 80, 120
    found = MeanOverViews(UpperLeft(), Views(mirror=mirror, turn=True)).predict_on_batch(image)
    # Corners: 40. Right of the upper left corner is, as the image turns to the left, what lies
    # below the upper right one, left of the lower right one, above the lower left one; in the
    # mirror what lies left of the upper right one and so on.
    beside = [80, 0, 0, 0, *([0, 0, 0, 120] if mirror else [])]
    first, above = 40 / 4 / 255, np.mean(beside) / 255
    np.testing.assert_allclose(found, [[first, above, 1 - first - above]], atol=1e-6)


def test_an_answer_over_turned_views_is_the_same_for_the_image_in_any_orientation():
    rng = np.random.default_rng(7)
    kernel = rng.normal(0, 0.01, (6 * 6 * 3, 4)).astype(np.float32)

    class Dense:
        def predict_on_batch(self, images) -> np.ndarray:
            shares = np.exp(images.reshape(len(images), -1).astype(np.float32) @ kernel)
            return shares / shares.sum(axis=1, keepdims=True)

    images = rng.integers(0, 256, (5, 6, 6, 3), dtype=np.uint8)
    views = MeanOverViews(Dense(), Views(mirror=True, turn=True))
    wanted = views.predict_on_batch(images)
    assert np.abs(wanted - Dense().predict_on_batch(images)).max() > 0.05
    for way in range(8):
        found = views.predict_on_batch(turn(images, way, (1, 2)))
        np.testing.assert_allclose(found, wanted, atol=1e-5)


class Counting:
    """By the brightest pixel: class 1 from 200 on, in doubt from 100 on, else class 0."""

    def __init__(self) -> None:
        self.asked = []

    def predict_on_batch(self, images) -> np.ndarray:
        self.asked.append(len(images))
        brightest = images.max(axis=(1, 2, 3))[:, None]
        return np.where(
            brightest >= 200, [[0.1, 0.9]], np.where(brightest >= 100, [[0.45, 0.55]], [[0.9, 0.1]])
        ).astype(np.float32)


def test_shifted_views_are_asked_for_only_in_doubt():
    values = [210, 120, 90, 120, 120, 255, 0]
    images = np.zeros((7, 8, 8, 3), np.uint8) + np.array(values, np.uint8)[:, None, None, None]
    network = Counting()
    probs = MeanOverViews(network, Views(mirror=True, shift=0.125)).predict_on_batch(images)
    # Three images, in batches whose size is a power of two.
    assert network.asked == [7, 7, 4, 4, 4, 4]
    np.testing.assert_allclose(probs[:, 1], [0.9, 0.55, 0.1, 0.55, 0.55, 0.9, 0.1], atol=1e-6)


def test_each_doubtful_image_gets_its_own_answer_whatever_its_batch(saved):
    rng = np.random.default_rng(5)
    images = rng.integers(0, 40, (37, 8, 10, 1), dtype=np.uint8)
    model = averaged(saved, Views(True, 0.125))
    whole = model.predict_on_batch(images)
    unmoved = averaged(saved, Views(mirror=True)).predict_on_batch(images)
    differ = np.abs(whole - unmoved).max(axis=1) > 1e-3
    assert 5 < differ.sum() < 32
    single = np.concatenate([model.predict_on_batch(images[i : i + 1]) for i in range(37)])
    np.testing.assert_allclose(whole, single, atol=1e-6)


@pytest.mark.parametrize("shift", [0, 0.04])
def test_a_shift_of_less_than_half_a_pixel_costs_and_changes_nothing(shift):
    network = Counting()
    images = np.full((3, 8, 8, 3), 120, np.uint8)
    found = MeanOverViews(network, Views(shift=shift)).predict_on_batch(images)
    assert network.asked == [3]
    np.testing.assert_allclose(found, [[0.45, 0.55]] * 3, atol=1e-6)
