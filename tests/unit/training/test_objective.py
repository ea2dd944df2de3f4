"""What networks are trained for."""

import keras
import numpy as np
import pytest

from convscope.recipe import RunConfig
from convscope.training.fit import compile_at
from convscope.training.objective import merit

PROBS = np.array([[0.9, 0.2, 0.6], [0.4, 0.1, 0.7]], np.float32)


def compiled(**settings):
    """A network without weights of its own whose probabilities are its input."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Activation("linear")])
    compile_at(model, RunConfig(multi_label=True, **settings), 0.1)
    return model


@pytest.mark.parametrize(
    ("labels", "softly"),
    [
        (np.array([[1, 0, 0], [1, 0, 1]], np.uint8), {}),
        (np.array([[0.95, 0.05, 0.05], [0.95, 0.05, 0.95]]), {"label_smoothing": 0.1}),
    ],
)
def test_loss_and_right_decisions_are_means_over_images_and_classes(labels, softly):
    found = compiled(**softly).test_on_batch(PROBS, labels, return_dict=True)
    losses = -(labels * np.log(PROBS) + (1 - labels) * np.log(1 - PROBS))
    assert found["loss"] == pytest.approx(losses.mean(), rel=1e-5)
    # Of six decisions, that for the third class of the first image and the first of the second.
    assert found["accuracy"] == pytest.approx(4 / 6)


def test_the_best_epoch_is_that_of_the_lowest_loss():
    rows = [{"val_loss": 0.4, "val_accuracy": 0.8}, {"val_loss": 0.5, "val_accuracy": 0.9}]
    one, several = RunConfig(), RunConfig(multi_label=True)
    assert [merit(row, one) for row in rows] == [0.8, 0.9]
    assert merit(rows[0], several) > merit(rows[1], several)
