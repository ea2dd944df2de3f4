"""Grad-CAM: the parts of an image that speak for a class."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from convscope.errors import ShapeError, UnknownNameError
from convscope.explain.forward import Tensor, run_layers, score_and_gradient
from convscope.types import FloatArray, UInt8Array

if TYPE_CHECKING:
    import keras

_N_LISTED = 24
"""Largest number of layers listed in an error."""


def gradcam(
    network: "keras.Model", image: UInt8Array, class_index: int, *, layer: str | None = None
) -> FloatArray:
    """Return how strongly each part of an image speaks for a class.

    The channels of a late feature map are summed, each weighted by the gradient of the class's
    logit; negative values, which speak against the class, are dropped.

    Args:
        network: Built network in any style, with or without a backbone inside, on raw pixels.
        image: Shape (height, width, channels), uint8.
        class_index: Index of the class.
        layer: Name of the layer whose feature map is used, as in the geometry sheet; None takes the
            last one with a map.

    Returns:
        Shape (rows, columns) of that feature map, in [0, 1]: 1 at the strongest evidence for the
        class. All 0 if there is none.

    Raises:
        ShapeError: If that layer, or every layer, lacks a feature map larger than a point; the
            message lists layers that have one.
        UnknownNameError: If there is no such layer.

    References:
        Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
        Localization", ICCV 2017.
    """
    pixels = image[None]
    layer = layer or last_map(network, pixels)
    try:
        values, gradient = score_and_gradient(network, pixels, layer, class_index)
    except UnknownNameError:
        raise UnknownNameError("layer", layer, map_layers(network, pixels)) from None
    if not _is_map(values.shape):
        raise ShapeError(_without_a_map(layer, values.shape[1:], map_layers(network, pixels)))
    weights = gradient.mean(axis=(1, 2), keepdims=True)  # (1, 1, 1, channels)
    heat = np.maximum((weights * values).sum(axis=-1)[0], 0)  # (rows, columns)
    top = float(heat.max())
    return np.asarray(heat / top if top > 0 else heat, dtype=np.float32)


def last_map(network: "keras.Model", pixels: UInt8Array) -> str:
    """Return the name of the last layer whose output is a map, larger than a point.

    Args:
        network: Network, as for `gradcam`.
        pixels: Shape (n_images, height, width, channels), uint8.

    Raises:
        ShapeError: If there is none.
    """
    maps = map_layers(network, pixels)
    if not maps:
        raise ShapeError(f"'{network.name}' has no feature map that is larger than a point")
    return maps[-1]


def map_layers(network: "keras.Model", pixels: UInt8Array) -> list[str]:
    """Return the names of the layers whose output is a map, larger than a point.

    Args:
        network: Network, as for `gradcam`.
        pixels: Shape (n_images, height, width, channels), uint8; at least one image.

    Returns:
        In the order of the data.
    """
    import keras

    maps = []

    def look(name: str, operation: Any, output: Tensor) -> Tensor:
        # Padding shows nothing of its own.
        padding = isinstance(operation, keras.layers.ZeroPadding2D)
        if _is_map(output.shape) and not padding:
            maps.append(name)
        return output

    run_layers(network, pixels[:1], look)
    return maps


def _is_map(shape: Sequence[int]) -> bool:
    """Return whether outputs of a shape, with the batch axis, distinguish places of the image."""
    return len(shape) == 4 and shape[1] * shape[2] > 1


def _without_a_map(layer: str, shape: Sequence[int], maps: Sequence[str]) -> str:
    if len(shape) == 3:
        found = "a map of a single point"
    else:
        found = f"{int(np.prod(shape))} numbers, not a map"
    if not maps:
        return f"layer '{layer}' gives {found}; no layer of this network gives a map"
    # A backbone has hundreds.
    shown = ", ".join(maps[-_N_LISTED:])
    more = f" or one of {len(maps) - _N_LISTED} before them" if len(maps) > _N_LISTED else ""
    return f"layer '{layer}' gives {found}; choose one of {shown}{more}"
