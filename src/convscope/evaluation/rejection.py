"""The threshold below which `predict --reject` answers that an image is of no class."""

import contextlib
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from convscope.classifier.familiarity import MOST_FEATURES, MOST_IMAGES, Familiarity
from convscope.classifier.keras_model import familiarity_of
from convscope.classifier.rejection import energy, least_familiarity
from convscope.errors import ReadOnlyError
from convscope.progress import Progress, WorkAlone
from convscope.run import Run
from convscope.types import PART_NAMES, Dataset, FloatArray, Split, evenly_spread

if TYPE_CHECKING:
    from convscope.evaluation.embedding import Embedder


def judge_familiarity(
    run: Run,
    which: str,
    embedder: "Embedder",
    accepted: float,
    dataset: Dataset,
    part: Split,
    name: str,
    progress: Progress,
) -> None:
    """Write, next to the weights, how unlike the training images an image may be.

    Args:
        run: Trained run.
        which: One of `run.WEIGHTS`.
        embedder: Classifier on a frozen backbone. Its predictions have just put the features of
            `part` into the cache; training those of the training images, unless it learnt changed
            ones, or in another precision.
        accepted: Share of validation images to accept.
        dataset: Dataset of the run.
        part: Validation images, which decide the threshold, or test images.
        name: "val" or "test".
        progress: Called with each batch that passes the backbone.
    """
    if len(embedder.feature_shape) != 1 or embedder.feature_shape[0] > MOST_FEATURES:
        return

    def features(split: Split, name: str) -> FloatArray:
        label = f"Features of {PART_NAMES[name]} images"
        # What is found in the cache has been said.
        return embedder.features_of(split, label, WorkAlone(progress))

    seen = features(part, name)
    known: Familiarity | None
    if name == "val":
        few = dataset.train.select(evenly_spread(len(dataset.train), MOST_IMAGES))
        known = Familiarity.of(features(few, "train"))
        farthest = -least_familiarity(-known.distances(seen), accepted)
        known = dataclasses.replace(
            known, farthest=farthest, weights_sha256=run.weights_sha256(which)
        )
    elif (known := familiarity_of(run, which)) is None:
        return
    shares = {**known.rejected, name: float(known.rejects(seen).mean())}
    # A run that cannot be written to is judged all the same, by energy.
    with contextlib.suppress(ReadOnlyError):
        dataclasses.replace(known, rejected=shares).write(run.familiarity_file(which))


def rejection_of(
    run: Run,
    which: str,
    probs: Mapping[str, FloatArray],
    accepted: float,
    *,
    multi_label: bool = False,
) -> dict[str, Any] | None:
    """Return the rule that rejects images of no class, for `metrics.json`.

    Args:
        run: Evaluated run.
        which: One of `run.WEIGHTS`.
        probs: Probabilities by part, "val" at least, as the classifier gives them.
        accepted: Share of validation images to accept.
        multi_label: Whether an image may have any number of classes: the probabilities of none of
            them say that it is a strange one, so there is no energy.

    Returns:
        "by": "distance" or "energy"; "threshold" of that; "least_energy", for who has no features;
        the share "rejected" by part. None if they cannot be told.
    """
    known = familiarity_of(run, which)
    if multi_label and known is None:
        return None
    least = 0.0 if multi_label else least_familiarity(energy(probs["val"]), accepted)
    if known is not None:
        shares = {name: known.rejected[name] for name in probs if name in known.rejected}
        found: dict[str, Any] = {"by": "distance", "threshold": known.farthest}
    else:
        shares = {name: float(np.mean(energy(each) < least)) for name, each in probs.items()}
        found = {"by": "energy", "threshold": least}
    return {**found, "least_energy": least, "rejected": shares}
