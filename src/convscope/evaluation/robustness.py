"""Accuracy under all corruptions and severities together."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from convscope.classifier.views import Network
from convscope.evaluation.corruptions import accuracy_under
from convscope.progress import Progress
from convscope.types import Split, is_multi_label


@dataclass(frozen=True)
class Robustness:
    """Accuracy under corruptions.

    Attributes:
        split: Name of the part: "val" or "test".
        n_images: Number of images that were corrupted.
        clean: Accuracy on the uncorrupted images, a fraction; mAP where an image may have several
            classes.
        severities: Severities that were used.
        accuracy: Accuracy for each severity, a fraction, by corruption; or mAP.
        measure: Which of the two: "accuracy" or "mAP".
    """

    split: str
    n_images: int
    clean: float
    severities: tuple[int, ...]
    accuracy: dict[str, tuple[float, ...]]
    measure: str = "accuracy"

    @property
    def mean(self) -> float:
        """Mean accuracy over all corruptions and severities."""
        return float(np.mean([value for row in self.accuracy.values() for value in row]))

    @property
    def conclusion(self) -> str:
        """The most harmful corruption, in one sentence."""
        words = "Accuracy" if self.measure == "accuracy" else self.measure
        worst = min(self.accuracy, key=lambda name: float(np.mean(self.accuracy[name])))
        mean = float(np.mean(self.accuracy[worst]))
        return (
            f"{words} {self.clean:.1%} without corruption, {self.mean:.1%} on average with it; "
            f"{worst.replace('-', ' ')} hurts most ({mean:.1%})."
        )

    @property
    def content(self) -> dict[str, Any]:
        """Everything above, as `robustness.json` has it."""
        return {**asdict(self), "mean": self.mean, "conclusion": self.conclusion}


def accuracy_under_all(
    classifier: Network,
    chosen: Split,
    name: str,
    corruptions: Sequence[str],
    severities: Sequence[int],
    progress: Progress,
) -> Robustness:
    """Return the accuracy on images without corruption, and under each one at each severity.

    Args:
        classifier: Function from pixels to probabilities.
        chosen: Images with labels, at least one.
        name: Name of their part: "val" or "test".
        corruptions: Keys of `CORRUPTIONS`.
        severities: Severities from 1 to 5.
        progress: Called with each step.
    """
    clean = accuracy_under(classifier, chosen)
    found: dict[str, tuple[float, ...]] = {}
    n_steps = len(corruptions) * len(severities) * len(chosen)
    with progress.task("Corrupting", n_steps, "images") as step:
        note = ""
        for corruption in corruptions:
            row = []
            for severity in severities:
                on_batch = partial(step, note=note)
                row.append(
                    accuracy_under(classifier, chosen, corruption, severity, on_batch=on_batch)
                )
                note = f"{corruption} {severity}: {row[-1]:.3f}"
            step(0, note)
            found[corruption] = tuple(row)
    measure = "mAP" if is_multi_label(chosen.labels) else "accuracy"
    return Robustness(name, len(chosen), clean, tuple(severities), found, measure)
