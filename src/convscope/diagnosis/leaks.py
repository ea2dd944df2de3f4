"""Images that are in two parts at once."""

import numpy as np

from convscope.datasets.checks.check import check_dataset
from convscope.diagnosis import TRAPS, Finding, Remedy, Unknown
from convscope.diagnosis.case import Case
from convscope.progress import Progress
from convscope.types import BoolArray
from convscope.wording import command_line

_MOST_TO_LOOK_AT = 8_000
"""Images; near duplicates among more take longer than a diagnosis should."""


@TRAPS.register("leaks")
def leaks(case: Case) -> Finding | None:
    """Leaks: the same images, or nearly the same, in training and in validation or test.

    What is judged was learnt, and the accuracy is better than it will be. Near duplicates are
    looked for among up to 8,000 images; `convscope data check` does so among any number.
    """
    parts = case.parts
    learnt = set(parts["train"].hashes)
    leaked = {
        name: np.asarray([digest in learnt for digest in parts[name].hashes])
        for name in ("val", "test")
    }
    told = [
        f"{mask.sum():,} of {len(mask):,} {name} images"
        for name, mask in leaked.items()
        if mask.any()
    ]
    remedy = Remedy("list them, and leave one of each", command_line("data", "check", case.data))
    if told:
        return Finding(
            symptom="Images leak: some are judged that were learnt.",
            evidence=f"In the training part too, pixel for pixel: {' and '.join(told)}."
            + _without(case, leaked),
            remedies=(remedy,),
            sure="certain",
        )
    if sum(map(len, parts.values())) > _MOST_TO_LOOK_AT:
        return None
    for found in check_dataset(case.dataset, progress=Progress()).findings:
        if found.kind == "near-duplicates-across-parts":
            alike = "much alike" in found.remedy
            return Finding(
                symptom="Images leak, nearly: some that are judged look like learnt ones.",
                evidence=f"{found.message[0].upper()}{found.message[1:]}."
                + (" Images of this kind are much alike, so it may mean little." if alike else ""),
                remedies=(remedy,),
                sure="note" if alike else "likely",
            )
    return None


def _without(case: Case, leaked: dict[str, BoolArray]) -> str:
    """Say what the accuracy is on the images that are in one part only."""
    try:
        said = case.predictions
    except Unknown:
        return ""
    for name in ("test", "val"):
        mask = leaked[name]
        if name in said and mask.any() and not mask.all():
            seen = set(np.asarray(case.parts[name].ids)[mask].tolist())
            right = said[name].right
            new = np.asarray([image_id not in seen for image_id in said[name].ids.tolist()])
            return (
                f" Accuracy on the {name} images: {right.mean():.1%}, without them "
                f"{right[new].mean():.1%}."
            )
    return ""
