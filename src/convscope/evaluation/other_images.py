"""Evaluation of a model on labelled images that are not those of its run."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from convscope.classifier.classify import Classifier, at_temperature
from convscope.datasets.labelled_images import LabelledImages
from convscope.progress import Progress
from convscope.types import FloatArray, UnreadableImage, hashes_of
from convscope.wording import counted, p_value, quoted


@dataclass(frozen=True)
class Evaluation:
    """Figures of a model on labelled images that are not those of its run.

    Attributes:
        path: Folder of `metrics.json`, `predictions.parquet` and the confusions.
        class_names: Names in the order of the model's outputs.
        metrics: Figures, as `evaluate` gives them of a part.
        n_learnt: Number of images that are left out, as they are training or validation images of
            the run; None if it is unknown, as of an exported file.
        n_of_test: Number of images that are test images of the run; None if it is unknown.
        test: Figures of the run on its own test images; None without them.
        p_as_test: P value of equal accuracies on these images and on the run's test images; None
            if they cannot be compared.
    """

    path: Path
    class_names: tuple[str, ...]
    metrics: dict[str, Any]
    n_learnt: int | None = None
    n_of_test: int | None = None
    test: dict[str, Any] | None = None
    p_as_test: float | None = None

    @property
    def n_images(self) -> int:
        """Number of images that were evaluated."""
        return int(self.metrics["n_images"])

    @property
    def notes(self) -> list[str]:
        """What the figures mean, a sentence each."""
        said = []
        if self.n_learnt is None:
            said.append("whether the model was trained on some of the images is unknown")
        elif self.n_learnt:
            left_out = counted(self.n_learnt, "image")
            said.append(f"left out: {left_out} that the run was trained or chosen by")
        if self.n_of_test:
            said.append(f"test images of the run among them: {self.n_of_test:,}")
        if missing := self.metrics["missing_classes"]:
            n_classes = f"{len(missing):,} of {len(self.class_names):,} classes"
            said.append(f"no image of {n_classes}: {quoted(missing)}")
        if self.p_as_test is not None and self.test is not None:
            apart = self.metrics["accuracy"] - self.test["accuracy"]
            own, p = "the accuracy on the run's own test images", p_value(self.p_as_test)
            said.append(
                f"{100 * abs(apart):.1f} points {'above' if apart > 0 else 'below'} {own}, more "
                f"than chance explains ({p})"
                if self.p_as_test < 0.05
                else f"no difference from {own} is shown ({p})"
            )
        return said

    @property
    def content(self) -> dict[str, Any]:
        """The figures, as `metrics.json` has them."""
        return {
            "n_learnt": self.n_learnt,
            "n_of_test": self.n_of_test,
            "p_as_test": self.p_as_test,
            "new": self.metrics,
            "test": self.test,
        }


@dataclass(frozen=True)
class Answers:
    """Answers of a model to the images that it did not learn.

    Attributes:
        probs: Shape (n_images, n_classes), before the temperature, as `Predictions` have them.
        rows: Shape (n_images,), indices of the images among the given ones.
        n_learnt: Number of images that were left out as they are training or validation images.
        n_of_test: Number of images that are test images of the run.
        faults: Reason why an image could not be read, by its name.
    """

    probs: FloatArray
    rows: npt.NDArray[np.intp]
    n_learnt: int
    n_of_test: int
    faults: dict[str, str]


def answers_to(
    classifier: Classifier,
    given: LabelledImages,
    part_of: Mapping[str, str],
    *,
    batch_size: int,
    progress: Progress,
) -> Answers:
    """Return the answers of a model to images, decoded as `predict` does.

    Args:
        classifier: Classifier of a run or an exported file.
        given: Images.
        part_of: Part of each image of the run, "train", "val" or "test", by the hash of its pixels.
        batch_size: Images per batch.
        progress: Called with each batch.
    """
    probs: list[FloatArray] = []
    rows: list[int] = []
    faults: dict[str, str] = {}
    n_of = dict.fromkeys(("train", "val", "test"), 0)
    numbers = itertools.count()
    with progress.task("Predicting", len(given.ids), "images") as step:
        for batch in classifier.read(given.images, batch_size):
            pixels = []
            for (_, read), row in zip(batch, numbers, strict=False):
                if isinstance(read, UnreadableImage):
                    faults[str(given.ids[row])] = read.reason
                    continue
                if (part := part_of.get(hashes_of([read])[0])) is not None:
                    n_of[part] += 1
                if part in (None, "test"):
                    pixels.append(read)
                    rows.append(row)
            if pixels:
                probs.append(_as_trained(classifier, np.stack(pixels)))
            step(len(batch))
    n_classes = len(classifier.spec.class_names)
    return Answers(
        np.concatenate([np.empty((0, n_classes), np.float32), *probs]),
        np.array(rows, np.intp),
        n_of["train"] + n_of["val"],
        n_of["test"],
        faults,
    )


def _as_trained(classifier: Classifier, images: npt.NDArray[np.uint8]) -> FloatArray:
    """Return the probabilities of a batch before the temperature, which a file may apply itself."""
    spec = classifier.spec
    probs = np.asarray(classifier.averaged.predict_on_batch(images), np.float32)
    applied = spec.temperature if "temperature" in spec.in_graph else 1.0
    return at_temperature(probs, 1 / applied, multi_label=spec.multi_label)
