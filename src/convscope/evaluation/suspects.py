"""Images whose label is probably wrong, according to a network that was not trained on them."""

import warnings
from dataclasses import dataclass

import numpy as np

from convscope.types import Predictions


@dataclass(frozen=True)
class Suspect:
    """Image whose label is in doubt.

    Attributes:
        index: Index among the predictions.
        image_id: Name of the image.
        label: Class of its label.
        likelier: Class that the network predicts.
        prob_label: Probability of the class of its label, a fraction.
        prob_likelier: Probability of the predicted class, a fraction.
    """

    index: int
    image_id: str
    label: int
    likelier: int
    prob_label: float
    prob_likelier: float


def suspect_labels(predictions: Predictions) -> list[Suspect]:
    """Return the images whose label is in doubt, the most suspect first.

    Confident learning: an image is a candidate if the probability of another class is as high as it
    is on average for images of that class; as many candidates are returned as the estimated
    joint distribution of given and true labels implies.

    Args:
        predictions: Out-of-sample predictions: the network must not have been trained on these
            images.

    References:
        Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels",
        JAIR 2021; implemented by cleanlab.
    """
    from cleanlab.filter import find_label_issues

    probs, labels = predictions.probs, predictions.labels
    if len(np.unique(labels)) < 2:
        return []
    with warnings.catch_warnings():
        # The only image of a class is compared with none, so its label is not doubted.
        warnings.filterwarnings("ignore", "May not flag all label issues", UserWarning)
        order = find_label_issues(
            labels, probs, return_indices_ranked_by="normalized_margin", n_jobs=1
        )
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
