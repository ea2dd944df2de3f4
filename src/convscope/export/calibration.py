"""Training images that show an int8 model the ranges of its values, in batches."""

from collections.abc import Iterator

import numpy as np

from convscope.progress import Progress
from convscope.types import Images, UInt8Array, evenly_spread

_MOST_IMAGES = 128
_BATCH = 16


def calibration_batches(images: Images, progress: Progress) -> Iterator[UInt8Array]:
    """Yield batches of at most 128 training images, evenly spread.

    Args:
        images: Training images, of the model's size.
        progress: Called with each batch.
    """
    rows = evenly_spread(len(images), _MOST_IMAGES)
    with progress.task("Calibrating int8", len(rows), "images") as step:
        for start in range(0, len(rows), _BATCH):
            batch = images[rows[start : start + _BATCH]]
            yield np.ascontiguousarray(batch)
            step(len(batch))
