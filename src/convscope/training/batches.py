"""Batches of raw pixels, in an order that depends on seed and epoch alone."""

import keras
import numpy as np
import numpy.typing as npt

from convscope.types import IntArray, Split, UInt8Array


class Batches(keras.utils.PyDataset):
    """One pass over a split, batch by batch; works from memory and from a memory-mapped array.

    Args:
        split: The images.
        batch_size: Images in each batch; the last may be smaller.
        order: Shape (n_images,), the order of the pass; None is the order of the split.
    """

    def __init__(
        self, split: Split, batch_size: int, order: npt.NDArray[np.intp] | None = None
    ) -> None:
        super().__init__()
        self._split = split
        self._batch_size = batch_size
        self._order = order

    def __len__(self) -> int:
        return -(-len(self._split) // self._batch_size)

    def __getitem__(self, index: int) -> tuple[UInt8Array, IntArray]:
        """Return (images, labels) of batch `index`: (batch, height, width, channels), (batch,)."""
        where: slice | npt.NDArray[np.intp]
        where = slice(index * self._batch_size, (index + 1) * self._batch_size)
        if self._order is not None:
            where = self._order[where]
        return np.ascontiguousarray(self._split.images[where]), self._split.labels[where]


def epoch_order(n_images: int, seed: int, epoch: int) -> npt.NDArray[np.intp]:
    """Return the shuffled order of one epoch.

    A pure function of its arguments, so a resumed run sees the images in the order that an
    uninterrupted one would have.

    Args:
        n_images: How many images the split has.
        seed: The run's seed.
        epoch: Counted from 0.
    """
    return np.random.default_rng([seed, epoch]).permutation(n_images)
