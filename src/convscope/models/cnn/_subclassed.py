"""The class behind `cnn-subclassing`: layers are created in `__init__` and joined in `call`."""

from typing import Any

import keras
from keras.layers import Conv2D, Dense, Flatten, MaxPooling2D

from convscope.models.preprocessing import preprocessing_layers
from convscope.types import InputSpec


class SubclassedCNN(keras.Model):
    """The tutorial's CNN as a class.

    Args:
        spec: Size, channels and scaling that the network works at.
        n_classes: Number of classes, at least 2.
    """

    def __init__(self, spec: InputSpec, n_classes: int) -> None:
        # No autocast: in a bfloat16 policy it would round the raw pixels before they are resized.
        super().__init__(name="cnn_subclassing", autocast=False)
        self.preprocessing = preprocessing_layers(spec)
        self.conv1 = Conv2D(32, (3, 3), padding="same", activation="relu", name="conv1")
        self.pool1 = MaxPooling2D((2, 2), name="pool1")
        self.conv2 = Conv2D(64, (3, 3), padding="same", activation="relu", name="conv2")
        self.pool2 = MaxPooling2D((2, 2), name="pool2")
        self.conv3 = Conv2D(64, (3, 3), padding="same", activation="relu", name="conv3")
        self.flatten = Flatten(name="flatten")
        self.dense = Dense(128, activation="relu", name="dense")
        # Probabilities need float32 even where the rest computes in bfloat16.
        self.probs = Dense(n_classes, activation="softmax", dtype="float32", name="probs")

    def call(self, pixels: Any) -> Any:
        """Turn pixels (batch, height, width, channels) into probabilities (batch, n_classes)."""
        x = pixels
        for layer in self.preprocessing:
            x = layer(x)
        x = self.conv1(x)
        x = self.pool1(x)
        x = self.conv2(x)
        x = self.pool2(x)
        x = self.conv3(x)
        x = self.flatten(x)
        x = self.dense(x)
        return self.probs(x)
