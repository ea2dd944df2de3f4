"""A network that is no better than guessing."""

import math

import numpy as np

from convscope.diagnosis import AT_CHANCE, TRAPS, Finding, Remedy, Unknown
from convscope.diagnosis.case import Case
from convscope.diagnosis.guessing import SURE, beyond_guessing, guessing, right_by_chance
from convscope.wording import command_line, counted

_TOO_FEW = 0.25
"""Kappa that so few images cannot tell from none."""


@TRAPS.register(AT_CHANCE)
def at_chance(case: Case) -> Finding | None:
    """A network that is no better than guessing: its answers have nothing to do with the labels.

    Measured against the same answers in random order, as classes may be of very different sizes.
    """
    case.require_one_class()
    val = case.val
    answers = val.probs.argmax(axis=1)
    kappa, error = beyond_guessing(val.labels, answers, val.probs.shape[1])
    if math.isnan(kappa):
        raise Unknown("all validation images are of one class")
    if not case.n_val:
        raise Unknown("all validation images are of one group")
    error = case.over_groups(error)
    if kappa > SURE * error and kappa > 0:
        return None
    accuracy = float(val.right.mean())
    by_chance = right_by_chance(val.labels, answers, val.probs.shape[1])
    # Answers that are all the same have no error of their own.
    error = max(error, math.sqrt(by_chance / (1 - by_chance) / case.n_val))
    if kappa + SURE * error > _TOO_FEW:
        few = counted(len(answers), "validation image")
        raise Unknown(f"{few} cannot tell it from a network that guesses")
    commonest = int(np.bincount(answers).argmax())
    n_alike = int((answers == commonest).sum())
    evidence = (
        f"Accuracy {accuracy:.1%} on {len(answers):,} validation images, where the same answers in "
        f"random order reach {by_chance:.1%}; {n_alike:,} of them "
        f"{'is' if n_alike == 1 else 'are'} {case.class_names[commonest]}."
    )
    trained = max(float(row["accuracy"]) for row in case.history)
    chance = guessing(case).accuracy
    if trained - chance > (1 - chance) / 2:
        return Finding(
            symptom="The network is no better than guessing on images that it was not trained on.",
            evidence=f"{evidence} It knows its training images by heart: accuracy {trained:.1%}.",
            remedies=(
                Remedy(
                    "check that the labels belong to the images",
                    command_line("data", "show", *case.data_words),
                ),
            ),
            sure="certain",
        )
    return Finding(
        symptom="The network is no better than guessing.",
        evidence=f"{evidence} Training accuracy {trained:.1%}.",
        remedies=case.other_rates(),
        sure="certain",
    )
