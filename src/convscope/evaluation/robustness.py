"""Accuracy under corruptions: the result and its one sentence."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Robustness:
    """Accuracy under corruptions.

    Attributes:
        split: Name of the part: "val" or "test".
        n_images: Number of images that were corrupted.
        clean: Accuracy on the uncorrupted images, a fraction.
        severities: Severities that were used.
        accuracy: Accuracy for each severity, a fraction, by corruption.
    """

    split: str
    n_images: int
    clean: float
    severities: tuple[int, ...]
    accuracy: dict[str, tuple[float, ...]]

    @property
    def mean(self) -> float:
        """Mean accuracy over all corruptions and severities."""
        return float(np.mean([value for row in self.accuracy.values() for value in row]))

    @property
    def conclusion(self) -> str:
        """The most harmful corruption, in one sentence."""
        worst = min(self.accuracy, key=lambda name: float(np.mean(self.accuracy[name])))
        mean = float(np.mean(self.accuracy[worst]))
        return (
            f"Accuracy {self.clean:.1%} without corruption, {self.mean:.1%} on average with it; "
            f"{worst.replace('-', ' ')} hurts most ({mean:.1%})."
        )
