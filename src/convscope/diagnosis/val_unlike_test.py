"""Validation images that differ from the test images."""

import numpy as np

from convscope.diagnosis import TRAPS, Finding, Remedy
from convscope.diagnosis.case import Case
from convscope.wording import command_line

_SURE = 1e-3
_POINTS = 0.01


@TRAPS.register("val-unlike-test")
def val_unlike_test(case: Case) -> Finding | None:
    """Validation that differs from test: accuracy or class frequencies differ beyond chance.

    Choices that were made on one then do not hold on the other.
    """
    from scipy.stats import chi2_contingency, fisher_exact

    case.require_one_class()
    val, test = case.val, case.test
    right = [part.right for part in (val, test)]
    accuracies = [float(each.mean()) for each in right]
    n_classes = val.probs.shape[1]
    counts = np.stack([np.bincount(part.labels, minlength=n_classes) for part in (val, test)])
    counts = counts[:, counts.sum(axis=0) > 0]
    mixed = float(chi2_contingency(counts).pvalue) if counts.shape[1] > 1 else 1.0
    table = np.array([[each.sum(), len(each) - each.sum()] for each in right])
    differ = float(fisher_exact(table).pvalue)
    apart = abs(accuracies[0] - accuracies[1])
    if mixed > _SURE and (differ > _SURE or apart < _POINTS):
        return None
    evidence = f"Accuracy {accuracies[0]:.1%} on validation images, {accuracies[1]:.1%} on test "
    evidence += f"images ({_said(differ)})."
    if mixed <= _SURE:
        evidence += f" The class frequencies of the two differ ({_said(mixed)})."
    return Finding(
        symptom="Validation images differ from test images.",
        evidence=evidence,
        remedies=(
            Remedy(
                "check how the parts were divided",
                command_line("data", "show", *case.data_words),
            ),
        ),
        sure="likely",
    )


def _said(p: float) -> str:
    return "p below 1e-6" if p < 1e-6 else f"p = {p:.2g}"
