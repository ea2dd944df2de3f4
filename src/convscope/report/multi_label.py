"""What the page and card of a run say where an image may have any number of classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from convscope.classifier.decisions import decided
from convscope.evaluation.metrics import most_confused
from convscope.evaluation.multi_label import wrongly_named
from convscope.report.figures import MOST_NUMBERED, mistakes_figure
from convscope.report.page import Block, Points, Table, svg_picture
from convscope.types import FloatArray, Labels
from convscope.wording import FLATTERING

_LISTED = 3


def headline(judged: Mapping[str, Any], part: str, *, fitted: bool) -> str:
    """Return the scores on a part in a sentence.

    Args:
        judged: Metrics of the part.
        part: Name of the part: "test" or "validation".
        fitted: Whether the thresholds were chosen on these very images.
    """
    flattering = f" {FLATTERING}" if fitted else ""
    return (
        f"mAP {judged['mean_average_precision']:.1%} and macro F1 {judged['macro_f1']:.1%}"
        f"{flattering} on {judged['n_images']:,} {part} images."
    )


def interval(judged: Mapping[str, Any]) -> str:
    """Return the interval of the mean average precision."""
    low, high = judged["mean_average_precision_interval_95"]
    return f"mAP {low:.1%} to {high:.1%}"


def score_points(judged: Mapping[str, Any]) -> Points:
    """Return the scores over all classes, with their meanings."""
    return Points(
        [
            (
                f"mAP {judged['mean_average_precision']:.1%}.",
                "Mean over the classes of the average precision, the area below precision by "
                "recall; it depends on no threshold.",
            ),
            (
                f"F1 {judged['macro_f1']:.1%} (macro), {judged['micro_f1']:.1%} (micro).",
                "At a threshold for each class, chosen on validation images: mean over the "
                "classes, and over all decisions together.",
            ),
            (
                f"{judged['hamming_loss']:.1%} of all decisions are wrong, "
                f"{judged['exact_match']:.1%} of the images have no wrong one.",
                "A decision is whether an image has a class.",
            ),
        ]
    )


def error_blocks(
    probs: FloatArray, labels: Labels, names: Sequence[str], thresholds: Sequence[float]
) -> list[Block]:
    """Return the picture of the classes that are wrongly named or missed, and the worst of them.

    Args:
        probs: Shape (n_images, n_classes), at the temperature of the classifier.
        labels: Shape (n_images, n_classes).
        names: Names of the classes.
        thresholds: Threshold of each class.
    """
    matrix, of_each = wrongly_named(labels, decided(probs, thresholds)), labels.sum(axis=0)
    missed = np.diagonal(matrix)
    others = matrix.copy()
    np.fill_diagonal(others, 0)
    true, named = (int(place) for place in np.unravel_index(int(others.argmax()), others.shape))
    caption = "No class is wrongly named in images of another."
    if others.any():
        caption = (
            f"Most often {names[named]} is wrongly named in images of {names[true]}: in "
            f"{others[true, named]:,} of {of_each[true]:,}."
        )
    worst = np.argsort(-missed / np.maximum(of_each, 1), kind="stable")[:_LISTED]
    points = [
        (f"{names[index]} is missed in {missed[index]:,} of {of_each[index]:,} images.", "")
        for index in worst
        if missed[index]
    ]
    picture = svg_picture(
        mistakes_figure(matrix, of_each, names),
        alt=f"Classes wrongly named beside each of {len(names)} classes. {caption}",
        caption=caption,
        legend="Rows are classes that the images have, columns classes that are wrongly named in "
        "them; the diagonal says how often the class itself is missed.",
    )
    blocks: list[Block] = [picture]
    if len(names) > MOST_NUMBERED and others.any():
        # There is no room for numbers in the matrix.
        shown, wrong = np.nonzero(others)
        rows = [
            [f"{names[named]}, in images of {names[true]}", f"{n:,}", f"{of_each[true]:,}"]
            for true, named, n in most_confused(shown, wrong, others[shown, wrong])
        ]
        columns = ("wrongly named", "images", "of the class")
        blocks.append(Table(columns, rows, "The classes most often wrongly named"))
    return [*blocks, *([Points(points)] if points else [])]
