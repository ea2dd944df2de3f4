"""Room in memory for the pixels of large images, which all threads of a process share.

Until it has the size of a model, an image takes 4 to 12 bytes a pixel, and 20 if its values are
floating-point numbers; as many large ones at once as there are cores would fill the memory.
"""

import contextlib
import threading
from collections.abc import Iterator

_SMALL_PIXELS = 2**20
"""Largest image, in pixels, that needs no room: as many as there are threads take little."""


class Room:
    """Pixels that may be decoded at the same time.

    Args:
        n_pixels: Number of pixels; one image that has more is decoded alone.
    """

    def __init__(self, n_pixels: int) -> None:
        self._all = self._free = n_pixels
        self._changed = threading.Condition()
        self._next = threading.Lock()

    @contextlib.contextmanager
    def taken(self, n_pixels: int) -> Iterator[None]:
        """Hold the room of one image, once there is so much.

        Not to be taken twice by one thread, which could wait for itself.

        Args:
            n_pixels: Number of its pixels, by its header.
        """
        if n_pixels <= _SMALL_PIXELS:
            yield
            return
        wanted = min(n_pixels, self._all)
        # One waits at a time, so that smaller ones do not overtake it for ever.
        with self._next, self._changed:
            self._changed.wait_for(lambda: wanted <= self._free)
            self._free -= wanted
        try:
            yield
        finally:
            with self._changed:
                self._free += wanted
                self._changed.notify()
