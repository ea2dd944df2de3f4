"""Training images in the memory of an accelerator, where JAX picks and augments each batch.

On the host a batch of 500 images of 32 x 32 pixels takes longer to pick, flip and shift than a
large GPU needs to train on it.
"""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from convscope.training.augment import AugmentedView, Changes, Extent
from convscope.training.batches import Batches
from convscope.types import ImageView

if TYPE_CHECKING:
    import jax

_SHARE = 0.25
"""Largest share of the accelerator's memory for the inputs; a network needs the rest."""

_LARGEST = 8 * 2**30
"""Largest inputs, in bytes: of larger images, the host prepares a batch while the step before runs.
"""


class Resident:
    """Inputs of training steps on the default device of JAX, each put there once.

    Args:
        room: Bytes that all of them may take; None takes it from the device, where a CPU has none:
            its inputs are in its memory already.
    """

    def __init__(self, room: int | None = None) -> None:
        self._room = _room() if room is None else room
        self._kept: list[tuple[Any, jax.Array]] = []

    def placed(self, batches: Batches) -> Batches:
        """Return the same batches, read on the device if their inputs are there or have room.

        Inputs in several files stay on the host, as do those that RandAugment, MixUp or CutMix
        change, which are computed there.
        """
        inputs = batches.inputs
        view = inputs if isinstance(inputs, AugmentedView) else None
        source = inputs if view is None else view.images
        if batches.mixed or (view is not None and view.settings.randaugment):
            return batches
        array = self._on_device(source)
        if array is None:
            return batches
        return batches.reading(_OnDevice(array, view))

    def _on_device(self, source: Any) -> "jax.Array | None":
        import jax.numpy as jnp

        for known, array in self._kept:
            if known is source:
                return array
        base = source.base if isinstance(source, ImageView) else source
        if not isinstance(base, np.ndarray):
            return None
        n_bytes = int(np.prod(source.shape)) * base.dtype.itemsize
        if n_bytes > self._room:
            return None
        self._room -= n_bytes
        array = jnp.asarray(np.asarray(source[:]))
        self._kept.append((source, array))
        return array


def _room() -> int:
    import jax

    device = jax.devices()[0]
    if device.platform == "cpu":
        return 0
    memory = (device.memory_stats() or {}).get("bytes_limit", 0)
    return min(int(_SHARE * memory), _LARGEST)


class _OnDevice:
    """Inputs on a device, as they are or with the pixels of an `AugmentedView` of them.

    Args:
        inputs: Shape (n_images, ...).
        view: What is drawn for each image, if they are images and vary.
    """

    def __init__(self, inputs: "jax.Array", view: AugmentedView | None) -> None:
        self._inputs = inputs
        self._view = view

    def __getitem__(self, key: Any) -> "jax.Array":
        """Return the inputs at an index array or slice, shape (batch, ...)."""
        rows, view = np.arange(len(self._inputs), dtype=np.int32)[key], self._view
        chosen: jax.Array
        if view is None:
            chosen = _taken()(self._inputs, rows)
        else:
            chosen = _changed()(self._inputs, rows, view.changes.of(rows), view.extent)
        return chosen


@functools.cache
def _taken() -> Callable[..., Any]:
    """Return a compiled function to some rows of an array."""
    import jax

    return jax.jit(lambda inputs, rows: inputs[rows])  # type: ignore[no-any-return, unused-ignore]


def changed_images(images: "jax.Array", rows: Any, changes: Changes, extent: Extent) -> "jax.Array":
    """Return flipped, turned, shifted and partly blanked images, as `AugmentedView` has them.

    Args:
        images: Shape (n_images, height, width, channels), uint8, on the device.
        rows: Shape (batch,), indices of the images to take.
        changes: What is done to each of these.
        extent: How far that goes.

    Returns:
        Shape (batch, height, width, channels), uint8.
    """
    import jax
    import jax.numpy as jnp

    height, width, channels = images.shape[1:]
    n_pixels = height * width
    turn, reach, hole = extent
    around = (*((each, each) for each in reach), (0, 0))

    def of_one(row: Any, one: Changes) -> Any:
        flip, quarters, move, at = one
        image = images[row]
        image = jnp.where(flip, image[:, ::-1], image)
        if turn:
            image = jnp.where(quarters >= 2, image[::-1, ::-1], image)
            image = jnp.where(quarters % 2 == 1, jnp.rot90(image), image)
        if any(reach):
            wide = jnp.pad(image, around, mode="symmetric")
            start = (move[0] + reach[0], move[1] + reach[1], 0)
            image = jax.lax.dynamic_slice(wide, start, (height, width, channels))
        if all(hole):
            total = image.sum(axis=(0, 1), dtype=jnp.uint32)
            colour = ((total + n_pixels // 2) // n_pixels).astype(image.dtype)
            in_rows, in_columns = (
                (place >= first) & (place < first + length)
                for place, first, length in zip(
                    (jnp.arange(height), jnp.arange(width)), at, hole, strict=True
                )
            )
            image = jnp.where((in_rows[:, None] & in_columns)[..., None], colour, image)
        return image

    changed: jax.Array = jax.vmap(of_one)(rows, changes)
    return changed


@functools.cache
def _changed() -> Callable[..., Any]:
    """Return `changed_images`, compiled."""
    import jax

    return jax.jit(changed_images, static_argnames="extent")  # type: ignore[no-any-return, unused-ignore]
