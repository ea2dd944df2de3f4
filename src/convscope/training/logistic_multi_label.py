"""Logistic regression of each class for itself, for images that have any number of classes.

All classes are fitted together: a step is a product of matrices, several times as quick as a fit
for each class.
"""

import numpy as np
import numpy.typing as npt

from convscope.types import FloatArray

_MEMORY = 10
"""Steps from which L-BFGS estimates the curvature."""


def fit_multi_label(
    features: FloatArray,
    labels: npt.NDArray[np.uint8],
    penalty: float,
    *,
    tolerance: float,
    most_steps: int,
    constant: float,
) -> tuple[FloatArray, FloatArray]:
    """Return kernel and bias that minimise each class's cross-entropy plus its penalty.

    Of each class, the mean binary cross-entropy plus `penalty / 2` times the squared norm of its
    column.

    Args:
        features: Shape (n_images, n_features), standardised.
        labels: Shape (n_images, n_classes), 1 for each class of an image.
        penalty: L2 penalty on the kernel, above 0; the bias has none.
        tolerance: Largest derivative at which the fit ends.
        most_steps: Number of steps at which it ends in any case.
        constant: Logit of a class that all images have; none has one with the opposite sign.

    Returns:
        Shapes (n_features, n_classes) and (n_classes,), float32.
    """
    from scipy.optimize import minimize

    n_images, n_features = features.shape
    rates = labels.mean(axis=0, dtype=np.float64)
    kernel = np.zeros((n_features, labels.shape[1]), np.float32)
    bias = np.where(rates > 0.5, constant, -constant).astype(np.float32)
    varied = (rates > 0) & (rates < 1)
    if not varied.any():
        return kernel, bias
    # -1 and 1; the loss of a logit is log(1 + exp(-sign * logit)).
    signs = np.where(labels[:, varied] > 0, np.float32(1), np.float32(-1))
    n_classes = signs.shape[1]

    def loss_and_gradient(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        both = flat.reshape(n_features + 1, n_classes)
        narrow = both.astype(np.float32)
        margins = (features @ narrow[:-1] + narrow[-1]) * signs
        small = np.exp(-np.abs(margins))
        losses = np.log1p(small) + np.maximum(-margins, 0)
        # Derivative of the loss by the logit: minus the sign times the probability of an error.
        wrong = np.where(margins > 0, small, 1) / (1 + small)
        slopes = -signs * wrong / np.float32(n_images)
        gradient = np.empty_like(both)
        gradient[:-1] = features.T @ slopes
        gradient[:-1] += penalty * both[:-1]
        gradient[-1] = slopes.sum(axis=0)
        loss = float(losses.sum(dtype=np.float64)) / n_images
        return loss + penalty / 2 * float(np.square(both[:-1]).sum()), gradient.ravel()

    start = np.zeros((n_features + 1, n_classes))
    start[-1] = np.log(rates[varied] / (1 - rates[varied]))
    found = minimize(
        loss_and_gradient,
        start.ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": most_steps, "maxcor": _MEMORY, "gtol": tolerance, "ftol": 0.0},
    )
    both = found.x.reshape(n_features + 1, n_classes)
    kernel[:, varied], bias[varied] = both[:-1], both[-1]
    return kernel, bias
