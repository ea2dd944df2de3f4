"""Images that are in two parts at once."""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from convscope.datasets import holds_files
from convscope.datasets.checks.near_copies import near_copies_across
from convscope.datasets.checks.series import series_across
from convscope.datasets.division.part_notes import groups_across, groups_of_parts
from convscope.diagnosis import TRAPS, Finding, Remedy, Unknown
from convscope.diagnosis.case import Case
from convscope.types import BoolArray, Split
from convscope.wording import command_line, counted, printable

_MOST_TO_LOOK_AT = 20_000
"""Number of images; near copies among more take longer than a diagnosis should."""

# In sets whose images look alike by nature, similarity means less.
_COMMON = 0.05


@TRAPS.register("leaks")
def leaks(case: Case) -> Finding | None:
    """Leaks: the same images, nearly the same, or of one group or series, in two parts.

    The network is then evaluated on images that it was trained on, or tested on images by which it
    was chosen, so the accuracy is too high.
    Near copies are searched for among up to 20,000 images; `convscope data check` searches among
    any number, and for rotated ones too.
    """
    parts = case.dataset.parts
    copied = {
        (earlier, later): np.isin(np.array(parts[later].hashes), np.array(parts[earlier].hashes))
        for earlier, later in itertools.combinations(parts, 2)
    }
    copied = {names: mask for names, mask in copied.items() if mask.any()}
    named = groups_of_parts(parts)
    torn = groups_across(named)
    remedy = Remedy(
        "list them, and keep one of each", command_line("data", "check", *case.data_words)
    )
    if copied:
        listed = [
            f"{mask.sum():,} of {counted(len(mask), f'{later} image')} also in {earlier}"
            for (earlier, later), mask in copied.items()
        ]
        return Finding(
            symptom=f"Data leak: some {_leak(copied, 'are')}.",
            evidence=f"Pixel for pixel: {', '.join(listed)}.{_why(case, copied)}"
            + _without(case, copied),
            remedies=(remedy,),
            sure="certain",
        )
    if torn:
        listed = [
            f"{counted(count, 'group')} of {later} also in {earlier}, such as "
            f"'{printable(min(named[earlier] & named[later]))}'"
            for (earlier, later), count in torn.items()
        ]
        what = "a patient or a place"
        if case.config.split.near_copies:
            what = "images that are nearly the same (split.near_copies)"
        return Finding(
            symptom="Data leak: images of one group are in two parts.",
            evidence=f"{'; '.join(listed)}. What a network learnt of a group, such as {what}, it "
            f"knows again in its other images.{_why(case, torn)}",
            remedies=(replace(remedy, words="list them, and give each group to one part"),),
            # Images of a kind may look alike by nature.
            sure="likely" if case.config.split.near_copies else "certain",
        )
    opened = {"train": case.dataset.train, "val": case.val_images}
    if case.dataset.test is not None:
        opened["test"] = case.dataset.test.unjudged()
    series = _series(case, opened) if not named and holds_files(case.config.data) else None
    if sum(map(len, parts.values())) > _MOST_TO_LOOK_AT:
        if series is not None:
            return series
        raise Unknown(
            f"no image is in two parts pixel for pixel; near copies among more than "
            f"{_MOST_TO_LOOK_AT:,} images take long: {remedy.command}"
        )
    pairs = {names: found for names, found in near_copies_across(opened).items() if found}
    if not pairs:
        return series
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
    keep = (
        (case.again("keep near copies in one part", {"split.near_copies": True}),)
        if case.dataset.drawn & {later for _, later in pairs} and not case.config.split.near_copies
        else ()
    )
    alike = sum(map(len, pairs.values())) > _COMMON * sum(map(len, parts.values()))
    copies = Finding(
        symptom=f"Possible data leak: some {_leak(pairs, 'look like')}.",
        evidence=f"{found[0].upper()}{found[1:]}, such as {examples}.{_why(case, pairs)}"
        + (" Images of this kind look alike by nature, so it may mean little." if alike else ""),
        remedies=(*keep, remedy),
        sure="note" if alike else "likely",
    )
    if series is None:
        return copies
    evidence = f"{series.evidence} {copies.evidence}"
    return replace(series, evidence=evidence, remedies=(*series.remedies, *copies.remedies))


def _series(case: Case, parts: Mapping[str, Split]) -> Finding | None:
    """Return a finding on images that look like their neighbour by name in another part."""
    found = series_across(parts, case.dataset.class_names)
    if found is None:
        return None
    drawn = bool(case.dataset.drawn)
    settings = found.settings(drawn=drawn)
    return Finding(
        symptom="Possible data leak: images of one series are in different parts.",
        evidence=f"In {found.seen(' that are in different parts')}. If they are frames of a video "
        "or photos of one thing, the network recognises what it learnt, and its scores are too "
        "high.",
        remedies=(
            case.again("keep each series in one part", settings)
            if settings
            else Remedy(
                f"list them; {found.remedy(drawn=drawn)}",
                command_line("data", "check", *case.data_words),
            ),
        ),
        sure="likely",
    )


def _leak(pairs: Iterable[tuple[str, str]], verb: str) -> str:
    """Return which images are known, by the earlier and later parts that have some in common."""
    if any(earlier == "train" for earlier, _ in pairs):
        return f"evaluation images {verb} training images"
    return f"test images {verb} validation images"


def _why(case: Case, pairs: Iterable[tuple[str, str]]) -> str:
    """Return a sentence on what validation images have to do with training, if they are leaked."""
    if ("val", "test") not in pairs:
        return ""
    if case.config.refit:
        return " The validation images were trained on too, at the end."
    return " Validation images decide on epochs and settings."


def _without(case: Case, copied: dict[tuple[str, str], BoolArray]) -> str:
    """Return a sentence on the accuracy on the images that are in one part only."""
    try:
        said = case.predictions
    except Unknown:
        return ""
    if case.config.multi_label:
        return ""
    for name in ("test", "val"):
        masks = [mask for (_, later), mask in copied.items() if later == name]
        mask = np.any(masks, axis=0)
        if name in said and mask.any() and not mask.all():
            seen = set(np.asarray(case.dataset.parts[name].ids)[mask].tolist())
            right = said[name].right
            new = np.asarray([image_id not in seen for image_id in said[name].ids.tolist()])
            return (
                f" Accuracy on the {name} images: {right.mean():.1%}, without them "
                f"{right[new].mean():.1%}."
            )
    return ""
