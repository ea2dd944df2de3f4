"""A network that learns its training images by heart."""

import math
from typing import Any

from convscope.datasets import settings_of
from convscope.diagnosis import TRAPS, Finding
from convscope.diagnosis.case import Case

_RISE = 1.1
"""The validation loss at the end, over its least: more than chance makes from epoch to epoch."""
_GAP = 0.05
"""Training accuracy over validation accuracy."""


@TRAPS.register("over-fitting")
def overfitting(case: Case) -> Finding | None:
    """Over-fitting, and when it began.

    The training loss goes on falling while the validation loss rises: what is learnt from then on
    holds for the training images only.
    """
    rows = case.history
    losses = [row["val_loss"] for row in rows]
    if not all(map(math.isfinite, losses)) or len(rows) < 3:
        return None
    begun = min(range(len(rows)), key=losses.__getitem__)
    last = rows[-1]
    gap = last["accuracy"] - last["val_accuracy"]
    if losses[-1] < _RISE * losses[begun] or gap < _GAP or last["loss"] >= rows[begun]["loss"]:
        return None
    epoch, config = int(rows[begun]["epoch"]), case.config
    remedies = []
    mirrored = settings_of(config.data).get("augment.flip", True)
    if case.backbone is None and not (config.augment.flip and config.augment.crop):
        varied: dict[str, Any] = {"augment.flip": True} if mirrored else {}
        varied |= {"augment.crop": 0.125}
        words = "vary the training images" + (": mirror and shift them" if mirrored else "")
        remedies.append(case.again(words, varied))
    elif case.backbone is not None and not config.head.dropout and config.head.hidden:
        remedies.append(case.again("drop units of the head at random", {"head.dropout": 0.5}))
    stop = {"early_stop_patience": 3, "judge": "best"}
    remedies.append(case.again("stop when it gets no better", stop))
    return Finding(
        symptom=f"It over-fits: since epoch {epoch} it learns the training images by heart.",
        evidence=f"Validation loss was least after epoch {epoch} ({losses[begun]:.3f}) and is "
        f"{losses[-1]:.3f} after epoch {int(last['epoch'])}, while the training loss fell from "
        f"{rows[begun]['loss']:.3f} to {last['loss']:.3f}; accuracy {last['accuracy']:.1%} on "
        f"training images, {last['val_accuracy']:.1%} on validation images.",
        remedies=tuple(remedies),
        sure="certain" if losses[-1] > 1.25 * losses[begun] else "likely",
    )
