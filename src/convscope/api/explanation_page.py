"""The page that explains a network's answer for one image."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from convscope.explain.explanation import Explanation, LayerOutput
from convscope.explain.pictures import enlarged, feature_map, filter_of, grid, overlaid, strip
from convscope.explain.words import LEAST_LOSS, layer_in_words, loss_in_words, place
from convscope.report.page import Block, Link, Page, Picture, Section, Table, Text
from convscope.types import ImagePrediction
from convscope.wording import printable, sureness

_TOP = 5


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
    best = [[label, sureness(prob, 1)] for label, prob in said.top(_TOP)]
    seen: list[Block] = [
        _picture(
            enlarged(it.image),
            f"The image at {width} x {height} pixels.",
            f"What the network sees: {width} x {height} pixels.",
        ),
        Table(("class", "probability"), best, "The most probable classes"),
    ]
    if it.explorer:
        words = "Open the explorer: each value of each layer, number by number, and a workbench."
        seen.append(Link(it.explorer.name, words))
    found = f"Evidence for {name} lies {place(it.gradcam)}."
    if not it.gradcam.any():
        # It sees one layer, and what raises the score there; occlusion may well find evidence.
        found = f"Grad-CAM finds no evidence for {name} at this layer."
    why: list[Block] = [
        _picture(
            overlaid(it.image, it.gradcam),
            f"The image, highlighted where Grad-CAM finds evidence for {name}. {found}",
            found,
            f"Grad-CAM at {it.layer}, {it.gradcam.shape[0]} x {it.gradcam.shape[1]}.",
        ),
        _picture(
            overlaid(it.image, np.maximum(it.occlusion, 0), least=LEAST_LOSS),
            f"The image, highlighted where covering it makes {name} less probable.",
            loss_in_words(it.occlusion, name),
            "A grey square of a quarter of the side moves over it; highlights show the loss.",
        ),
    ]
    filters, kernels = it.filters
    n_filters, rows, columns, channels = kernels.shape
    first: list[Block] = []
    if channels in (1, 3):
        first.append(
            _picture(
                grid([filter_of(kernel) for kernel in kernels[:64]]),
                f"{min(64, n_filters)} filters of {rows} x {columns} pixels.",
                f"The first convolution, {filters}, looks for these {n_filters} patterns.",
                "Each filter stretched to its own range; middle grey is a weight of zero.",
            )
        )
    file = printable(said.path.name) if said.path else "An image"
    return Page(
        title=f"{file}, explained by {run}",
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
        return f"Classified as {said.class_name} with {sureness(sure, 1)} confidence."
    named = ", ".join(f"{name} ({sureness(said.probs[name], 1)})" for name in said.class_names)
    return f"Predicted classes: {named or said.answer}."


def page_name(file: Path, files: Sequence[Path]) -> str:
    """Return the name of an image's page; with the folder's, where names repeat."""
    if sum(other.name == file.name for other in files) == 1:
        twins = sum(other.stem == file.stem for other in files) > 1
        return file.name.replace(".", "-") if twins else file.stem
    return f"{file.parent.name}-{file.name.replace('.', '-')}"


def _explained(step: LayerOutput) -> Picture:
    geometry = step.geometry
    n = len(step.maps)
    before, after = (" x ".join(map(str, s)) for s in (geometry.input_shape, geometry.output_shape))
    caption = f"{geometry.name}: {layer_in_words(geometry)}. {before} becomes {after}."
    more = [f"{geometry.formula}."] if geometry.formula else []
    if geometry.receptive_field is not None:
        high, wide = geometry.receptive_field
        more.append(f"Each value depends on {high} x {wide} pixels.")
    if step.idle:
        more.append(f"{step.idle:.0%} of its channels are constant over this image.")
    tiles = strip([feature_map(each) for each in step.maps])
    alt = f"{n} feature maps of {geometry.name}, {geometry.output_shape[0]} x "
    return _picture(tiles, f"{alt}{geometry.output_shape[1]} values each.", caption, " ".join(more))


def _nothing() -> Text:
    return Text("This network has no layer with a feature map to show.")


def _picture(pixels: Any, alt: str, caption: str, legend: str = "") -> Picture:
    from PIL import Image

    held = io.BytesIO()
    Image.fromarray(pixels).save(held, format="PNG")
    source = "data:image/png;base64," + base64.b64encode(held.getvalue()).decode("ascii")
    return Picture(source, alt, caption, int(pixels.shape[1]), legend)
