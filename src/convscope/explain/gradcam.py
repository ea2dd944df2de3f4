"""Grad-CAM: which part of an image speaks for a class."""

from typing import TYPE_CHECKING, Any

import numpy as np

from convscope.errors import ShapeError
from convscope.explain.forward import Tensor, run_layers, score_and_gradient
from convscope.types import FloatArray, UInt8Array

if TYPE_CHECKING:
    import keras


def gradcam(
    network: "keras.Model", image: UInt8Array, class_index: int, *, layer: str | None = None
) -> FloatArray:
    """Return how much each part of an image speaks for a class.

    The channels of a late feature map are added up, each weighted by how much the class's score
    grows with it; what speaks against the class is left out.

    Args:
        network: Built, in any style, with a backbone inside or not; raw pixels go in.
        image: Shape (height, width, channels), uint8.
        class_index: The class.
        layer: Whose feature map is looked at, by its name in the geometry sheet; None is the last
            one that is larger than a point.

    Returns:
        Shape (rows, columns) of that feature map, in [0, 1]: 1 where most speaks for the class. All
        0 where nothing does.

    Raises:
        ShapeError: If no feature map is larger than a point.
        UnknownNameError: If there is no such layer.

    References:
        Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
        Localization", ICCV 2017.
    """
    pixels = image[None]
    layer = layer or last_map(network, pixels)
    values, gradient = score_and_gradient(network, pixels, layer, class_index)
    weights = gradient.mean(axis=(1, 2), keepdims=True)  # (1, 1, 1, channels)
    heat = np.maximum((weights * values).sum(axis=-1)[0], 0)  # (rows, columns)
    top = float(heat.max())
    return np.asarray(heat / top if top > 0 else heat, dtype=np.float32)


def last_map(network: "keras.Model", pixels: UInt8Array) -> str:
    """Return the name of the last layer whose output is a map, larger than a point.

    Args:
        network: As for `gradcam`.
        pixels: Shape (n_images, height, width, channels), uint8.

    Raises:
        ShapeError: If there is none.
    """
    import keras

    maps = []

    def look(name: str, operation: Any, output: Tensor) -> Tensor:
        # Padding shows nothing of its own.
        padding = isinstance(operation, keras.layers.ZeroPadding2D)
        if len(output.shape) == 4 and output.shape[1] * output.shape[2] > 1 and not padding:
            maps.append(name)
        return output

    run_layers(network, pixels[:1], look)
    if not maps:
        raise ShapeError(f"'{network.name}' has no feature map that is larger than a point")
    return maps[-1]
