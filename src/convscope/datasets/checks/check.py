"""Check of images before training: broken, unusual, unbalanced or duplicate ones."""

import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from convscope.datasets.checks._division import on_division, on_series
from convscope.datasets.checks._looks import Look, look_again, look_at
from convscope.datasets.checks._oddities import (
    on_blank,
    on_counts,
    on_faults,
    on_groups,
    on_headers,
    on_layout,
    on_namesakes,
)
from convscope.datasets.checks._sources import on_sources
from convscope.datasets.checks._twins import Images, find_twins
from convscope.datasets.checks._white import on_white
from convscope.datasets.checks.findings import CheckReport, report_of
from convscope.datasets.checks.fingerprints import fingerprint, gather, is_blank
from convscope.datasets.division.part_notes import groups_of_parts
from convscope.datasets.folders.archives import unpacked
from convscope.datasets.folders.contents import read_contents
from convscope.datasets.folders.layout import Layout
from convscope.datasets.folders.parallel import map_ordered, n_readers
from convscope.images.deep import choose_white
from convscope.progress import Progress
from convscope.types import Dataset, Split, n_of_each, names_of, said_of


def check_folder(path: Path, labels: str | None = None, *, progress: Progress) -> CheckReport:
    """Check every image of a folder and return the findings.

    Each image is decoded as it would be for training. Nothing is written.

    Args:
        path: Folder or archive, as for `load_folder`.
        labels: Table of its labels, as for `load_folder`.
        progress: Called with each image.

    Raises:
        DataError: If there is no such folder, or it has no classes.
    """
    with unpacked(path, progress) as root:
        return _check(root, path, labels, progress)


def _check(root: Path, path: Path, labels: str | None, progress: Progress) -> CheckReport:
    layout = read_contents(root, labels, None if root == path else path)
    places = [
        (part, class_name, name)
        for part, classes in layout.parts.items()
        for class_name, names in sorted(classes.items())
        for name in names
    ]
    looks = []
    # Every image is decoded and made small, which threads share well unless all are small files.
    workers = n_readers(root, [name for _, _, name in places], worthwhile=16384)
    with progress.task(f"Checking {root.name}", len(places), "images") as step:
        for look in map_ordered(partial(look_at, root), places, workers):
            looks.append(look)
            step(1)
    peaks = {look.name: look.peak for look in looks if look.peak is not None}
    white = choose_white(peaks.values())
    if white is not None:
        looks = [look_again(root, look, white) for look in looks]
    readable = [look for look in looks if not look.fault]
    labels_of = _labels_of(layout, readable)
    known = layout.class_names if layout.labels_of is not None else ()
    counts = {
        part: dict.fromkeys(known or sorted(classes), 0) for part, classes in layout.parts.items()
    }
    for look in readable:
        for name in labels_of[look.name]:
            counts[look.part][name] += 1
    prints = gather(look.print for look in readable if look.print is not None)
    twins = find_twins(
        Images(
            [look.name for look in readable],
            [look.part for look in readable],
            [said_of(labels_of[look.name]) for look in readable],
            [look.key for look in readable],
            prints,
            [look.blank for look in readable],
        ),
        progress=progress,
    )
    blank = [look for look in readable if look.blank]
    headers = {look.name: look.header for look in readable if look.header is not None}
    findings = [
        *on_layout(layout),
        *on_namesakes(layout.names),
        *on_faults(
            layout,
            {look.name: look.fault for look in looks if look.fault},
            {look.name for look in looks if look.unread_format},
        ),
        *on_white(peaks, white),
        *on_headers(headers),
        *on_sources(headers, {name: said_of(labels_of[name]) for name in headers}),
        *on_blank(
            [look.name for look in blank],
            sum(look.header is not None and look.header.alpha for look in blank),
        ),
        *on_counts(counts, divided=layout.divided),
        *on_groups(_groups_of(layout, readable)),
        *on_series(layout, readable, labels_of, prints),
        *on_division(layout, readable, labels_of),
        *twins,
    ]
    return report_of(str(path), len(looks), counts, findings)


def check_dataset(dataset: Dataset, *, progress: Progress) -> CheckReport:
    """Check a loaded dataset: class counts, and duplicates within and across its parts.

    The pixels of the test images are compared with the others; no model sees them, so this does not
    open the test set.

    Args:
        dataset: Dataset in one, two or three parts.
        progress: Called with each image.
    """
    parts: dict[str, Split] = {"train": dataset.train}
    if dataset.val is not None:
        parts["val"] = dataset.val
    if dataset.test is not None:
        parts["test"] = dataset.test.unjudged()
    prints, blank = [], []
    n_images = sum(map(len, parts.values()))
    with progress.task(f"Checking {dataset.name}", n_images, "images") as step:
        for split in parts.values():
            for image in split.images:
                prints.append(fingerprint(image))
                blank.append(is_blank(image, prints[-1]))
                step(1)
    counts = {
        part: dict(
            zip(
                dataset.class_names,
                n_of_each(split.labels, len(dataset.class_names)).tolist(),
                strict=True,
            )
        )
        for part, split in parts.items()
    }
    images = Images(
        [str(image_id) for split in parts.values() for image_id in split.ids],
        [part for part, split in parts.items() for _ in range(len(split))],
        [
            names_of(label, dataset.class_names)
            for split in parts.values()
            for label in split.labels
        ],
        [key for split in parts.values() for key in split.hashes],
        gather(prints),
        blank,
        dataset.drawn,
    )
    findings = [
        *on_blank(list(itertools.compress(images.ids, blank))),
        *on_counts(counts, divided=len(parts) > 1),
        *on_groups(groups_of_parts(parts)),
        *find_twins(images, progress=progress),
    ]
    return report_of(dataset.name, n_images, counts, findings)


def _labels_of(layout: Layout, looks: Sequence[Look]) -> Mapping[str, Sequence[str]]:
    """Return the classes of each image, by its name."""
    if layout.labels_of is not None:
        return layout.labels_of
    return {look.name: (look.class_name,) for look in looks}


def _groups_of(layout: Layout, looks: Sequence[Look]) -> dict[str, set[str]]:
    """Return the groups of each part; empty if there are none."""
    if layout.group_of is None:
        return {}
    found: dict[str, set[str]] = {part: set() for part in layout.parts}
    for look in looks:
        found[look.part] |= {layout.group_of[look.name]} - {""}
    return found
