"""The page that explains a network's answer for one image."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convscope.models.geometry import LayerGeometry
from convscope.report.page import Block, Link, Page, Picture, Section, Table, Text
from convscope.types import FloatArray, ImagePrediction, UInt8Array

_SIDE = 320
"""Side of the large pictures in pixels."""
_TILE, _GAP = 88, 6
"""Side of a feature map in a strip, and gap between two of them, in pixels."""
_TOP = 5


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


def explanation_page(explanation: Explanation, run: str) -> Page:
    """Return the page of an explanation.

    Args:
        explanation: Explanation to show.
        run: Name of the run.
    """
    it = explanation
    said, name = it.prediction, it.class_name
    sure = said.probs[said.class_name]
    height, width = it.image.shape[:2]
    best = [[label, f"{prob:.1%}"] for label, prob in said.top(_TOP)]
    seen: list[Block] = [
        _picture(
            _enlarged(it.image),
            f"The image at {width} x {height} pixels.",
            f"What the network sees: {width} x {height} pixels.",
        ),
        Table(("class", "probability"), best, "The most probable classes"),
    ]
    if it.explorer:
        words = "Open the explorer: each value of each layer, number by number, and a workbench."
        seen.append(Link(it.explorer.name, words))
    why: list[Block] = [
        _picture(
            _overlaid(it.image, it.gradcam),
            f"The image with the parts that speak for {name} highlighted, {place(it.gradcam)}.",
            f"Evidence for {name} lies {place(it.gradcam)}."
            if it.gradcam.any()
            else f"Nothing in this image speaks for {name}.",
            f"Grad-CAM at {it.layer}, {it.gradcam.shape[0]} x {it.gradcam.shape[1]}.",
        ),
        _picture(
            _overlaid(it.image, np.maximum(it.occlusion, 0)),
            f"The image, highlighted where covering it makes {name} less probable.",
            _lost(it.occlusion, name),
            "A grey square of a quarter of the side moves over it; highlights show the loss.",
        ),
    ]
    filters, kernels = it.filters
    n_filters, rows, columns, channels = kernels.shape
    first: list[Block] = []
    if channels in (1, 3):
        first.append(
            _picture(
                _grid([_small(kernel) for kernel in kernels[:64]]),
                f"{min(64, n_filters)} filters of {rows} x {columns} pixels.",
                f"The first convolution, {filters}, looks for these {n_filters} patterns.",
                "Each filter stretched to its own range; middle grey is a weight of zero.",
            )
        )
    name = said.path.name if said.path else "An image"
    return Page(
        title=f"{name}, explained by {run}",
        about="The answer, the evidence for it, and the output of each layer",
        verdict=_verdict(said, sure),
        sections=[
            Section("The answer", seen),
            Section(f"Evidence for {name}", why),
            *([Section("The first filters", first)] if first else []),
            Section("Layer by layer", [_explained(step) for step in it.steps] or [_nothing()]),
        ],
    )


def _verdict(said: ImagePrediction, sure: float) -> str:
    if said.thresholds is None:
        return f"Classified as {said.class_name} with {sure:.0%} confidence."
    named = ", ".join(f"{name} ({said.probs[name]:.0%})" for name in said.class_names)
    return f"Said to have: {named or said.answer}."


def place(heat: FloatArray) -> str:
    """Describe where in the image most of a map's weight lies.

    Examples:
        >>> heat = np.zeros((4, 4), np.float32)
        >>> heat[0, 3] = 1
        >>> place(heat), place(np.ones((4, 4), np.float32))
        ('in the upper right', 'all over the image')
    """
    total = float(heat.sum())
    if total <= 0:
        return "nowhere"
    rows, columns = heat.shape
    # If half of the weight takes more than a third of the image, it has no location.
    largest = np.sort(heat.ravel())[::-1].cumsum()
    if (int(np.searchsorted(largest, total / 2)) + 1) / heat.size > 1 / 3:
        return "all over the image"
    down = float((heat.sum(axis=1) * (np.arange(rows) + 0.5)).sum() / total / rows)
    across = float((heat.sum(axis=0) * (np.arange(columns) + 0.5)).sum() / total / columns)
    vertical = "upper" if down < 0.4 else "lower" if down > 0.6 else ""
    horizontal = "left" if across < 0.4 else "right" if across > 0.6 else ""
    if not vertical and not horizontal:
        return "in the middle"
    if not vertical:
        return f"on the {horizontal}"
    return f"in the {vertical} {horizontal or 'part'}"


def page_name(file: Path, files: Sequence[Path]) -> str:
    """Return the name of an image's page; with the folder's, where names repeat."""
    if sum(other.name == file.name for other in files) == 1:
        twins = sum(other.stem == file.stem for other in files) > 1
        return file.name.replace(".", "-") if twins else file.stem
    return f"{file.parent.name}-{file.name.replace('.', '-')}"


def _lost(occlusion: FloatArray, name: str) -> str:
    most = float(occlusion.max())
    if most < 0.01:
        return f"Covered anywhere, it stays {name}."
    where = place(np.maximum(occlusion, 0))
    return f"Covered {where}, {name} loses up to {100 * most:.0f} points of probability."


def _explained(step: LayerOutput) -> Picture:
    geometry = step.geometry
    n = len(step.maps)
    before, after = (" x ".join(map(str, s)) for s in (geometry.input_shape, geometry.output_shape))
    caption = f"{geometry.name}: {_does(geometry)}. {before} becomes {after}."
    more = [f"{geometry.formula}."] if geometry.formula else []
    if geometry.receptive_field is not None:
        high, wide = geometry.receptive_field
        more.append(f"Each value depends on {high} x {wide} pixels.")
    if step.idle:
        more.append(f"{step.idle:.0%} of its channels are constant over this image.")
    strip = _strip([_mapped(each) for each in step.maps])
    alt = f"{n} feature maps of {geometry.name}, {geometry.output_shape[0]} x "
    return _picture(strip, f"{alt}{geometry.output_shape[1]} values each.", caption, " ".join(more))


_VALUE_BY_VALUE = {
    "ReLU": "keeps positive values",
    "Activation": "its activation function, value by value",
}


def _does(geometry: LayerGeometry) -> str:
    """Describe a layer in a few words."""
    if geometry.kernel is None:
        return _VALUE_BY_VALUE.get(geometry.kind, geometry.kind)
    high, wide = geometry.kernel
    window = f"{high} x {wide}"
    step = (
        ""
        if geometry.stride is None or geometry.stride == (1, 1)
        else f", every {max(geometry.stride)}"
    )
    edge = ", zero padding" if geometry.padding not in (None, (0, 0)) else ""
    what = {
        "Conv2D": f"convolution with windows of {window}",
        "DepthwiseConv2D": f"convolution of each channel with windows of {window}",
        "SeparableConv2D": f"separable convolution with windows of {window}",
        "MaxPooling2D": f"the maximum of each {window}",
        "AveragePooling2D": f"the mean of each {window}",
    }.get(geometry.kind, f"{geometry.kind} with windows of {window}")
    return f"{what}{step}{edge}"


def _nothing() -> Text:
    return Text("This network has no layer with a feature map to show.")


def _mapped(values: FloatArray) -> UInt8Array:
    """Return a feature map as a picture of (tile, tile, 3)."""
    from matplotlib import colormaps

    low, high = float(values.min()), float(values.max())
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    coloured = (255 * np.asarray(colormaps["viridis"](scaled))[..., :3]).astype(np.uint8)
    return _resized(coloured, _TILE, _TILE)


def _small(kernel: FloatArray) -> UInt8Array:
    pixels = (255 * kernel).astype(np.uint8)
    return _resized(pixels if pixels.shape[-1] == 3 else pixels.repeat(3, axis=-1), 40, 40)


def _overlaid(image: UInt8Array, heat: FloatArray) -> UInt8Array:
    """Return the image with hot parts in colour, and the rest in grey."""
    from matplotlib import colormaps

    base = _enlarged(image)
    height, width = base.shape[:2]
    top = float(heat.max())
    scaled = heat / top if top > 0 else heat
    from PIL import Image

    wide = Image.fromarray(scaled.astype(np.float32)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    strength = np.clip(np.asarray(wide), 0, 1)
    colours = np.asarray(colormaps["inferno"](strength))[..., :3] * 255
    grey = base.mean(axis=-1, keepdims=True)
    share = 0.75 * strength[..., None]
    return np.asarray((1 - share) * (0.6 * grey + 0.4 * base) + share * colours, dtype=np.uint8)


def _enlarged(image: UInt8Array) -> UInt8Array:
    height, width = image.shape[:2]
    factor = _SIDE / max(height, width)
    rgb = image if image.shape[-1] == 3 else image.repeat(3, axis=-1)
    return _resized(rgb, round(factor * height), round(factor * width))


def _resized(pixels: UInt8Array, height: int, width: int) -> UInt8Array:
    from PIL import Image

    # The pixels of small images should be visible as such.
    small = max(pixels.shape[:2]) <= 128
    how = Image.Resampling.NEAREST if small else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(pixels).resize((width, height), how))


def _strip(tiles: list[UInt8Array]) -> UInt8Array:
    return _grid(tiles, columns=len(tiles))


def _grid(tiles: list[UInt8Array], columns: int = 16) -> UInt8Array:
    """Return pictures of equal size side by side on white."""
    side_y, side_x = tiles[0].shape[:2]
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    sheet = np.full(
        (rows * (side_y + _GAP) - _GAP, columns * (side_x + _GAP) - _GAP, 3), 255, np.uint8
    )
    for index, tile in enumerate(tiles):
        y, x = divmod(index, columns)
        top, left = y * (side_y + _GAP), x * (side_x + _GAP)
        sheet[top : top + side_y, left : left + side_x] = tile
    return sheet


def _picture(pixels: Any, alt: str, caption: str, legend: str = "") -> Picture:
    from PIL import Image

    held = io.BytesIO()
    Image.fromarray(pixels).save(held, format="PNG")
    source = "data:image/png;base64," + base64.b64encode(held.getvalue()).decode("ascii")
    return Picture(source, alt, caption, int(pixels.shape[1]), legend)
