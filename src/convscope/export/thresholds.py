"""Thresholds of a model in int8, by its own answers.

Its rounding moves features and probabilities, so that thresholds of the float32 model would reject
more images than they were chosen to.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from convscope.classifier.classify import Classifier
from convscope.classifier.rejection import LARGEST_DISTANCE, energy, least_familiarity
from convscope.classifier.shares import shares_of
from convscope.classifier.spec import ClassifierSpec
from convscope.evaluation.multi_label import choose_thresholds
from convscope.progress import Progress
from convscope.types import FloatArray, Images, Labels

_BATCH = 64


def outputs_of(
    exported: Classifier, images: Images, rows: npt.NDArray[np.intp], progress: Progress
) -> dict[str, FloatArray]:
    """Return what an exported model says of images: "probs", and "distance" if it rejects by it.

    Args:
        exported: Classifier of the exported file.
        images: Validation images.
        rows: Rows of `images` that it is asked about.
        progress: Called with each batch.
    """
    network: Any = exported.network
    names = ["probs", "distance"] if exported.spec.reject_above > 0 else ["probs"]
    found = []
    with progress.task("Thresholds of int8", len(rows), "images") as step:
        for start in range(0, len(rows), _BATCH):
            batch = images[rows[start : start + _BATCH]]
            found.append(network.outputs(batch, names))
            step(len(batch))
    return {name: np.concatenate([each[name] for each in found]) for name in names}


def with_own_thresholds(
    spec: ClassifierSpec,
    outputs: Mapping[str, FloatArray],
    labels: Labels,
    *,
    accepted: float,
    learnt: bool,
) -> ClassifierSpec:
    """Return a spec whose thresholds and shares are chosen as an evaluation of the model would.

    Args:
        spec: Spec with those of the float32 model; what it does not know stays unknown.
        outputs: What the model says of validation images, see `outputs_of`.
        labels: Labels of these.
        accepted: Share of validation images to accept.
        learnt: Whether the head has learnt these images. Then the threshold of the distance alone
            is chosen, which looks at features and not at answers.
    """
    own: dict[str, Any] = {}
    if spec.reject_above > 0:
        farthest = -least_familiarity(-outputs["distance"].astype(np.float64), accepted)
        own["reject_above"] = min(farthest, LARGEST_DISTANCE)
    if learnt:
        return dataclasses.replace(spec, **own)
    probs = outputs["probs"]
    if spec.reject_below > 0:
        own["reject_below"] = least_familiarity(energy(probs), accepted)
    if spec.multi_label:
        chosen = choose_thresholds(probs, labels)
        # Of a class without images here, nothing better is known.
        own["thresholds"] = tuple(np.where(labels.any(axis=0), chosen, spec.thresholds).tolist())
    if spec.val_shares.n_images:
        own["val_shares"] = shares_of(probs, own.get("thresholds", ()))
    return dataclasses.replace(spec, **own)
