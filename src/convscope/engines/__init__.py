"""Engines that run an exported model without a deep-learning framework, and the file they run.

`seal.py` puts facts and a checksum at the end of an ONNX file; each engine is a file that registers
itself here.
"""

from collections.abc import Callable
from typing import Protocol

from convscope.registry import Registry
from convscope.types import FloatArray, UInt8Array


class Session(Protocol):
    """A model that is loaded in an engine."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its outputs, of `OUTPUTS`."""

    def predict_on_batch(self, images: UInt8Array, /) -> FloatArray:
        """Return the probabilities, shape (batch, n_classes), of raw pixels."""

    def outputs(self, images: UInt8Array, names: list[str], /) -> dict[str, FloatArray]:
        """Return outputs by name, of `OUTPUTS`."""


OUTPUTS = ("probs", "logits", "features", "distance")
"""Outputs of an exported model: final probabilities; inputs of the last softmax (with views, the
logarithm of the mean probabilities); input of the last dense layer, of the image as it is; and, of
a frozen backbone, the distance from the training images, which tells images of no class."""

INPUT = "pixels"
"""Input of an exported model: raw pixels, shape (batch, height, width, channels), uint8."""

ENGINES: Registry[Callable[..., Session]] = Registry(
    "engine", "convscope.engines", group="convscope.engines"
)
"""Functions by name: from the bytes of an ONNX file, and a number of threads (None for all cores),
to a session. A server calls them with `shared=True`: others need the cores between batches. They
are registered with the `package` that they import, by which it is known whether one is installed;
the choice of the fastest leaves out one without.
"""
