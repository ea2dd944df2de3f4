"""Labels that contradict each other: the same image in more than one class."""

from convscope.datasets.division.part_notes import classes_of_copies
from convscope.diagnosis import TRAPS, Finding, Remedy
from convscope.diagnosis.case import Case
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
    parts = case.dataset.parts
    copied = classes_of_copies(parts)
    torn = sum(len(classes) > 1 for classes in copied)
    if torn < _FEW:
        return None
    n_images = sum(len(part) for part in parts.values())
    return Finding(
        symptom="Labels contradict each other: the same image is in more than one class.",
        evidence=f"Of {len(copied):,} images with copies {torn:,} are labelled in more than one "
        f"way, among {n_images:,} images; a classifier cannot be right about both.",
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
        sure="certain" if torn >= _SHARE * n_images else "note",
    )
