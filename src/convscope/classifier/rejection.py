"""Images that belong to no class: how familiar an image looks, and below which value it is refused.

NumPy only, so that an exported model decides as the run did.
"""

import numpy as np
import numpy.typing as npt

from convscope.types import FloatArray

LARGEST_DISTANCE = 1e9
"""No image is farther from the training images: one of noise is some thousands away."""

LARGEST_ENERGY = 100.0
"""No energy is larger: the least probability that counts is float32's smallest normal number."""


def energy(probs: FloatArray) -> npt.NDArray[np.float64]:
    """Return how much evidence for any class the answers hold; it is low for strange images.

    It is the logarithm of the sum of the exponentials of the logits, for logits that are shifted to
    mean 0: a shift, which probabilities do not show, has no meaning. So it needs no logits.

    Args:
        probs: Shape (n_images, n_classes), rows sum to 1.

    Returns:
        Shape (n_images,), from the logarithm of the number of classes (all are equally likely) to
        `LARGEST_ENERGY`.

    References:
        Liu et al., "Energy-based Out-of-distribution Detection", NeurIPS 2020.

    Examples:
        >>> energy(np.array([[0.5, 0.5], [0.9, 0.1]], np.float32)).round(3).tolist()
        [0.693, 1.204]
    """
    least = np.finfo(np.float32).tiny
    logs = np.log(np.maximum(probs.astype(np.float64), least))
    return np.asarray(-logs.mean(axis=1))


def least_familiarity(values: npt.NDArray[np.float64], accepted: float) -> float:
    """Return the value from which on an image is accepted.

    Of further images like the given ones, at least the share `accepted` is accepted on average: the
    given ones are a sample, so a few less of them may be refused than that share says. Of fewer
    images than that takes, none is refused.

    Args:
        values: Shape (n_images,), familiarity of images that were not trained on.
        accepted: Share of images to accept, in (0, 1].

    Examples:
        >>> least_familiarity(np.arange(1.0, 40), 0.95), least_familiarity(np.arange(1.0, 10), 0.95)
        (2.0, 1.0)

    References:
        Laxhammar and Falkman, "Conformal Prediction for Distribution-Independent Anomaly Detection
        in Streaming Vessel Data", 2010.
    """
    # The margin is against rounding: 0.05 * 40 is just below 2.
    n_refused = int((1 - accepted) * (len(values) + 1) + 1e-9) - 1
    # Rounded down, and so coarsely that an image on the border stays on its side.
    return float(np.floor(1e4 * np.sort(values)[max(0, n_refused)]) / 1e4)
