"""Classes with far fewer images than others."""

import numpy as np

from convscope.diagnosis import TRAPS, Finding, Remedy, Unknown
from convscope.diagnosis.case import Case
from convscope.effects import trains_at_once
from convscope.wording import command_line

_RATIO = 5
_LOSS = 0.10
"""Gap in recall between the rare classes and the others that counts as a loss."""


@TRAPS.register("class-imbalance")
def class_imbalance(case: Case) -> Finding | None:
    """Class imbalance, and its cost for the rare classes."""
    case.require_one_class()
    names = case.class_names
    counts = np.bincount(case.dataset.train.labels, minlength=len(names))
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
            evidence += f"; recall {low:.0%} on the rare classes' validation images, {high:.0%} on "
            evidence += "the others'"
    config = case.config
    fixes = []
    if not config.balance and config.class_weights == "none":
        # A head at its optimum is better with weights between none and full ones.
        fix = (
            case.again("weigh rare classes more", {"class_weights": "sqrt"})
            if trains_at_once(config)
            else case.again("show each class equally often", {"balance": True})
        )
        fixes = [fix]
    return Finding(
        symptom="Class sizes differ widely."
        if not suffers
        else "Class sizes differ widely, and accuracy on the rare classes suffers.",
        evidence=f"{evidence}.",
        remedies=(
            *fixes,
            Remedy(
                "add images of the rare classes; count them with",
                command_line("data", "show", *case.data_words),
            ),
            *(
                [Remedy("look at each class, not at accuracy alone", case.command("evaluate"))]
                if case.run is not None
                else []
            ),
        ),
        sure="likely" if suffers else "possible",
    )
