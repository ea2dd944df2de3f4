"""Labels that are probably wrong."""

import numpy as np

from convscope.diagnosis import TRAPS, Finding, Remedy, Unknown
from convscope.diagnosis.case import Case
from convscope.evaluation.label_noise import share_of_noise
from convscope.evaluation.suspects import suspect_labels
from convscope.evaluation.telling import seen_at
from convscope.types import evenly_spread

_GOOD = 0.8
"""Validation accuracy from which a network's doubt is evidence about a label."""
_SHARE = 0.03
_SURE = 1e-3
_MOST_IMAGES = 5_000
_FIRST_GUESSES = 3


@TRAPS.register("label-errors")
def label_errors(case: Case) -> Finding | None:
    """Label errors: validation images that the network is sure belong to another class."""
    case.require_one_class()
    val = case.val
    accuracy = float(val.right.mean())
    if accuracy < _GOOD:
        raise Unknown(f"a network with {accuracy:.0%} accuracy is too weak to question labels")
    # A class that the network confuses with another is among its first guesses; a wrong label may
    # be any class. With few classes any is a first guess.
    n_guesses = min(_FIRST_GUESSES, val.probs.shape[1] // 3)
    rank = (val.probs > val.probs[np.arange(len(val.labels)), val.labels][:, None]).sum(axis=1)
    suspects = [index for index in suspect_labels(val) if rank[index] >= n_guesses]
    share = len(suspects) / len(val.labels)
    if share < _SHARE:
        return None
    # A network that is often torn has as many wrong answers as it says, all with right labels.
    some = evenly_spread(len(val.labels), _MOST_IMAGES)
    wrong, p = share_of_noise(val.probs[some], val.labels[some])
    if wrong < _SHARE or p > _SURE:
        return None
    first = [seen_at(val, index, case.class_names) for index in suspects[:3]]
    listed = ", ".join(
        f"{seen.image_id} (labelled {seen.class_name}, probably {seen.answer})" for seen in first
    )
    look = case.command("gallery")
    return Finding(
        symptom="Some labels are probably wrong.",
        evidence=f"{len(suspects):,} of {len(val.labels):,} validation images ({share:.1%}) have "
        f"a label that the network, which was not trained on them, rules out: {listed}.",
        remedies=(Remedy("look at them and correct the labels", f"{look} --of suspects"),),
        sure="possible",
    )
