"""The tutorial's CNN in the Sequential style: a plain list of layers, one after the other."""

from typing import TYPE_CHECKING

from convscope.models import MODELS
from convscope.models.cnn import check_input
from convscope.models.preprocessing import preprocessing_layers
from convscope.types import InputSpec

if TYPE_CHECKING:
    import keras


@MODELS.register("cnn-sequential")
def build_sequential(spec: InputSpec, n_classes: int) -> "keras.Model":
    """The tutorial's CNN as a list of layers (Sequential style).

    The shortest way to write a network whose layers form one chain. It cannot branch.

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
    return keras.Sequential(
        [
            keras.Input((None, None, spec.channels), name="pixels"),
            *preprocessing_layers(spec),
            Conv2D(32, (3, 3), padding="same", activation="relu", name="conv1"),
            MaxPooling2D((2, 2), name="pool1"),
            Conv2D(64, (3, 3), padding="same", activation="relu", name="conv2"),
            MaxPooling2D((2, 2), name="pool2"),
            Conv2D(64, (3, 3), padding="same", activation="relu", name="conv3"),
            Flatten(name="flatten"),
            Dense(128, activation="relu", name="dense"),
            # Probabilities need float32 even where the rest computes in bfloat16.
            Dense(n_classes, activation="softmax", dtype="float32", name="probs"),
        ],
        name="cnn_sequential",
    )
