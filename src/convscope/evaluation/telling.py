"""The images that are most telling about a run, from its predictions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from convscope.classifier.decisions import decided, image_losses
from convscope.errors import ConfigError, UnknownNameError
from convscope.evaluation.suspects import suspect_labels
from convscope.types import Neighbour, Predictions, names_of
from convscope.wording import sureness

Kind = Literal["losses", "suspects", "right"]
KINDS: tuple[Kind, ...] = ("losses", "suspects", "right")


@dataclass(frozen=True)
class Seen:
    """An image, and a run's prediction for it.

    Attributes:
        image_id: Name of the image.
        class_name: Class of its label.
        answer: Predicted class.
        prob: Probability of the predicted class, a fraction.
        prob_label: Probability of the class of its label.
        similar: Training images most similar to it, the most similar first, if they were searched.
        multi_label: Whether an image may have any number of classes. `class_name` and `answer` then
            name all of them, `prob` is the probability of the worst mistake, and `prob_label` that
            of its opposite.
    """

    image_id: str
    class_name: str
    answer: str
    prob: float
    prob_label: float
    similar: tuple[Neighbour, ...] = ()
    multi_label: bool = False

    @property
    def caption(self) -> str:
        """Two lines for below the image."""
        if self.multi_label:
            said = "" if self.answer == self.class_name else f"said: {self.answer}"
            return f"{self.class_name}\n{said}"
        if self.answer == self.class_name:
            return f"{self.class_name}\n{sureness(self.prob)}"
        return f"{self.class_name}?\n{self.answer} {sureness(self.prob)}"

    @property
    def captions(self) -> list[str]:
        """Its caption and those of the similar images."""
        return [self.caption, *(each.caption for each in self.similar)]


def most_telling(
    said: Predictions,
    of: Kind,
    names: Sequence[str],
    true: str | None,
    predicted: str | None,
    thresholds: Sequence[float] = (),
) -> list[int]:
    """Return the indices of images, the most telling first.

    Args:
        said: Predictions for the images.
        of: Kind of images.
        names: Class names in the order of the probabilities.
        true: Class of the label, to select images.
        predicted: Predicted class, to select images.
        thresholds: Threshold of each class, where an image may have any number of classes.

    Raises:
        UnknownNameError: If there is no such kind.
        ConfigError: If suspects are wanted among images with any number of classes.
    """
    if of not in KINDS:
        raise UnknownNameError("gallery", of, KINDS)
    if said.multi_label:
        return _of_several(said, of, names, true, predicted, thresholds)
    if of == "suspects":
        order = suspect_labels(said)
    else:
        of_label = said.probs[np.arange(len(said.labels)), said.labels]
        order = np.argsort(of_label if of == "losses" else -of_label, kind="stable").tolist()
    answers = said.probs.argmax(axis=1)
    return [
        i
        for i in order
        if (true is None or names[said.labels[i]] == true)
        and (predicted is None or names[answers[i]] == predicted)
        and (of != "right" or said.right[i])
    ]


def seen_at(
    said: Predictions, index: int, names: Sequence[str], thresholds: Sequence[float] = ()
) -> Seen:
    """Return an image of predictions, and what is said of it.

    Args:
        said: Predictions; where an image may have any number of classes, at the temperature that
            the thresholds are for.
        index: Index of the image.
        names: Class names in the order of the probabilities.
        thresholds: Threshold of each class, in that case.
    """
    probs, label, image_id = said.probs[index], said.labels[index], str(said.ids[index])
    if said.multi_label:
        named = decided(probs[None], thresholds)[0]
        right = np.where(label > 0, probs, 1 - probs)
        worst = float(right.min())
        answer = names_of(named, names)
        return Seen(image_id, names_of(label, names), answer, 1 - worst, worst, multi_label=True)
    best = int(probs.argmax())
    return Seen(image_id, names[label], names[best], float(probs[best]), float(probs[label]))


def _of_several(
    said: Predictions,
    of: Kind,
    names: Sequence[str],
    true: str | None,
    predicted: str | None,
    thresholds: Sequence[float],
) -> list[int]:
    if of == "suspects":
        raise ConfigError(
            "suspect labels are found where each image has one class; these images may have "
            "several: --of losses shows the hardest"
        )
    losses = image_losses(said.probs, said.labels)
    named = decided(said.probs, thresholds)
    order = np.argsort(-losses if of == "losses" else losses, kind="stable").tolist()
    return [
        i
        for i in order
        if (true is None or said.labels[i, names.index(true)])
        and (predicted is None or named[i, names.index(predicted)])
        and (of == "losses" or (named[i] == said.labels[i]).all())
    ]
