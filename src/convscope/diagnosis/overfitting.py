"""A network that memorises its training images."""

import math
from typing import Any

from convscope.datasets import settings_of
from convscope.diagnosis import TRAPS, Finding
from convscope.diagnosis.case import Case

_RISE = 1.1
"""Final over lowest validation loss: more than random variation between epochs."""
_GAP = 0.05
"""Gap between training and validation accuracy."""


@TRAPS.register("over-fitting")
def overfitting(case: Case) -> Finding | None:
    """Overfitting, and its beginning.

    The training loss keeps falling while the validation loss rises: from then on the network learns
    only what holds for the training images.
    """
    rows = case.history
    losses = [row["val_loss"] for row in rows]
    if not all(map(math.isfinite, losses)) or len(rows) < 3:
        return None
    begun = min(range(len(rows)), key=losses.__getitem__)
    last = rows[-1]
    gap = last["accuracy"] - last["val_accuracy"]
    # Most classes are absent from most images, so that share hardly differs.
    agree = gap < _GAP and not case.config.multi_label
    if losses[-1] < _RISE * losses[begun] or agree or last["loss"] >= rows[begun]["loss"]:
        return None
    epoch, config = int(rows[begun]["epoch"]), case.config
    remedies = []
    mirrored = settings_of(config.data).get("augment.flip", True)
    if case.backbone is None and not (config.augment.flip and config.augment.crop):
        varied: dict[str, Any] = {"augment.flip": True} if mirrored else {}
        varied |= {"augment.crop": 0.125}
        words = "augment the training images" + (": mirror and shift them" if mirrored else "")
        remedies.append(case.again(words, varied))
    elif case.backbone is not None and not config.head.dropout and config.head.hidden:
        remedies.append(case.again("add dropout to the head", {"head.dropout": 0.5}))
    stop = {"early_stop_patience": 3, "judge": "best"}
    remedies.append(case.again("stop when validation no longer improves", stop))
    return Finding(
        symptom=f"Overfitting since epoch {epoch}: it memorises the training images.",
        evidence=f"Validation loss was lowest after epoch {epoch} ({losses[begun]:.3f}) and is "
        f"{losses[-1]:.3f} after epoch {int(last['epoch'])}, while the training loss fell from "
        f"{rows[begun]['loss']:.3f} to {last['loss']:.3f}; {case.decisions} "
        f"{last['accuracy']:.1%} on training images, {last['val_accuracy']:.1%} on validation "
        "images.",
        remedies=tuple(remedies),
        sure="certain" if losses[-1] > 1.25 * losses[begun] else "likely",
    )
