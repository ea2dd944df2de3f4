"""Classes with far fewer images than others."""

import numpy as np

from convscope.diagnosis import TRAPS, Finding, Remedy, Unknown
from convscope.diagnosis.case import Case
from convscope.diagnosis.chance import fewer_right
from convscope.evaluation.grouping import n_effective
from convscope.types import BoolArray, Predictions
from convscope.wording import command_line, counted

_RATIO = 5
_LOSS = 0.10
"""Gap in recall between the rare classes and the others that counts as a loss."""
_SURE = 0.05


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
            low, high = (float(val.right[some].mean()) for some in (rare, ~rare))
            chance = fewer_right(_told(val, rare), _told(val, ~rare)) >= _SURE
            suffers = high - low > _LOSS and not chance
            n_rare = counted(int(rare.sum()), "validation image")
            evidence += (
                f"; recall {low:.0%} on {n_rare} of the rare classes, {high:.0%} on images of the "
                "other classes"
            )
            if high - low > _LOSS and chance:
                evidence += "; the rare ones are too few to tell it from chance"
    config = case.config
    fixes = []
    if not config.balance and config.class_weights == "none":
        # A head at its optimum is better with weights between none and full ones.
        fix = (
            case.again("weigh rare classes more", {"class_weights": "sqrt"})
            if case.trains_at_once
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
                [Remedy("look at each class, not at accuracy alone", case.evaluation)]
                if case.run is not None
                else []
            ),
        ),
        sure="likely" if suffers else "possible",
    )


def _told(said: Predictions, some: BoolArray) -> tuple[int, int]:
    """Return right answers and images; of images in groups, as many as would tell as much."""
    right = said.right[some]
    n_images = int(n_effective(right, None if said.groups is None else said.groups[some]))
    return round(float(right.mean()) * n_images), n_images
