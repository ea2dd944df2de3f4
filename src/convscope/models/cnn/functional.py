"""The tutorial's CNN in the functional style: each layer is called on the output of another."""

from typing import TYPE_CHECKING

from convscope.models import MODELS
from convscope.models.cnn import check_input
from convscope.models.preprocessing import preprocessing_layers
from convscope.types import InputSpec

if TYPE_CHECKING:
    import keras


@MODELS.register("cnn-functional")
def build_functional(spec: InputSpec, n_classes: int) -> "keras.Model":
    """The tutorial's CNN as a graph of layers (functional style).

    Layers may branch and join, and Keras still knows the whole graph before any image has passed,
    so shapes can be listed and the model saved without its Python code.

    Args:
        spec: Size, channels and scaling that the network works at; sides of 4 or more.
        n_classes: Number of classes, at least 2.

    Returns:
        A model from pixels (batch, any height, any width, channels) in 0..255 to probabilities
        (batch, n_classes), float32, rows sum to 1. 582,026 parameters at 32x32x3, 10 classes.

    Raises:
        ConfigError: If the image is too small or there are too few classes.
    """
    import keras
    from keras.layers import Conv2D, Dense, Flatten, MaxPooling2D

    check_input(spec, n_classes)
    pixels = keras.Input((None, None, spec.channels), name="pixels")
    x = pixels
    for layer in preprocessing_layers(spec):
        x = layer(x)
    x = Conv2D(32, (3, 3), padding="same", activation="relu", name="conv1")(x)
    x = MaxPooling2D((2, 2), name="pool1")(x)
    x = Conv2D(64, (3, 3), padding="same", activation="relu", name="conv2")(x)
    x = MaxPooling2D((2, 2), name="pool2")(x)
    x = Conv2D(64, (3, 3), padding="same", activation="relu", name="conv3")(x)
    x = Flatten(name="flatten")(x)
    x = Dense(128, activation="relu", name="dense")(x)
    # Probabilities need float32 even where the rest computes in bfloat16.
    probs = Dense(n_classes, activation="softmax", dtype="float32", name="probs")(x)
    return keras.Model(pixels, probs, name="cnn_functional")
