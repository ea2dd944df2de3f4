"""A network that memorises its training images."""

import contextlib
import math
from typing import Any

from convscope.datasets import settings_of
from convscope.diagnosis import TRAPS, Finding, Remedy
from convscope.diagnosis.case import Case
from convscope.diagnosis.guessing import guessing
from convscope.errors import ConvscopeError
from convscope.evaluation.metrics import wilson
from convscope.wording import command_line

_RISE = 1.1
"""Final over lowest validation loss: more than random variation between epochs."""
_GAP = 0.05
"""Gap between training and validation accuracy."""
_FEWEST = 3
"""Number of epochs that show when validation began to rise."""
_CHANGES = {"augment.flip": "mirror them", "augment.crop": "shift them"}


@TRAPS.register("over-fitting")
def overfitting(case: Case) -> Finding | None:
    """Overfitting, and its beginning.

    The training loss keeps falling while the validation loss rises: from then on the network learns
    only what holds for the training images.
    """
    rows = case.history
    losses = [row["val_loss"] for row in rows]
    if not all(map(math.isfinite, losses)):
        return None
    if len(rows) < _FEWEST:
        return _without_a_curve(case)
    begun = min(range(len(rows)), key=losses.__getitem__)
    last = rows[-1]
    # One epoch may be an outlier.
    risen = min(losses[-2:])
    gap = last["accuracy"] - last["val_accuracy"]
    # Most classes are absent from most images, so that share hardly differs.
    agree = gap < _GAP and not case.config.multi_label
    if risen < _RISE * losses[begun] or agree or last["loss"] >= rows[begun]["loss"]:
        return None
    epoch = int(rows[begun]["epoch"])
    return Finding(
        symptom=f"Overfitting since epoch {epoch}: it memorises the training images.",
        evidence=f"Validation loss was lowest after epoch {epoch} ({losses[begun]:.3f}) and is "
        f"{losses[-1]:.3f} after epoch {int(last['epoch'])}, while the training loss fell from "
        f"{rows[begun]['loss']:.3f} to {last['loss']:.3f}; {_accuracies(case, last)}."
        + _evaluated(case),
        remedies=_remedies(case),
        sure="certain" if risen > 1.25 * losses[begun] else "likely",
    )


def _without_a_curve(case: Case) -> Finding | None:
    """Judge one or two epochs, or a head that takes none, by the two losses and accuracies.

    Every head fits its own images better. It memorises them if less than half of what it has
    learnt, as its lead over guessing, holds for others, or if guessing has a lower loss on those.
    """
    last, guess = case.history[-1], guessing(case)
    if case.config.multi_label:
        learnt, held = (guess.loss - last[name] for name in ("loss", "val_loss"))
        much = guess.little
    else:
        much = _GAP
        learnt = last["accuracy"] - guess.accuracy
        # The most that chance allows for.
        held = wilson(last["val_accuracy"], case.n_val)[1] - guess.accuracy
    lost, worse = held <= learnt / 2, last["val_loss"] > guess.loss + guess.little
    if learnt < much or not (lost or worse):
        return None
    return Finding(
        symptom="Overfitting: it memorises the training images.",
        evidence=f"Training loss {last['loss']:.3f}, validation loss {last['val_loss']:.3f}, by "
        f"guessing {guess.loss:.3f}; {_accuracies(case, last)}, {guess.accuracy:.1%} by guessing.",
        remedies=_remedies(case),
        sure="certain" if lost and worse else "likely",
    )


def _accuracies(case: Case, row: dict[str, Any]) -> str:
    return (
        f"{case.decisions} {row['accuracy']:.1%} on training images, {row['val_accuracy']:.1%} on "
        "validation images"
    )


def _evaluated(case: Case) -> str:
    """Return a sentence if the weights that are evaluated are not those of the last epoch."""
    from convscope.training.fit import chosen_epochs

    with contextlib.suppress(ConvscopeError):  # it may not have been evaluated yet
        if case.judged == "last":
            return ""
    n_kept = len(case.history) if case.rolled_back else len(case.all_phases)
    n_epochs = sum(chosen_epochs(case.all_phases, case.config).values())
    if n_epochs >= n_kept:
        return ""
    return f" The weights that are evaluated are those after epoch {n_epochs}."


def _remedies(case: Case) -> tuple[Remedy, ...]:
    """Return what makes up for too few training images, without what the run has already."""
    config = case.config
    mirrored = settings_of(config.data).get("augment.flip", True)
    varied: dict[str, Any] = {}
    if mirrored and not config.augment.flip and (case.backbone is None or case.trains_at_once):
        # A frozen backbone runs once on each version of an image.
        varied = {"augment.flip": True} | ({} if case.backbone is None else {"backbone.views": 2})
    if case.backbone is None and not config.augment.crop:
        varied |= {"augment.crop": 0.125}
    remedies = []
    if varied:
        how = " and ".join(words for key, words in _CHANGES.items() if key in varied)
        remedies.append(case.again(f"augment the training images: {how}", varied))
    elif case.backbone is not None and config.head.hidden and not config.head.dropout:
        remedies.append(case.again("add dropout to the head", {"head.dropout": 0.5}))
    stops = config.early_stop_patience is not None
    stop = case.changed({"judge": "best"} | ({} if stops else {"early_stop_patience": 3}))
    if stop and not case.trains_at_once and not case.rolled_back:
        remedies.append(case.again("stop when validation no longer improves", stop))
    if not remedies:
        more = command_line("data", "show", *case.data_words)
        remedies.append(Remedy("add training images; count them with", more))
    return tuple(remedies)
