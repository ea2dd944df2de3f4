"""Occlusion: the probability that a class loses when a part of the image is covered."""

import numpy as np

from convscope.classifier.views import Network
from convscope.types import FloatArray, UInt8Array

_BATCH = 64


def occlusion(
    network: Network, image: UInt8Array, class_index: int, *, n_across: int = 12
) -> FloatArray:
    """Return how much probability a class loses when a part of the image is covered in grey.

    A square of a quarter of the shorter side moves over the image. Unlike Grad-CAM this uses only
    the outputs of the network and none of its layers.

    Args:
        network: Network from raw pixels to probabilities; a `Classifier` for those of `predict`.
        image: Shape (height, width, channels), uint8.
        class_index: Index of the class.
        n_across: Number of positions of the square along each side, at least 2.

    Returns:
        Shape (n_across, n_across), in [-1, 1]: the loss with the square centred there, negative
        where covering helps.

    References:
        Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014.
    """
    height, width = image.shape[:2]
    side = max(1, min(height, width) // 4)
    grey = image.mean(axis=(0, 1)).astype(np.uint8)
    rows = np.linspace(0, height - 1, n_across).astype(int)
    columns = np.linspace(0, width - 1, n_across).astype(int)
    covered = []
    for row in rows:
        for column in columns:
            each = image.copy()
            top, left = max(0, row - side // 2), max(0, column - side // 2)
            each[top : row + (side + 1) // 2, left : column + (side + 1) // 2] = grey
            covered.append(each)
    images = np.stack([image, *covered])
    probs = np.concatenate(
        [
            np.asarray(network.predict_on_batch(images[start : start + _BATCH]), np.float32)
            for start in range(0, len(images), _BATCH)
        ]
    )[:, class_index]
    return np.asarray((probs[0] - probs[1:]).reshape(n_across, n_across), dtype=np.float32)
