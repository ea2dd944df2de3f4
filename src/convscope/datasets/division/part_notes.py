"""Notes on the parts of a dataset for its user, one line each."""

import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from convscope.types import (
    PART_NAMES,
    Dataset,
    Labels,
    SealedSplit,
    Split,
    classes_of,
    is_multi_label,
    n_of_each,
    said_of,
)
from convscope.wording import composed, counted, printable, quoted


def part_notes(dataset: Dataset) -> list[str]:
    """Return lines on classes that a part lacks, on groups and on copies of images.

    Copies are identified by the hashes of the pixels; no model sees a test image.

    Args:
        dataset: Dataset in three parts.
    """
    parts, n_classes = dataset.parts, len(dataset.class_names)
    counts = {name: n_of_each(part.labels, n_classes).tolist() for name, part in parts.items()}
    missing = [said for _, said in classes_missing(dataset.class_names, counts)]
    missing += [said for _, said in classes_everywhere(dataset.class_names, parts["train"].labels)]
    return [*missing, *_groups(parts), *_copies(dataset.class_names, parts)]


def classes_missing(
    class_names: Sequence[str], counts: Mapping[str, Sequence[int]]
) -> list[tuple[tuple[str, ...], str]]:
    """Return the consequences if some classes have no image in some part.

    Args:
        class_names: Names in the order of the labels.
        counts: Number of images of each class, by part.

    Returns:
        Groups of classes that lack the same parts, with a line about them.
    """
    alike: dict[tuple[str, ...], list[str]] = {}
    for label, name in enumerate(class_names):
        lacking = tuple(sorted(part for part in counts if not counts[part][label]))
        if "train" in lacking:
            # A class that cannot be learnt is the more serious news.
            lacking = ("train",)
        if lacking:
            alike.setdefault(lacking, []).append(name)
    notes = []
    for lacking, names in alike.items():
        one = len(names) == 1
        what = f"{'class' if one else 'classes'} {quoted(names)}"
        if lacking == ("train",):
            line = f"no training image of {what}; {'it' if one else 'they'} cannot be learnt"
        elif lacking == ("val",):
            line = f"no validation image of {what}; no choice considers {'it' if one else 'them'}"
        else:
            part = "validation and no test" if len(lacking) > 1 else "test"
            score = "its score is" if one else "their scores are"
            line = f"no {part} image of {what}; {score} unknown"
        notes.append((tuple(names), line))
    return notes


def classes_everywhere(
    class_names: Sequence[str], labels: Labels
) -> list[tuple[tuple[str, ...], str]]:
    """Return the consequence if every training image has some classes: nothing tells them.

    Args:
        class_names: Names in the order of the labels.
        labels: Classes of the training images; only where each may have several is that a loss.

    Returns:
        Those classes with a line about them; empty if there are none.
    """
    if not is_multi_label(labels):
        return []
    everywhere = np.flatnonzero(n_of_each(labels, len(class_names)) == len(labels))
    names = tuple(class_names[label] for label in everywhere.tolist())
    if not names:
        return []
    what, it = ("class", "it") if len(names) == 1 else ("classes", "they")
    return [(names, f"every training image has {what} {quoted(names)}; {it} cannot be learnt")]


def classes_of_copies(
    parts: Mapping[str, Split | SealedSplit],
) -> list[set[tuple[int, ...]]]:
    """Return the ways in which each image that is there more than once is labelled.

    Args:
        parts: Parts of a dataset.

    Returns:
        For each such image its different classes, see `classes_of`: one entry if all its copies
        agree.
    """
    counts = Counter(key for part in parts.values() for key in part.hashes)
    found: dict[str, set[tuple[int, ...]]] = {}
    for part in parts.values():
        for key, label in zip(part.hashes, part.labels, strict=True):
            if counts[key] > 1:
                found.setdefault(key, set()).add(classes_of(label))
    return list(found.values())


def groups_across(named: Mapping[str, set[str]]) -> dict[tuple[str, str], int]:
    """Return how many groups have images in two parts, by the earlier and the later part.

    Args:
        named: Groups of each part, the earlier parts first.

    Examples:
        >>> groups_across({"train": {"ann", "ben"}, "val": {"cleo"}, "test": {"ben", "dora"}})
        {('train', 'test'): 1}
    """
    shared = {
        (earlier, later): len(named[earlier] & named[later])
        for earlier, later in itertools.combinations(named, 2)
    }
    return {names: count for names, count in shared.items() if count}


def groups_of_parts(parts: Mapping[str, Split | SealedSplit]) -> dict[str, set[str]]:
    """Return the groups of each part; empty if there are none."""
    return {
        name: set(part.groups.tolist()) - {""}
        for name, part in parts.items()
        if part.groups is not None
    }


def folder_above(names: Iterable[str], but: Collection[str] = ()) -> str:
    """Return the folders that all images are in, with a slash at the end; "" if there are none.

    Args:
        names: Names of the images.
        but: Names of folders that do not count, nor what is below them.

    Examples:
        >>> folder_above(["test/cat/1.png", "test/cat/2.png"], but=["cat", "dog"])
        'test/'
    """
    folders = [name.split("/")[:-1] for name in names]
    # What the first and the last in order begin with, all do.
    ends = zip(min(folders, default=[]), max(folders, default=[]), strict=False)
    shared = itertools.takewhile(
        lambda pair: pair[0] == pair[1] and composed(pair[0]) not in but, ends
    )
    return "".join(f"{folder}/" for folder, _ in shared)


def _groups(parts: dict[str, Split | SealedSplit]) -> list[str]:
    named = groups_of_parts(parts)
    counts = {name: len(groups) for name, groups in named.items()}
    if not counts:
        return []
    listed = ", ".join(f"{counted(n, 'group')} in {PART_NAMES[name]}" for name, n in counts.items())
    torn = [
        f"{count:,} of {counts[later]:,} groups of the {PART_NAMES[later]} images have "
        f"{PART_NAMES[earlier]} images too"
        for (earlier, later), count in groups_across(named).items()
    ]
    if torn:
        return [f"{', and '.join(torn)}: scores on those are too high"]
    return [f"images of a group are kept together in one part: {listed}"]


def _copies(class_names: Sequence[str], parts: dict[str, Split | SealedSplit]) -> list[str]:
    notes = []
    hashes = {name: part.hashes for name, part in parts.items()}
    counts = Counter(key for keys in hashes.values() for key in keys)
    n_extra = sum(counts.values()) - len(counts)
    if not n_extra:
        return []
    across = []
    for name, others in (("test", ("train", "val")), ("val", ("train",))):
        known = {key for other in others for key in hashes.get(other, ())}
        n_known = sum(key in known for key in hashes.get(name, ()))
        if n_known:
            where = " or ".join(PART_NAMES[other] for other in others if other in hashes)
            across.append(
                f"{n_known:,} of {counted(len(hashes[name]), f'{PART_NAMES[name]} image')} "
                f"{'is a copy' if n_known == 1 else 'are copies'} of a {where} image"
            )
    extra = (
        f"{counted(n_extra, 'image')} {'is a copy' if n_extra == 1 else 'are copies'} of another"
    )
    if across:
        notes.append(f"{extra}; {', and '.join(across)}: scores on those are too high")
    else:
        notes.append(f"{extra}; copies are kept together in one part")
    torn = [classes for classes in classes_of_copies(parts) if len(classes) > 1]
    if torn:
        first, second = (
            printable(said_of([class_names[index] for index in classes]))
            for classes in sorted(torn[0])[:2]
        )
        where = "labelled in more than one way"
        if parts["train"].labels.ndim == 1:
            where = "in more than one class"
        notes.append(
            f"{counted(len(torn), 'image')} {'is' if len(torn) == 1 else 'are'} {where} "
            f"(such as '{first}' and '{second}'); 'convscope data check' lists them"
        )
    return notes
