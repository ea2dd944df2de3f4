"""Labels that contradict each other: the same image in more than one class."""

from collections import Counter

from convscope.diagnosis import TRAPS, Finding, Remedy
from convscope.diagnosis.case import Case
from convscope.types import classes_of
from convscope.wording import command_line

_FEW = 3
"""Number of such images below which they may be slips."""

_SHARE = 0.01
"""Share of all images from which the labels as a whole are in doubt."""


@TRAPS.register("contradictions")
def contradictions(case: Case) -> Finding | None:
    """Contradictions: copies of an image are labelled in different ways.

    Copies are the only images of which it is certain that a label is wrong. If most of them
    disagree, so will the labels of images that are there once.
    """
    copies: Counter[str] = Counter()
    classes: dict[str, set[tuple[int, ...]]] = {}
    for part in case.parts.values():
        for digest, label in zip(part.hashes, part.labels, strict=True) if part else ():
            copies[digest] += 1
            classes.setdefault(digest, set()).add(classes_of(label))
    torn = sum(len(each) > 1 for each in classes.values())
    if torn < _FEW:
        return None
    n_copied = sum(n > 1 for n in copies.values())
    return Finding(
        symptom="Labels contradict each other: the same image is in more than one class.",
        evidence=f"Of {n_copied:,} images with copies {torn:,} are labelled in more than one way, "
        f"among {copies.total():,} images; a classifier cannot be right about both.",
        remedies=(
            Remedy(
                "list them, and keep each in its class",
                command_line("data", "check", *case.data_words),
            ),
            Remedy(
                "look for wrong labels among the others",
                command_line("data", "suspects", *case.data_words),
            ),
        ),
        sure="certain" if torn >= _SHARE * copies.total() else "note",
    )
