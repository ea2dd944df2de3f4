"""The explanation of a network's answer for one image: what a page shows."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convscope.models.geometry import LayerGeometry
from convscope.types import FloatArray, ImagePrediction, UInt8Array


@dataclass(frozen=True)
class LayerOutput:
    """Output of a layer for the image.

    Attributes:
        geometry: Geometry of the layer.
        maps: Shape (n, rows, columns): the channels that vary most over the image.
        idle: Share of its channels that are constant over the image.
    """

    geometry: LayerGeometry
    maps: FloatArray
    idle: float

    @classmethod
    def of(cls, geometry: LayerGeometry, values: FloatArray, n: int) -> "LayerOutput":
        """Return the picture data of a layer's output.

        Args:
            geometry: Geometry of the layer.
            values: Shape (rows, columns, channels).
            n: Number of channels to keep.
        """
        spread = values.std(axis=(0, 1))
        most = np.argsort(-spread, kind="stable")[:n]
        return cls(geometry, np.moveaxis(values[..., most], -1, 0), float((spread == 0).mean()))


@dataclass(frozen=True)
class Explanation:
    """Explanation of a network's answer for an image.

    Attributes:
        prediction: Prediction of the network.
        class_name: Class that is explained.
        image: Shape (height, width, channels), uint8, as the network received it.
        layer: Name of the layer behind Grad-CAM.
        gradcam: Shape (rows, columns), in [0, 1]; see `explain.gradcam`.
        occlusion: Shape (n, n), in [-1, 1]; see `explain.occlusion`.
        steps: Output of each layer, in the order of the data.
        filters: Name of the first convolution, and its filters; see `explain.filters`.
        page: Path of the page.
        explorer: Path of the explorer, beside the page; None without one.
    """

    prediction: ImagePrediction
    class_name: str
    image: UInt8Array
    layer: str
    gradcam: FloatArray
    occlusion: FloatArray
    steps: tuple[LayerOutput, ...]
    filters: tuple[str, FloatArray]
    page: Path
    explorer: Path | None = None
