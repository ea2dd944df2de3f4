"""Images whose label is probably wrong, judged by a network that did not learn them."""

from dataclasses import dataclass

import numpy as np

from convscope.types import Predictions


@dataclass(frozen=True)
class Suspect:
    """An image whose label is in doubt.

    Attributes:
        index: Its place among the predictions.
        image_id: Its name.
        label: The class that it is labelled as.
        likelier: The class that the network takes it for.
        prob_label: The probability of its label, a fraction.
        prob_likelier: That of the other class.
    """

    index: int
    image_id: str
    label: int
    likelier: int
    prob_label: float
    prob_likelier: float


def suspect_labels(predictions: Predictions) -> list[Suspect]:
    """Return the images whose label is in doubt, the most suspect first.

    Confident learning: an image is suspect if the probability of another class is as high as it is
    on average for images of that class, and so many of such images are taken as the counts of
    confused classes say.

    Args:
        predictions: Out of sample: the network must not have learnt these images with their labels.

    References:
        Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels",
        JAIR 2021; by way of cleanlab.
    """
    from cleanlab.filter import find_label_issues

    probs, labels = predictions.probs, predictions.labels
    if len(np.unique(labels)) < 2:
        return []
    order = find_label_issues(labels, probs, return_indices_ranked_by="normalized_margin", n_jobs=1)
    likelier = probs.argmax(axis=1)
    return [
        Suspect(
            index=int(i),
            image_id=str(predictions.ids[i]),
            label=int(labels[i]),
            likelier=int(likelier[i]),
            prob_label=float(probs[i, labels[i]]),
            prob_likelier=float(probs[i, likelier[i]]),
        )
        for i in order
    ]
