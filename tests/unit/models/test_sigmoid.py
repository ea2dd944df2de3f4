"""Networks with a probability of their own for each class."""

import keras
import numpy as np
import pytest

from convscope.errors import ConfigError
from convscope.models import MODELS
from convscope.models.head import build_head
from convscope.models.saving import PortableModel, load_portable
from convscope.models.sigmoid import with_sigmoid
from convscope.models.transfer import TransferModel
from convscope.recipe import HeadSettings
from convscope.types import InputSpec

SPEC = InputSpec(8, 8, 3)
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    "name", ["cnn-sequential", "cnn-functional", "cnn-subclassing", "fast-small"]
)
def test_a_sigmoid_takes_the_place_of_the_softmax(name, tmp_path):
    def build():
        keras.utils.set_random_seed(1)
        return MODELS.get(name)(SPEC, 4)

    softmax = np.asarray(build().predict_on_batch(PIXELS), np.float64)
    changed = with_sigmoid(build())
    probs = np.asarray(changed.predict_on_batch(PIXELS), np.float64)
    # Logits of a softmax are known up to a number for each image.
    logits = np.log(probs) - np.log1p(-probs)
    expected = np.log(softmax)
    apart = logits - expected
    np.testing.assert_allclose(apart, apart.mean(axis=1, keepdims=True).repeat(4, 1), atol=1e-4)
    assert abs(probs.sum(axis=1) - 1).min() > 1e-3
    twin = PortableModel.of(name, SPEC, 4, multi_label=True)
    twin.save(changed.get_weights(), tmp_path / "model.keras")
    saved = load_portable(tmp_path / "model.keras").predict_on_batch(PIXELS)
    np.testing.assert_allclose(saved, probs, atol=1e-6)


def test_a_head_on_a_backbone_ends_in_it():
    transfer = TransferModel(
        "mobilenet_v2", InputSpec(32, 32, 3, "tf"), 4, HeadSettings(), activation="sigmoid"
    )
    for model in (transfer.whole, transfer.head):
        assert model.layers[-1].activation is keras.activations.sigmoid
    zeros = (np.zeros(5, np.float32), np.ones(5, np.float32))
    head = build_head((5,), HeadSettings(), 4, zeros, "sigmoid")
    head.set_weights([np.zeros((5, 4)), np.arange(4.0)])
    expected = 1 / (1 + np.exp(-np.arange(4.0)))
    np.testing.assert_allclose(head.predict_on_batch(np.zeros((1, 5)))[0], expected, rtol=1e-6)


def test_a_network_that_ends_otherwise_is_refused():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    with pytest.raises(ConfigError, match="does not end in a softmax, so it cannot be trained on"):
        with_sigmoid(model)
