"""Accuracy under all corruptions and severities together."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from convscope.classifier.views import Network
from convscope.evaluation.corruptions import answers_under
from convscope.evaluation.map_difference import Scored, map_difference
from convscope.evaluation.multi_label import name_of_score, score_of_answers
from convscope.evaluation.statistics import difference
from convscope.progress import Progress
from convscope.types import FloatArray, Labels, Split, is_multi_label


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
        harmful: Corruptions under which the loss, at the severity where it is largest, is more than
            chance makes of these images.
    """

    split: str
    n_images: int
    clean: float
    severities: tuple[int, ...]
    accuracy: dict[str, tuple[float, ...]]
    measure: str = "accuracy"
    harmful: tuple[str, ...] = ()

    @property
    def mean(self) -> float:
        """Mean accuracy over all corruptions and severities."""
        return float(np.mean([value for row in self.accuracy.values() for value in row]))

    @property
    def conclusion(self) -> str:
        """The most harmful corruption, if one is shown to be, in one sentence."""
        words = "Accuracy" if self.measure == "accuracy" else self.measure
        said = f"{words} {self.clean:.1%} without corruption, {self.mean:.1%} on average with it; "
        if not self.harmful:
            return f"{said}none of them is shown to hurt."
        means = {name: float(np.mean(self.accuracy[name])) for name in self.harmful}
        worst = min(means, key=means.__getitem__)
        return f"{said}{worst.replace('-', ' ')} hurts most ({means[worst]:.1%})."

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

    Whether a corruption hurts is judged on the same images with and without it, for all of them
    and all severities jointly (Bonferroni): by McNemar's exact test; the mAP by the bootstrap.

    Args:
        classifier: Function from pixels to probabilities.
        chosen: Images with labels, at least one.
        name: Name of their part: "val" or "test".
        corruptions: Keys of `CORRUPTIONS`.
        severities: Severities from 1 to 5.
        progress: Called with each step.
    """
    labels = chosen.labels
    clean = answers_under(classifier, chosen)
    n_comparisons = len(corruptions) * len(severities)
    found: dict[str, tuple[float, ...]] = {}
    harmful = []
    with progress.task("Corrupting", n_comparisons * len(chosen), "images") as step:
        note = ""
        for corruption in corruptions:
            row: list[float] = []
            worst = clean
            for severity in severities:
                on_batch = partial(step, note=note)
                probs = answers_under(classifier, chosen, corruption, severity, on_batch=on_batch)
                row.append(score_of_answers(probs, labels))
                if row[-1] == min(row):
                    worst = probs
                note = f"{corruption} {severity}: {row[-1]:.3f}"
            step(0, note)
            found[corruption] = tuple(row)
            if _is_worse(worst, clean, labels, chosen.groups, n_comparisons):
                harmful.append(corruption)
    return Robustness(
        split=name,
        n_images=len(chosen),
        clean=score_of_answers(clean, labels),
        severities=tuple(severities),
        accuracy=found,
        measure=name_of_score(multi_label=is_multi_label(labels)),
        harmful=tuple(harmful),
    )


def _is_worse(
    corrupted: FloatArray,
    clean: FloatArray,
    labels: Labels,
    groups: npt.NDArray[np.str_] | None,
    n_comparisons: int,
) -> bool:
    """Return whether answers are worse than those to the same images, beyond chance."""
    if is_multi_label(labels):
        scored = ([Scored.of(probs, labels, groups)] for probs in (clean, corrupted))
        found = map_difference(*scored, paired=True, n_comparisons=n_comparisons)
    else:
        rows = ((probs.argmax(axis=1) == labels)[None] for probs in (clean, corrupted))
        found = difference(*rows, paired=True, n_comparisons=n_comparisons, groups=groups)
    return found.high < 0
