"""The images that are most telling about a run, from its predictions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from convscope.errors import UnknownNameError
from convscope.evaluation.suspects import suspect_labels
from convscope.types import Neighbour, Predictions

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
    """

    image_id: str
    class_name: str
    answer: str
    prob: float
    prob_label: float
    similar: tuple[Neighbour, ...] = ()

    @property
    def caption(self) -> str:
        """Two lines for below the image."""
        if self.answer == self.class_name:
            return f"{self.class_name}\n{self.prob:.0%}"
        return f"{self.class_name}?\n{self.answer} {self.prob:.0%}"

    @property
    def captions(self) -> list[str]:
        """Its caption and those of the similar images."""
        return [self.caption, *(each.caption for each in self.similar)]


def most_telling(
    said: Predictions, of: Kind, names: Sequence[str], true: str | None, predicted: str | None
) -> list[int]:
    """Return the indices of images, the most telling first.

    Args:
        said: Predictions for the images.
        of: Kind of images.
        names: Class names in the order of the probabilities.
        true: Class of the label, to select images.
        predicted: Predicted class, to select images.

    Raises:
        UnknownNameError: If there is no such kind.
    """
    if of not in KINDS:
        raise UnknownNameError("gallery", of, KINDS)
    if of == "suspects":
        order = [suspect.index for suspect in suspect_labels(said)]
    else:
        of_label = said.probs[np.arange(len(said.labels)), said.labels]
        order = np.argsort(of_label if of == "losses" else -of_label, kind="stable").tolist()
    answers = said.probs.argmax(axis=1)
    return [
        i
        for i in order
        if (true is None or names[said.labels[i]] == true)
        and (predicted is None or names[answers[i]] == predicted)
    ]
