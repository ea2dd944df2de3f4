"""Initial weights of a network: whitened patches, convolutions that pass their input on."""

from typing import TYPE_CHECKING, Any

import numpy as np

from convscope.errors import ConfigError
from convscope.models.cnn.fast import WHITEN
from convscope.recipe import StartSettings
from convscope.types import FloatArray, Split, evenly_spread

if TYPE_CHECKING:
    import keras

_N_PATCHES = 1_000_000
"""Approximate number of patches to use; more do not change the directions."""

_FLOOR = 5e-4
"""Added to the variance of each direction, so that noise is not blown up."""


def start_weights(model: "keras.Model", settings: StartSettings, train: Split) -> None:
    """Set the weights that the settings name; all others stay as the layers drew them.

    Args:
        model: Built model before training.
        settings: Kinds of initialisation.
        train: Training images, of which a fixed choice is used.

    Raises:
        ConfigError: If the model has no layer that can be whitened.
    """
    import keras

    if settings.whiten:
        _whiten(model, patch_layer(model), train)
    else:
        for layer in model.layers:
            if layer.name == WHITEN:
                layer.trainable = True  # random patches still have to be trained
    if settings.dirac:
        for layer in model.layers:
            if type(layer) is keras.layers.Conv2D and layer.name != WHITEN:
                kernel, *rest = layer.get_weights()
                layer.set_weights([_dirac(kernel), *rest])


def patch_layer(model: "keras.Model") -> Any:
    """Return the layer of a network whose kernels can be set from patches.

    Raises:
        ConfigError: If it has no such layer.
    """
    for layer in model.layers:
        if layer.name == WHITEN:
            return layer
    raise ConfigError(
        f"{model.name} has no layer to whiten patches with; use --set start.whiten=false, or a "
        "network that has one, such as fast-medium"
    )


def _whiten(model: "keras.Model", layer: Any, train: Split) -> None:
    import keras

    seen = keras.Model(model.input, layer.input)
    n_images = max(1, _N_PATCHES // (layer.input.shape[1] * layer.input.shape[2]))
    place = evenly_spread(len(train), n_images)
    images = np.asarray(seen.predict_on_batch(np.ascontiguousarray(train.images[place])))
    kernel, bias = whitening(images.astype(np.float32), layer.kernel_size[0])
    layer.set_weights([kernel, bias])


def whitening(images: FloatArray, side: int) -> tuple[FloatArray, FloatArray]:
    """Return kernels that turn patches into uncorrelated numbers of variance 1, in both signs.

    Args:
        images: Shape (n_images, height, width, channels).
        side: Side of a patch, in pixels.

    Returns:
        A kernel of shape (side, side, channels, 2 * side * side * channels) and the bias that
        makes the mean of each number 0.

    References:
        Page, "How to Train Your ResNet 8", 2019.
    """
    windows = np.lib.stride_tricks.sliding_window_view(images, (side, side), axis=(1, 2))
    # (n_images, rows, columns, channels, side, side) -> (n_patches, side * side * channels)
    patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, side * side * images.shape[-1])
    mean = patches.mean(axis=0, dtype=np.float64)
    covariance = np.cov(patches, rowvar=False, dtype=np.float64)
    variances, directions = np.linalg.eigh(np.atleast_2d(covariance))
    whitened = directions / np.sqrt(variances + _FLOOR)
    both = np.concatenate([whitened, -whitened], axis=1)
    kernel = both.reshape(side, side, images.shape[-1], -1)
    return kernel.astype(np.float32), (-mean @ both).astype(np.float32)


def _dirac(kernel: FloatArray) -> FloatArray:
    """Return a kernel whose first outputs are its inputs; the other outputs stay as drawn.

    References:
        Zagoruyko and Komodakis, "DiracNets", 2017.
    """
    rows, columns, n_inputs, n_outputs = kernel.shape
    for channel in range(min(n_inputs, n_outputs)):
        kernel[:, :, :, channel] = 0
        kernel[rows // 2, columns // 2, channel, channel] = 1
    return kernel
