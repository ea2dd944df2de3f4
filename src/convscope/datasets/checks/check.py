"""Check of images before training: broken, unusual, unbalanced or duplicate ones."""

import contextlib
import hashlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from convscope.datasets.checks._oddities import (
    on_blank,
    on_counts,
    on_faults,
    on_groups,
    on_headers,
    on_layout,
)
from convscope.datasets.checks._twins import Images, find_twins
from convscope.datasets.checks._white import on_white
from convscope.datasets.checks.findings import CheckReport, DataFinding, report_of
from convscope.datasets.checks.fingerprints import (
    Fingerprints,
    Int8Array,
    are_blank,
    fingerprint,
    gather,
)
from convscope.datasets.checks.series import UNRELATED, find_series
from convscope.datasets.division.draw import Pool, keys_of
from convscope.datasets.division.part_notes import (
    classes_everywhere,
    classes_missing,
    groups_of_parts,
)
from convscope.datasets.division.splits import draw_parts
from convscope.datasets.folders.archives import unpacked
from convscope.datasets.folders.contents import read_contents
from convscope.datasets.folders.layout import Layout
from convscope.datasets.folders.parallel import map_ordered, n_readers
from convscope.datasets.folders.scan import read_bytes
from convscope.errors import DataError, ImageError, UnreadFormatError
from convscope.images.decode import decode_image, read_peak
from convscope.images.deep import choose_white
from convscope.images.formats import ImageHeader, read_header
from convscope.progress import Progress
from convscope.recipe import SplitSettings
from convscope.types import (
    Dataset,
    Labels,
    Split,
    UInt8Array,
    n_of_each,
    names_of,
    said_of,
)
from convscope.wording import printable

_LARGE_PIXELS = 2**25
"""Pictures of more pixels, each of which takes 300 MB and more, are decoded one at a time."""

_LARGE = threading.Lock()


@dataclass(frozen=True)
class _Look:
    """Result of decoding one file; `fault` is "" and the rest is set if it can be read.

    For an image that does not define white, only the largest value is set at first.
    """

    name: str
    part: str
    class_name: str
    fault: str
    unread_format: bool = False
    header: ImageHeader | None = None
    key: str = ""
    print: tuple[UInt8Array, Int8Array] | None = None
    peak: float | None = None


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
        for look in map_ordered(partial(_look, root), places, workers):
            looks.append(look)
            step(1)
    peaks = {look.name: look.peak for look in looks if look.peak is not None}
    white = choose_white(peaks.values())
    if white is not None:
        looks = [_look_again(root, look, white) for look in looks]
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
        ),
        progress=progress,
    )
    blank = [look for look, is_blank in zip(readable, are_blank(prints), strict=True) if is_blank]
    findings = [
        *on_layout(layout),
        *on_faults(
            layout,
            {look.name: look.fault for look in looks if look.fault},
            {look.name for look in looks if look.unread_format},
        ),
        *on_white(peaks, white),
        *on_headers({look.name: look.header for look in readable if look.header is not None}),
        *on_blank(
            [look.name for look in blank],
            sum(look.header is not None and look.header.alpha for look in blank),
        ),
        *on_counts(counts, divided=layout.divided),
        *on_groups(_groups_of(layout, readable)),
        *_on_series(layout, readable, labels_of, prints),
        *_on_division(layout, readable, labels_of),
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
        parts["test"] = dataset.test.open(lambda _: None)
    prints = []
    n_images = sum(map(len, parts.values()))
    with progress.task(f"Checking {dataset.name}", n_images, "images") as step:
        for split in parts.values():
            for image in split.images:
                prints.append(fingerprint(image))
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
    )
    blank = np.flatnonzero(are_blank(images.prints)).tolist()
    findings = [
        *on_blank([images.ids[place] for place in blank]),
        *on_counts(counts, divided=len(parts) > 1),
        *on_groups(groups_of_parts(parts)),
        *find_twins(images, progress=progress),
    ]
    return report_of(dataset.name, n_images, counts, findings)


def _labels_of(layout: Layout, looks: Sequence[_Look]) -> Mapping[str, Sequence[str]]:
    """Return the classes of each image, by its name."""
    if layout.labels_of is not None:
        return layout.labels_of
    return {look.name: (look.class_name,) for look in looks}


def _groups_of(layout: Layout, looks: Sequence[_Look]) -> dict[str, set[str]]:
    """Return the groups of each part; empty if there are none."""
    if layout.group_of is None:
        return {}
    found: dict[str, set[str]] = {part: set() for part in layout.parts}
    for look in looks:
        found[look.part] |= {layout.group_of[look.name]} - {""}
    return found


def _on_series(
    layout: Layout,
    readable: Sequence[_Look],
    labels_of: Mapping[str, Sequence[str]],
    prints: Fingerprints,
) -> list[DataFinding]:
    """Return a finding on series among images that training would divide at random."""
    if layout.group_of is not None or {"val", "test"} <= set(layout.parts):
        return []
    rows = np.array([at for at, look in enumerate(readable) if look.part == "train"], np.intp)
    names = [look.name for look in readable if look.part == "train"]
    found = find_series(
        names,
        [said_of(labels_of[name]) for name in names],
        lambda places: prints.take(rows[places]),
    )
    if found is None:
        return []
    return [
        DataFinding(
            "warning",
            "series",
            "images that look like the next one by name, as frames of a video or shots of a burst "
            f"do: {found.alike:.0%} (of unrelated images of a class it would be {UNRELATED:.0%})",
            "Where they show the same thing, a random split puts it into training and test, and "
            f"scores are too high: {found.remedy}.",
            tuple(printable(name) for pair in found.pairs for name in pair),
            tuple((printable(first), printable(second)) for first, second in found.pairs),
        )
    ]


def _on_division(
    layout: Layout, readable: Sequence[_Look], labels_of: Mapping[str, Sequence[str]]
) -> list[DataFinding]:
    """Return findings on the parts into which training would divide a folder, by doing so."""
    class_names, given = layout.class_names, layout.parts
    label_of = {name: label for label, name in enumerate(class_names)}
    training = [look for look in readable if look.part == "train"]
    labels: Labels
    if layout.labels_of is None:
        labels = np.array([label_of[look.class_name] for look in training], dtype=np.int64)
    else:
        labels = np.zeros((len(training), len(class_names)), np.uint8)
        for row, look in enumerate(training):
            labels[row, [label_of[name] for name in labels_of[look.name]]] = 1
    groups = None
    if layout.group_of is not None:
        groups = np.array([layout.group_of[look.name] for look in training], np.str_)
    keys = keys_of([look.key for look in training], groups)
    pool = Pool(labels, keys, len(class_names), groups is not None)
    if {"val", "test"} <= set(given) or not pool.counts.all():
        return []
    try:
        places = draw_parts(
            pool,
            class_names,
            SplitSettings(),
            has_val="val" in given,
            has_test="test" in given,
        )
    except DataError as error:
        if pool.counts.min() == 1:
            return []  # reported already, as "single-image-class"
        remedy = "Training refuses the folder until then."
        return [DataFinding("error", "too-few-images", str(error), remedy)]
    counts = {
        part: n_of_each(labels[rows], len(class_names)).tolist() for part, rows in places.items()
    }
    return [
        DataFinding(
            "warning",
            kind,
            line,
            remedy,
            tuple(map(printable, names)),
        )
        for kind, found, remedy in (
            (
                "class-without-part",
                classes_missing(class_names, counts),
                "Add images: a class needs one for each part.",
            ),
            (
                "class-everywhere",
                classes_everywhere(class_names, labels[places["train"]]),
                "Add images that do not have it.",
            ),
        )
        for names, line in found
    ]


def _look(root: Path, place: tuple[str, str, str]) -> _Look:
    part, class_name, name = place
    try:
        content = read_bytes(root, name)
        header = read_header(content, name=name)
        if header.white is None:
            peak = read_peak(content, name=name)
            return _Look(name, part, class_name, "", header=header, peak=peak)
        with _alone_if_large(header):
            prints = _prints(decode_image(content, channels=3, name=name))
    except ImageError as error:
        unread = isinstance(error, UnreadFormatError)
        return _Look(name, part, class_name, str(error), unread)
    return _Look(name, part, class_name, "", header=header, **prints)


def _look_again(root: Path, look: _Look, white: int) -> _Look:
    """Return the look at an image with its pixels, now that white is known."""
    if look.peak is None:
        return look
    try:
        content = read_bytes(root, look.name)
        pixels = decode_image(content, channels=3, white=white, name=look.name)
    except ImageError as error:  # It changed meanwhile.
        return _Look(look.name, look.part, look.class_name, str(error))
    return replace(look, **_prints(pixels))


def _prints(pixels: UInt8Array) -> dict[str, Any]:
    """Return what of an image is compared with others, as fields of a look."""
    # No copy of the pixels: they may be hundreds of megabytes.
    digest = hashlib.sha256(f"{pixels.shape}".encode())
    digest.update(pixels.data)
    return {"key": digest.hexdigest(), "print": fingerprint(pixels)}


def _alone_if_large(header: ImageHeader) -> contextlib.AbstractContextManager[object]:
    return _LARGE if header.height * header.width > _LARGE_PIXELS else contextlib.nullcontext()
