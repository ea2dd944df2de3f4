"""Share of labels that are wrong, as far as a network can tell."""

import numpy as np

from convscope.types import FloatArray, IntArray


def share_of_noise(probs: FloatArray, labels: IntArray) -> tuple[float, float]:
    """Return the share of labels that the probabilities explain at no temperature.

    The most likely mixture of labels drawn from the network's probabilities at a temperature, and
    labels drawn from all classes alike. The mistakes of a network that knows how sure it is are
    part of the first; a wrong label is one that it gives hardly any probability.

    Args:
        probs: Shape (n_images, n_classes), rows sum to 1, of images that were not trained on.
        labels: Shape (n_images,), class indices in [0, n_classes).

    Returns:
        The share of images whose label is wrong, in [0, 1], and the p value of the likelihood-ratio
        test that there are none.

    References:
        Natarajan et al., "Learning with Noisy Labels", NeurIPS 2013, for the noise. Self and Liang,
        "Asymptotic Properties of Maximum Likelihood Estimators and Likelihood Ratio Tests under
        Nonstandard Conditions", JASA 1987, for the test of a share that cannot be negative.
    """
    from scipy.optimize import minimize, minimize_scalar
    from scipy.special import log_softmax
    from scipy.stats import chi2

    n_classes = probs.shape[1]
    logits = np.log(np.maximum(probs, np.finfo(np.float32).tiny).astype(np.float64))
    rows = np.arange(len(labels))
    temperatures = (np.log(0.05), np.log(20))

    def loss(log_temperature: float, noise: float) -> float:
        of_label = np.exp(log_softmax(logits / np.exp(log_temperature), axis=1)[rows, labels])
        likely = (1 - noise) * of_label + noise / n_classes
        return -float(np.log(np.maximum(likely, np.finfo(np.float64).tiny)).sum())

    plain = minimize_scalar(loss, bounds=temperatures, args=(0.0,), method="bounded")
    mixed = minimize(
        lambda both: loss(*both),
        # A share of 0 is a place where the search could stay.
        (float(plain.x), 0.1),
        bounds=(temperatures, (0.0, 1.0)),
        method="L-BFGS-B",
    )
    gained = max(0.0, 2 * (plain.fun - mixed.fun))
    # Of the labels drawn from all classes some are right.
    wrong = float(mixed.x[1]) * (1 - 1 / n_classes) if gained else 0.0
    return wrong, float(chi2.sf(gained, 1)) / 2
