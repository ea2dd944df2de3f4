"""Networks that learn CIFAR-10 quickly, in three widths and a deeper one.

Dense 3x3 convolutions, since depthwise ones leave a CPU's arithmetic units idle; few layers, since
each normalisation and activation is another pass over memory; SiLU, which gained half a point over
ReLU on CIFAR-10 for 15 % more time (GELU costs twice as much on a CPU).

    layer            32x32 image   medium: features
    resize, rescale  32 x 32                   3
    whiten           31 x 31                  24   2x2 patches, set from the data, not trained
    block1           15 x 15                  64   conv, pool, norm, silu, conv, norm, silu
    block2             7 x 7                 256
    block3             3 x 3                 256
                                                 deep: another conv, norm in each block, whose
                                                 result is added to the first half's
    pool                                     256   the maximum of each feature
    probs                                     10

References:
    Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024, for the shape of the networks;
    Page, "How to Train Your ResNet", 2018, for whitening, the early pool and the scaled output.
"""

from typing import TYPE_CHECKING

from convscope.models import MODELS
from convscope.models.cnn import check_input
from convscope.models.preprocessing import preprocessing_layers
from convscope.types import InputSpec

if TYPE_CHECKING:
    import keras

WHITEN = "whiten"
"""Name of the layer whose kernels are set from training images."""

_PATCH = 2
_LOGIT_SCALE = 1 / 9
"""Factor that keeps the first predictions modest, so that a high learning rate does no harm."""


@MODELS.register("fast-small")
def build_small(spec: InputSpec, n_classes: int) -> "keras.Model":
    """Fast CNN, 32-128-128 channels.

    Args:
        spec: Size, channels and scaling that the network works at; sides of 2 or more.
        n_classes: Number of classes, at least 2.

    Returns:
        A model from pixels (batch, any height, any width, channels) in 0..255 to probabilities
        (batch, n_classes), float32, rows sum to 1.

    Raises:
        ConfigError: If the image is too small or there are too few classes.
    """
    return _build(spec, n_classes, (32, 128, 128), "fast_small")


@MODELS.register("fast-medium")
def build_medium(spec: InputSpec, n_classes: int) -> "keras.Model":
    """Fast CNN, 64-256-256 channels.

    Args:
        spec: Size, channels and scaling that the network works at; sides of 2 or more.
        n_classes: Number of classes, at least 2.

    Returns:
        A model as from `build_small`.

    Raises:
        ConfigError: If the image is too small or there are too few classes.
    """
    return _build(spec, n_classes, (64, 256, 256), "fast_medium")


@MODELS.register("fast-large")
def build_large(spec: InputSpec, n_classes: int) -> "keras.Model":
    """Fast CNN, 128-384-384 channels.

    Args:
        spec: Size, channels and scaling that the network works at; sides of 2 or more.
        n_classes: Number of classes, at least 2.

    Returns:
        A model as from `build_small`.

    Raises:
        ConfigError: If the image is too small or there are too few classes.
    """
    return _build(spec, n_classes, (128, 384, 384), "fast_large")


@MODELS.register("fast-deep")
def build_deep(spec: InputSpec, n_classes: int) -> "keras.Model":
    """Fast residual CNN, 128-384-512 channels, ten layers.

    Args:
        spec: Size, channels and scaling that the network works at; sides of 2 or more.
        n_classes: Number of classes, at least 2.

    Returns:
        A model as from `build_small`.

    Raises:
        ConfigError: If the image is too small or there are too few classes.
    """
    return _build(spec, n_classes, (128, 384, 512), "fast_deep", residual=True)


def _build(
    spec: InputSpec, n_classes: int, widths: tuple[int, ...], name: str, *, residual: bool = False
) -> "keras.Model":
    import keras
    from keras import layers

    check_input(spec, n_classes, smallest=_PATCH, because=f"looks at patches of {_PATCH}x{_PATCH}")
    pixels = keras.Input((None, None, spec.channels), name="pixels")
    x = pixels
    for layer in preprocessing_layers(spec):
        x = layer(x)
    # Each direction of a patch with both signs, so that ReLU loses nothing.
    x = layers.Conv2D(
        2 * _PATCH**2 * spec.channels, _PATCH, activation="relu", trainable=False, name=WHITEN
    )(x)
    first = x
    for number, width in enumerate(widths, 1):
        for part in "abc" if residual else "ab":
            step = f"block{number}{part}"
            x = layers.Conv2D(width, 3, padding="same", use_bias=False, name=f"{step}_conv")(x)
            if part == "a":
                # Before the normalisation, which then has a quarter of the work. "same" leaves a
                # pixel of the smallest images.
                padding = "valid" if min(x.shape[1:3]) > 1 else "same"
                x = layers.MaxPooling2D(2, padding=padding, name=f"{step}_pool")(x)
            x = layers.BatchNormalization(
                momentum=0.6, epsilon=1e-5, scale=False, name=f"{step}_norm"
            )(x)
            if part == "c":
                x = layers.Add(name=f"block{number}_add")([x, first])
            x = layers.Activation("silu", name=f"{step}_silu")(x)
            if part == "a":
                first = x
    x = layers.GlobalMaxPooling2D(name="pool")(x)
    x = layers.Dense(n_classes, use_bias=False, dtype="float32", name="logits")(x)
    x = layers.Rescaling(_LOGIT_SCALE, dtype="float32", name="modest")(x)
    probs = layers.Softmax(dtype="float32", name="probs")(x)
    return keras.Model(pixels, probs, name=name)
