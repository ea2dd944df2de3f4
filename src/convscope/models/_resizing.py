"""Keras' Resizing layer without the work that changes nothing."""

from typing import Any

import keras


class Resizing(keras.layers.Resizing):
    """Bilinear, antialiased resizing in float32 that is free where there is nothing to resize.

    Keras' own layer resamples even an image that has the right size already. This one passes such
    an image on as it is, and leaves the antialiasing filter out when an image grows, where the
    filter is the identity. Both need the image size to be known when the graph is traced, as it
    is in training and prediction; where it is not, Keras' way is taken.

    The class carries the name of its parent, so a saved model holds Keras' plain layer, which
    gives the same values (when enlarging, to float32 rounding) and needs no convscope to load.
    """

    __module__ = "keras.layers"

    def transform_images(
        self, images: Any, transformation: Any = None, training: bool = True
    ) -> Any:
        """Resize images of shape (..., height, width, channels) to float32, values kept in range.

        Integer pixels are cast first: resized values are fractions and must not be rounded.
        """
        del transformation, training
        images = self.backend.cast(images, self.compute_dtype)
        # A side that is not known while tracing is None in TensorFlow and a symbol in JAX.
        rows, columns = images.shape[-3], images.shape[-2]
        known = isinstance(rows, int) and isinstance(columns, int)
        if known and (rows, columns) == (self.height, self.width):
            return images
        growing = known and rows <= self.height and columns <= self.width
        return self.backend.image.resize(
            images,
            size=(self.height, self.width),
            interpolation=self.interpolation,
            antialias=self.antialias and not growing,
            data_format=self.data_format,
        )
