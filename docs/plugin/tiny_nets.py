"""A model in a package of its own."""

from typing import Any

from convscope.models import MODELS
from convscope.models.preprocessing import preprocessing_layers
from convscope.types import InputSpec


@MODELS.register("tiny-residual")
def build_tiny_residual(spec: InputSpec, n_classes: int) -> Any:
    """A small network with one shortcut.

    Args:
        spec: Size, channels and scaling that the network works at.
        n_classes: At least 2.
    """
    # Inside the function: names are listed without Keras.
    import keras
    from keras.layers import Add, Conv2D, Dense, GlobalAveragePooling2D

    pixels = x = keras.Input((None, None, spec.channels), name="pixels")
    for layer in preprocessing_layers(spec):
        x = layer(x)
    x = Conv2D(32, 3, strides=2, padding="same", activation="relu", name="conv1")(x)
    x = Add(name="sum")([x, Conv2D(32, 3, padding="same", activation="relu", name="conv2")(x)])
    x = GlobalAveragePooling2D(name="mean")(x)
    probs = Dense(n_classes, activation="softmax", dtype="float32", name="probs")(x)
    return keras.Model(pixels, probs, name="tiny_residual")
