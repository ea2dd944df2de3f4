"""Choice of images of a dataset to show to people."""

import numpy as np

from convscope.types import Dataset, UInt8Array, names_of

FIRST = 190
"""Index of the first: the tutorial shows training images 190 to 209, on CIFAR-10 the same."""

N_IMAGES = 20


def sample_images(dataset: Dataset) -> tuple[UInt8Array, list[str]]:
    """Return twenty training images and their class names, for a grid.

    Those from index 190 on if there are that many, otherwise the first.

    Returns:
        Images of shape (n_images, height, width, channels), uint8, and a name for each.
    """
    train = dataset.train
    start = FIRST if len(train) >= FIRST + N_IMAGES else 0
    part = train.take(np.arange(start, min(start + N_IMAGES, len(train))))
    return np.asarray(part.images), [names_of(label, dataset.class_names) for label in part.labels]
