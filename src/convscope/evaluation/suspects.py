"""Images whose label is probably wrong, according to a network that was not trained on them."""

import warnings

import numpy as np

from convscope.types import Predictions


def suspect_labels(predictions: Predictions) -> list[int]:
    """Return the indices of images whose label is in doubt, the most suspect first.

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
    return [int(index) for index in order]
