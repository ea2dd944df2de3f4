"""Images that are in two parts at once."""

import numpy as np

from convscope.datasets.checks.near_copies import near_copies_across
from convscope.diagnosis import TRAPS, Finding, Remedy, Unknown
from convscope.diagnosis.case import Case
from convscope.types import BoolArray
from convscope.wording import command_line, counted, printable

_MOST_TO_LOOK_AT = 20_000
"""Number of images; near copies among more take longer than a diagnosis should."""

# In sets whose images look alike by nature, similarity means less.
_COMMON = 0.05


@TRAPS.register("leaks")
def leaks(case: Case) -> Finding | None:
    """Leaks: the same images, or nearly the same, in training and in validation or test.

    The network is then evaluated on images that it was trained on, so the accuracy is too high.
    Near copies are searched for among up to 20,000 images; `convscope data check` searches among
    any number, and for rotated ones too.
    """
    parts = case.dataset.parts
    learnt = set(parts["train"].hashes)
    leaked = {
        name: np.asarray([digest in learnt for digest in parts[name].hashes])
        for name in ("val", "test")
    }
    listed = [
        f"{mask.sum():,} of {len(mask):,} {name} images"
        for name, mask in leaked.items()
        if mask.any()
    ]
    remedy = Remedy(
        "list them, and keep one of each", command_line("data", "check", *case.data_words)
    )
    if listed:
        return Finding(
            symptom="Data leak: some evaluation images are training images.",
            evidence=f"Also in the training part, pixel for pixel: {' and '.join(listed)}."
            + _without(case, leaked),
            remedies=(remedy,),
            sure="certain",
        )
    if sum(map(len, parts.values())) > _MOST_TO_LOOK_AT:
        return None
    opened = {"train": case.dataset.train, "val": case.val_images}
    if case.dataset.test is not None:
        opened["test"] = case.dataset.test.open(lambda _: None)
    pairs = {names: found for names, found in near_copies_across(opened).items() if found}
    if not pairs:
        return None
    found = ", ".join(
        f"{count:,} of {counted(len(parts[later]), f'{later} image')} "
        f"{'looks' if count == 1 else 'look'} like one of {earlier}"
        for (earlier, later), count in ((names, len(each)) for names, each in pairs.items())
    )
    examples = ", ".join(
        f"{printable(str(opened[later].ids[second]))} and "
        f"{printable(str(opened[earlier].ids[first]))}"
        for (earlier, later), ((first, second), *_) in pairs.items()
    )
    alike = sum(map(len, pairs.values())) > _COMMON * sum(map(len, parts.values()))
    return Finding(
        symptom="Possible data leak: some evaluation images look like training images.",
        evidence=f"{found[0].upper()}{found[1:]}, such as {examples}."
        + (" Images of this kind look alike by nature, so it may mean little." if alike else ""),
        remedies=(remedy,),
        sure="note" if alike else "likely",
    )


def _without(case: Case, leaked: dict[str, BoolArray]) -> str:
    """Return a sentence on the accuracy on the images that are in one part only."""
    try:
        said = case.predictions
    except Unknown:
        return ""
    if case.config.multi_label:
        return ""
    for name in ("test", "val"):
        mask = leaked[name]
        if name in said and mask.any() and not mask.all():
            seen = set(np.asarray(case.dataset.parts[name].ids)[mask].tolist())
            right = said[name].right
            new = np.asarray([image_id not in seen for image_id in said[name].ids.tolist()])
            return (
                f" Accuracy on the {name} images: {right.mean():.1%}, without them "
                f"{right[new].mean():.1%}."
            )
    return ""
