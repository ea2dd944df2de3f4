"""Occlusion, with a network that knows only how bright an image is."""

import dataclasses

import numpy as np
import pytest

from convscope.classifier.classify import Classifier
from convscope.classifier.spec import ClassifierSpec, Views
from convscope.explain.occlusion import occlusion


class Brightness:
    """Says "bright" with the mean brightness of the left half as its probability."""

    def predict_on_batch(self, images) -> np.ndarray:
        bright = images[:, :, : images.shape[2] // 2].mean(axis=(1, 2, 3)) / 255
        return np.stack([1 - bright, bright], axis=1).astype(np.float32)


@pytest.mark.parametrize(
    ("temperature", "views"), [(1.0, Views()), (0.5, Views()), (3.0, Views(mirror=True))]
)
def test_the_loss_is_of_the_probability_that_predict_gives(temperature, views):
    spec = ClassifierSpec(("dark", "bright"), 8, 8, 1)
    spec = dataclasses.replace(spec, temperature=temperature, views=views)
    classifier = Classifier(Brightness(), spec)
    image = np.full((8, 8, 1), 60, np.uint8)
    image[:4, :2] = 250
    covered = image.copy()
    covered[:1, :1] = image.mean()
    lost = occlusion(classifier, image, 1, n_across=5)
    said = [classifier.predict(each).probs["bright"] for each in (image, covered)]
    assert lost[0, 0] == pytest.approx(said[0] - said[1], abs=1e-6)
    assert lost[0, 0] > 0.001
    assert lost.max() < said[0]
