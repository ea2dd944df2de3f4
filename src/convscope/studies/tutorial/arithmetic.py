"""What a convolution and a pooling compute, number by number."""

import numpy as np

from convscope.types import FloatArray


def padded(image: FloatArray, padding: int) -> FloatArray:
    """Return an image with zeros around it.

    Args:
        image: Shape (height, width).
        padding: Number of zeros on each side.
    """
    return np.pad(image, padding)


def windows(image: FloatArray, size: int, stride: int) -> FloatArray:
    """Return what a sliding window sees at each place.

    Args:
        image: Shape (height, width).
        size: Side of the window in pixels.
        stride: Step in pixels.

    Returns:
        Shape (rows, columns, size, size).
    """
    seen = np.lib.stride_tricks.sliding_window_view(image, (size, size))
    return np.asarray(seen[::stride, ::stride])


def convolve(
    image: FloatArray, kernel: FloatArray, *, padding: int = 0, stride: int = 1
) -> FloatArray:
    """Return a convolution as networks compute it: the kernel is not turned round.

    Args:
        image: Shape (height, width).
        kernel: Shape (k, k).
        padding: Number of zeros on each side.
        stride: Step in pixels.

    Returns:
        Shape (rows, columns), each floor((n + 2p - k) / s) + 1.
    """
    seen = windows(padded(image, padding), len(kernel), stride)
    return np.asarray((seen * kernel).sum(axis=(2, 3)))


def output_size(n: int, k: int, p: int, s: int) -> int:
    """Return the side of a feature map.

    Args:
        n: Side of the input.
        k: Side of the kernel.
        p: Number of zeros on each side.
        s: Stride.

    Examples:
        >>> output_size(32, 3, 0, 1), output_size(32, 3, 1, 1), output_size(32, 3, 1, 2)
        (30, 32, 16)
    """
    return (n + 2 * p - k) // s + 1
