"""How weights begin, against what whitening and dirac kernels promise."""

import keras
import numpy as np
import pytest

from convscope.errors import ConfigError
from convscope.models import MODELS
from convscope.recipe import StartSettings
from convscope.training.start import start_weights, whitening
from convscope.types import InputSpec, Split


def photos(n=60, side=16, channels=3) -> np.ndarray:
    """Images whose neighbouring pixels and channels go together, as in photographs."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(n, side // 4, side // 4, 1)).repeat(4, axis=1).repeat(4, axis=2)
    fine = rng.normal(size=(n, side, side, channels))
    return np.clip(128 + 40 * coarse + 8 * fine, 0, 255).astype(np.uint8)


def split(images) -> Split:
    n = len(images)
    return Split(images, np.zeros(n, np.int64), np.array([str(i) for i in range(n)]))


@pytest.mark.parametrize("channels", [1, 3])
def test_whitened_patches_are_uncorrelated_and_of_variance_one(channels):
    images = photos(channels=channels).astype("float32") / 255
    kernel, bias = whitening(images, 2)
    n = 4 * channels
    assert kernel.shape == (2, 2, channels, 2 * n)
    answers = keras.ops.convert_to_numpy(keras.ops.conv(images, kernel)) + bias
    flat = answers.reshape(-1, 2 * n)
    np.testing.assert_allclose(flat.mean(axis=0), 0, atol=1e-3)
    covariance = np.cov(flat[:, :n], rowvar=False)
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=2e-2)
    # Somewhat less than 1 where a direction hardly varies.
    assert 0.5 < np.diag(covariance).min() <= np.diag(covariance).max() < 1.01
    np.testing.assert_allclose(flat[:, n:], -flat[:, :n], atol=1e-4)


def test_a_network_gets_what_is_asked_for_and_nothing_else():
    spec = InputSpec(16, 16, 3)
    images = photos()

    def built(**settings) -> keras.Model:
        keras.utils.set_random_seed(83)
        model = MODELS.get("fast-small")(spec, 4)
        start_weights(model, StartSettings(**settings), split(images))
        return model

    plain, whitened, dirac = built(), built(whiten=True), built(dirac=True)
    differ = lambda model: {  # noqa: E731
        mine.path
        for mine, theirs in zip(model.weights, plain.weights, strict=True)
        if not np.array_equal(mine.numpy(), theirs.numpy())
    }
    assert differ(whitened) == {"whiten/kernel", "whiten/bias"}
    assert differ(dirac) == {f"block{n}{half}_conv/kernel" for n in (1, 2, 3) for half in "ab"}
    # What is set from the data stays; what was drawn learns.
    assert not whitened.get_layer("whiten").trainable
    assert plain.get_layer("whiten").trainable
    kernel = dirac.get_layer("block2b_conv").get_weights()[0]
    x = np.random.default_rng(0).normal(size=(2, 5, 5, 128)).astype("float32")
    np.testing.assert_allclose(keras.ops.conv(x, kernel, padding="same"), x, atol=1e-6)
    wider = dirac.get_layer("block2a_conv").get_weights()[0]
    drawn = plain.get_layer("block2a_conv").get_weights()[0]
    np.testing.assert_array_equal(wider[..., 32:], drawn[..., 32:])


def test_a_network_without_such_a_layer_is_told_so():
    model = MODELS.get("cnn-sequential")(InputSpec(16, 16, 3), 4)
    with pytest.raises(ConfigError, match=r"no layer to whiten.*start\.whiten=false") as caught:
        start_weights(model, StartSettings(whiten=True), split(photos()))
    assert "\n" not in str(caught.value)
