"""Findings on the parts into which training would divide a folder."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from convscope.datasets.checks._looks import Look
from convscope.datasets.checks._oddities import on_missing
from convscope.datasets.checks.findings import DataFinding
from convscope.datasets.checks.fingerprints import Fingerprints
from convscope.datasets.checks.series import UNRELATED, Series, find_series
from convscope.datasets.division.draw import Pool, keys_of
from convscope.datasets.division.part_notes import classes_everywhere
from convscope.datasets.division.splits import draw_parts
from convscope.datasets.folders.layout import Layout
from convscope.errors import DataError
from convscope.recipe import SplitSettings
from convscope.types import Labels, n_of_each, said_of
from convscope.wording import printable


def on_series(
    layout: Layout,
    readable: Sequence[Look],
    labels_of: Mapping[str, Sequence[str]],
    prints: Fingerprints,
) -> list[DataFinding]:
    """Return a finding on series that a division at random, or the given one, tears apart."""
    if layout.group_of is not None:
        return []
    # Copies are in one part.
    firsts: dict[str, int] = {}
    for row, look in enumerate(readable):
        firsts.setdefault(look.key, row)
    rows = np.array(list(firsts.values()), np.intp)

    def find(rows: npt.NDArray[np.intp], parts: list[str] | None) -> Series | None:
        names = [readable[row].name for row in rows]
        classes = [said_of(labels_of[name]) for name in names]
        return find_series(names, classes, lambda some: prints.take(rows[some]), parts=parts)

    parts = [readable[row].part for row in rows]
    found = find(rows, parts) if len(layout.parts) > 1 else None
    drawn = found is None
    if drawn and not {"val", "test"} <= set(layout.parts):
        found = find(rows[[part == "train" for part in parts]], None)
    if found is None:
        return []
    what = "neighbours by name" + " in different parts" * (not drawn)
    where = "come into several parts by a random split" if drawn else "are in several parts"
    return [
        DataFinding(
            "warning",
            "series",
            f"{what} that look alike, as frames of a video or shots of a burst do: "
            f"{found.alike:.0%} of the pairs ({UNRELATED:.0%} would be expected of unrelated "
            "images of a class)",
            f"If they show the same thing, and not only the same kind of thing, they {where} and "
            f"scores are too high: {found.remedy(drawn=drawn)}.",
            tuple(dict.fromkeys(printable(name) for pair in found.pairs for name in pair)),
            settings=found.settings(drawn=drawn),
        )
    ]


def on_division(
    layout: Layout, readable: Sequence[Look], labels_of: Mapping[str, Sequence[str]]
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
    everywhere = [
        DataFinding(
            "warning",
            "class-everywhere",
            line,
            "Add images that do not have it.",
            tuple(map(printable, names)),
        )
        for names, line in classes_everywhere(class_names, labels[places["train"]])
    ]
    return [*on_missing(class_names, counts), *everywhere]
