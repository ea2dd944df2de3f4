"""The filters of the first convolution, which look directly at pixels."""

from typing import TYPE_CHECKING, Any

import numpy as np

from convscope.errors import ShapeError
from convscope.explain.forward import run_layers
from convscope.types import FloatArray, UInt8Array

if TYPE_CHECKING:
    import keras


def first_filters(network: "keras.Model", pixels: UInt8Array) -> tuple[str, FloatArray]:
    """Return the filters of the first convolution, as pictures.

    Args:
        network: Built network in any style, on raw pixels.
        pixels: Shape (n_images, height, width, channels), uint8; any image serves.

    Returns:
        The name of the layer, and an array of shape (n_filters, rows, columns, channels) in [0, 1],
        each filter stretched to its own range; 0.5 stands for a weight of 0.

    Raises:
        ShapeError: If the network has no convolution.
    """
    import keras

    convolutions: list[tuple[str, Any]] = []

    def look(name: str, operation: Any, output: Any) -> Any:
        if isinstance(operation, keras.layers.Conv2D):
            convolutions.append((name, operation))
        return output

    run_layers(network, pixels[:1], look)
    if not convolutions:
        raise ShapeError(f"'{network.name}' has no convolution")
    name, layer = convolutions[0]
    # (rows, columns, channels, filters)
    kernel = np.asarray(keras.ops.convert_to_numpy(layer.kernel), dtype=np.float32)
    filters = np.moveaxis(kernel, -1, 0)
    reach = np.abs(filters).max(axis=(1, 2, 3), keepdims=True)
    return name, 0.5 + 0.5 * filters / np.maximum(reach, 1e-12)
