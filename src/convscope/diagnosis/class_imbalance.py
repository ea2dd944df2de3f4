"""Classes with far fewer images than others."""

import numpy as np

from convscope.diagnosis import TRAPS, Finding, Remedy, Unknown
from convscope.diagnosis.case import Case
from convscope.wording import command_line

_RATIO = 5
_LOSS = 0.10
"""Recall of the rare classes below that of the others."""


@TRAPS.register("class-imbalance")
def class_imbalance(case: Case) -> Finding | None:
    """Class imbalance, and what it costs the rare classes."""
    names = case.class_names
    counts = np.bincount(case.parts["train"].labels, minlength=len(names))
    rarest, commonest = int(counts.argmin()), int(counts.argmax())
    if counts[commonest] < _RATIO * max(1, counts[rarest]):
        return None
    evidence = (
        f"{counts[commonest]:,} training images of {names[commonest]}, {counts[rarest]:,} of "
        f"{names[rarest]}"
    )
    suffers = None
    try:
        val = case.val
    except Unknown:
        val = None
    if val is not None:
        rare = np.isin(val.labels, np.flatnonzero(counts * _RATIO <= counts[commonest]))
        if rare.any() and not rare.all():
            low, high = val.right[rare].mean(), val.right[~rare].mean()
            suffers = high - low > _LOSS
            evidence += f"; {low:.0%} of the rare classes' validation images right, {high:.0%} of "
            evidence += "the others'"
    balanced = case.again("show each class equally often", {"balance": True})
    mends = [] if case.config.balance else [balanced]
    return Finding(
        symptom="The classes are of very different size."
        if not suffers
        else "The classes are of very different size, and the rare ones suffer from it.",
        evidence=f"{evidence}.",
        remedies=(
            *mends,
            Remedy(
                "add images of the rare classes; count them with",
                command_line("data", "show", "--data", case.data),
            ),
            *(
                [Remedy("judge by each class, not by accuracy", case.command("evaluate"))]
                if case.run is not None
                else []
            ),
        ),
        sure="likely" if suffers else "possible",
    )
