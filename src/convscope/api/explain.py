"""Explanation of a run's answer for an image."""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from convscope.classifier.decisions import logits_of, sigmoid
from convscope.classifier.spec import ClassifierSpec
from convscope.errors import ImageError
from convscope.explain.explanation import Explanation, LayerOutput
from convscope.paths import path_or_none, short_name
from convscope.planning.plan import run_config
from convscope.progress import Progress, console_progress
from convscope.report.page import Page, Picture
from convscope.run import Run
from convscope.storage import require_outside
from convscope.types import ImagePrediction, UnreadableImage
from convscope.wording import printable, sureness

if TYPE_CHECKING:
    import keras

    from convscope.explorer.payload import Subject

_N_MAPS = 8
"""Number of channels of each layer that are drawn."""


def explain(
    run: Run | Path | str,
    images: Path | str | Iterable[Path | str],
    *,
    class_name: str | None = None,
    layer: str | None = None,
    weights: str | None = None,
    out: Path | str | None = None,
    explorer: bool | None = None,
    progress: Progress | None = None,
) -> list[Explanation | UnreadableImage]:
    """Look inside a run's network as it classifies images: a page for each.

    The page has the answer; the evidence for it, by Grad-CAM and by covering parts of the image;
    and the output of each layer, with the arithmetic of its size. The explorer, a second page, is
    the network to play with: each value of each feature map, number by number.

    Args:
        run: Run or its folder.
        images: Files, folders (searched for images) and glob patterns.
        class_name: Class to explain; None takes the answer.
        layer: Layer whose feature map Grad-CAM uses, as in `convscope models show`; None takes the
            last one that is larger than a point.
        weights: "best", "last" or "refit"; None takes the recipe's choice.
        out: Folder for the pages; None takes `explanations` in the run's folder. A page is named
            after its file; where another image's page has that name, a digest of the pixels is
            added.
        explorer: Whether to write the explorer too, up to 15 MB per image; None writes it if there
            is one image.
        progress: Called with each image; None draws on standard error.

    Returns:
        For each image in order, its explanation, or the reason why it could not be read.

    Raises:
        RunError: If there is no such run or no such weights.
        DataError: If a path does not exist, or nothing matches.
        UnknownNameError: If there is no such class or layer.
    """
    from convscope.api.explanation_page import page_name
    from convscope.classifier.keras_model import open_classifier, unevaluated_note
    from convscope.explain.filters import first_filters
    from convscope.explain.forward import activations
    from convscope.explain.gradcam import gradcam, last_map
    from convscope.explain.layers import shown_layers
    from convscope.explain.occlusion import occlusion
    from convscope.explorer.document import write_explorer
    from convscope.explorer.payload import build_payload
    from convscope.images.find import find_images
    from convscope.models.geometry import geometry
    from convscope.report.page import write_page

    progress = progress or console_progress()
    run = Run.open(run)
    names = run.class_names
    if class_name is not None:
        class_name = run.class_called(class_name)
    files = find_images(images)
    classifier = open_classifier(run, weights)
    if note := unevaluated_note(run, weights):
        progress.say(note)
    # Its inside is shown for the image itself, which is one of the views of the answer.
    network = cast("keras.Model", classifier.network)
    config = run_config(run)
    shown = shown_layers(geometry(network), config.model)
    folder = run.explanations_dir
    if (place := path_or_none(out, "--out")) is not None:
        folder = require_outside(place, config.data_path)
    with_explorer = len(files) == 1 if explorer is None else explorer
    explanations: list[Explanation | UnreadableImage] = []
    where, filters = layer, None
    with progress.task("Explaining", len(files), "images") as step:
        for file in files:
            try:
                image = classifier.decode(file)
            except ImageError as error:
                explanations.append(UnreadableImage(file, str(error)))
                step(1)
                continue
            said = classifier.answer(file, classifier.predict_on_batch(image[None])[0])
            about = names.index(class_name or said.class_name)
            values = activations(network, image[None])
            # They depend on the network alone: any image serves.
            where = where or last_map(network, image[None])
            filters = filters or first_filters(network, image[None])
            page = folder / f"{short_name(page_name(file, files), 200)}.html"
            explanation = Explanation(
                prediction=said,
                class_name=names[about],
                image=image,
                layer=where,
                gradcam=gradcam(network, image, about, layer=where),
                occlusion=occlusion(classifier, image, about),
                steps=tuple(LayerOutput.of(row, values[row.name][0], _N_MAPS) for row in shown),
                filters=filters,
                page=page,
                explorer=_explorer_beside(page) if with_explorer else None,
            )
            explanation, shown_page = _placed(explanation, run.name)
            if explanation.explorer:
                subject = _subject(file, said, classifier.spec, run.name, names, config.model)
                write_explorer(build_payload(network, image, subject), explanation.explorer)
            write_page(shown_page, explanation.page)
            explanations.append(explanation)
            step(1)
    return explanations


def _explorer_beside(page: Path) -> Path:
    """Return the place of the explorer of a page."""
    return page.with_name(f"{page.stem}-explorer.html")


def _placed(explanation: Explanation, run_name: str) -> tuple[Explanation, Page]:
    """Return an explanation in a place that no other image's page has, and its page."""
    from convscope.api.explanation_page import explanation_page

    shown = explanation_page(explanation, run_name)
    if not _is_of_another(explanation.page, shown):
        return explanation, shown
    digest = hashlib.sha256(explanation.image.tobytes()).hexdigest()[:8]
    page = explanation.page.with_name(f"{explanation.page.stem}-{digest}.html")
    explorer = None if explanation.explorer is None else _explorer_beside(page)
    explanation = replace(explanation, page=page, explorer=explorer)
    return explanation, explanation_page(explanation, run_name)


def _is_of_another(place: Path, page: Page) -> bool:
    """Return whether the page that is at a place already shows another image than a new one."""
    try:
        before = place.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    # The first picture is the image as the network gets it.
    pictures = (block for part in page.sections for block in part.blocks)
    return next(each.source for each in pictures if isinstance(each, Picture)) not in before


def _subject(
    file: Path,
    said: ImagePrediction,
    spec: ClassifierSpec,
    run_name: str,
    names: list[str],
    model: str,
) -> "Subject":
    """Return what an explorer says of image and network."""
    from convscope.explorer.payload import Subject
    from convscope.models import is_backbone
    from convscope.models.backbones import BACKBONES

    return Subject(
        run=run_name,
        model=model,
        file=printable(file.name),
        class_names=names,
        answer=_of_predict(said, spec),
        thresholds=_of_network(spec),
        stages=BACKBONES.get(model).stages if is_backbone(model) else {},
        fit=spec.fit,
    )


def _of_network(spec: ClassifierSpec) -> list[float] | None:
    """Return the thresholds as probabilities before the temperature, if there are any."""
    if not spec.multi_label:
        return None
    logits = logits_of(np.asarray(spec.thresholds)) * spec.temperature
    return [float(each) for each in sigmoid(logits)]


def _of_predict(said: ImagePrediction, spec: ClassifierSpec) -> str:
    """Return a sentence where `predict` does more than run the network on the image."""
    parts = ["the mean over several views of the image"] if spec.views.several else []
    parts += [f"the temperature {spec.temperature:.3g}"] if spec.temperature != 1 else []
    if not parts or not said.probs:
        return ""
    sure = sureness(max(said.probs.values()), 1)
    return f"With {' and '.join(parts)}, predict says {said.answer} ({sure})."
