"""Metrics of predictions. No framework: NumPy arrays in, plain values out."""

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from convscope.classifier.decisions import image_losses
from convscope.errors import ShapeError
from convscope.evaluation.grouping import n_effective, number_of_groups
from convscope.evaluation.roc import roc_auc
from convscope.storage import atomic_path
from convscope.types import FloatArray, IntArray, Predictions
from convscope.wording import spreadsheet_text

TOP_K = (2, 3, 5)
"""The k of top-k accuracy; only computed for more classes than that."""


def compute_metrics(predictions: Predictions, class_names: list[str]) -> dict[str, Any]:
    """Return all metrics of one split, as written to `metrics.json`.

    Returns:
        "accuracy" with its 95 % interval, "top_k_accuracy", "loss", "macro_f1",
        "balanced_accuracy", "n_images", "missing_classes", and "per_class" with precision, recall,
        F1 and support. For a class without images these three are None, and so are the two means
        over all classes; "macro_f1_of_present" and "balanced_accuracy_of_present" are then the
        means over the classes that have images. Of images in groups also "n_groups"; of two classes
        that both have images "roc_auc".

    Raises:
        ShapeError: If the predictions do not match the class names.
    """
    from sklearn.metrics import precision_recall_fscore_support

    probs, labels = predictions.probs, predictions.labels
    check_probs(probs, labels)
    predictions.require_names(class_names)
    predicted = probs.argmax(axis=1)
    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predicted, labels=np.arange(len(class_names)), zero_division=0.0
    )
    n_right = int((predicted == labels).sum())
    present = support > 0
    over_present = {
        "balanced_accuracy": float(recall[present].mean()),
        "macro_f1": float(f1[present].mean()),
    }
    means: dict[str, float | None] = {**over_present}
    if not present.all():
        # A network that predicts one class only is perfect on a part that holds no other.
        means = dict.fromkeys(over_present)
        means |= {f"{key}_of_present": mean for key, mean in over_present.items()}
    is_of_two = len(class_names) == 2 and present.all()
    of_two = {"roc_auc": roc_auc(probs[:, 1], labels == 1)} if is_of_two else {}
    return {
        "accuracy": n_right / len(labels),
        "accuracy_interval_95": list(interval_of(predictions)),
        **number_of_groups(predictions),
        "loss": float(image_losses(probs, labels).mean()),
        "n_images": len(labels),
        "top_k_accuracy": {
            str(k): top_k_accuracy(probs, labels, k=k) for k in TOP_K if k < len(class_names)
        },
        **means,
        **of_two,
        "missing_classes": [class_names[index] for index in np.flatnonzero(~present)],
        "per_class": {
            name: {
                "precision": float(precision[index]) if present[index] else None,
                "recall": float(recall[index]) if present[index] else None,
                "f1": float(f1[index]) if present[index] else None,
                "n_images": int(support[index]),
            }
            for index, name in enumerate(class_names)
        },
    }


def weakest_first(per_class: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, float]]:
    """Return the classes that have images with their F1, the lowest first.

    Args:
        per_class: Metrics by class from `compute_metrics`, or from an earlier version, in which the
            F1 of a class without images is 0.

    Examples:
        >>> rows = {"a": (0.9, 5), "b": (None, 0), "c": (0.5, 4)}
        >>> weakest_first({name: {"f1": f1, "n_images": n} for name, (f1, n) in rows.items()})
        [('c', 0.5), ('a', 0.9)]
    """
    known = [(name, float(row["f1"])) for name, row in per_class.items() if row["n_images"]]
    return sorted(known, key=lambda item: item[1])


def weakest_classes(per_class: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a sentence on the classes of the lowest F1, at most three, if they differ in it.

    Args:
        per_class: As for `weakest_first`.

    Examples:
        >>> weakest_classes({name: {"f1": f1, "n_images": 5} for name, f1 in zip("ab", (1, 0.5))})
        'It is weakest at b (F1 0.50).'
        >>> weakest_classes({name: {"f1": f1, "n_images": 5} for name, f1 in zip("ab", (1, 1))})
        'All classes have F1 1.00.'
    """
    # To the decimals that are said: what reads alike is not weaker.
    rows = [(name, f"F1 {f1:.2f}") for name, f1 in weakest_first(per_class)]
    best = rows[-1][1]
    weaker = [f"{name} ({f1})" for name, f1 in rows if f1 != best][:3]
    return f"It is weakest at {', '.join(weaker)}." if weaker else f"All classes have {best}."


def columns_of(part: Mapping[str, Any]) -> dict[str, str]:
    """Return the metrics of each class that a part of `metrics.json` has, with their names."""
    of_several = {"average_precision": "AP"} if "mean_average_precision" in part else {}
    columns = {"precision": "precision", "recall": "recall", "f1": "F1"}
    return {**of_several, **columns, **({"threshold": "threshold"} if of_several else {})}


def n_images_of_each(metrics: Mapping[str, Any]) -> dict[str, list[int]]:
    """Return the number of images of each class that were evaluated, by part.

    Args:
        metrics: Contents of `metrics.json`: {"val": ..., "test": ...}.
    """
    return {
        part: [int(row["n_images"]) for row in metrics[part]["per_class"].values()]
        for part in ("val", "test")
        if part in metrics
    }


def interval_of(said: Predictions) -> tuple[float, float]:
    """Return the 95 % interval of the accuracy of predictions; over groups where there are some.

    It says how far the accuracy of this one model could lie from its accuracy on all images of this
    kind; the spread over seeds comes on top.

    In simulations of 5 to 100 groups of unequal sizes, whose images agree more or less, it covered
    the truth in 88 to 99 of 100 studies, where the one over images did in as few as 42.

    Returns:
        Lower and upper end, fractions in [0, 1].
    """
    right = said.right
    return wilson(float(right.mean()), n_effective(right, said.groups))


def wilson(share: float, number: float) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share of that many trials, which may be no whole number.

    References:
        Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 1927.

    Examples:
        >>> [round(end, 4) for end in wilson(0.7, 10000)]
        [0.6909, 0.7089]
        >>> wilson(1.0, 0)
        (0.0, 1.0)
    """
    from scipy.special import ndtri

    if number <= 0:
        return 0.0, 1.0
    z = float(ndtri(0.975)) ** 2 / number
    middle = (share + z / 2) / (1 + z)
    reach = math.sqrt(z * share * (1 - share) + z**2 / 4) / (1 + z)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def top_k_accuracy(probs: FloatArray, labels: IntArray, *, k: int) -> float:
    """Return the share of images whose true class is among the `k` most probable.

    Args:
        probs: Shape (n_images, n_classes).
        labels: Shape (n_images,), class indices in [0, n_classes).
        k: Number of classes in [1, n_classes].

    Returns:
        A fraction in [0, 1].

    Examples:
        >>> probs = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]], dtype=np.float32)
        >>> top_k_accuracy(probs, np.array([1, 0]), k=2)
        0.5
    """
    from sklearn.metrics import top_k_accuracy_score

    n_classes = probs.shape[1]
    # scikit-learn warns about the former, and wants one column for the latter.
    if k >= n_classes:
        return 1.0
    if n_classes == 2:
        return float((probs.argmax(axis=1) == labels).mean())
    return float(top_k_accuracy_score(labels, probs, k=k, labels=np.arange(n_classes)))


def confusion_matrix(predictions: Predictions) -> IntArray:
    """Return the number of images by true and predicted class.

    Returns:
        Shape (n_classes, n_classes), rows are true classes, columns predicted ones.
    """
    n_classes = predictions.probs.shape[1]
    cells = predictions.labels * n_classes + predictions.probs.argmax(axis=1)
    counts = np.bincount(cells, minlength=n_classes**2).astype(np.int64)
    return counts.reshape(n_classes, n_classes)


def confusions(predictions: Predictions) -> tuple[IntArray, IntArray, IntArray]:
    """Return which classes are taken for which, and for how many images.

    The whole matrix of very many classes would take gigabytes.

    Returns:
        True classes, predicted ones, numbers; shape (n_pairs,) each, in the order of the matrix.
    """
    n_classes = predictions.probs.shape[1]
    cells = predictions.labels.astype(np.int64) * n_classes + predictions.probs.argmax(axis=1)
    found, counts = np.unique(cells, return_counts=True)
    return found // n_classes, found % n_classes, counts


def most_confused(
    true: IntArray, predicted: IntArray, numbers: IntArray, n: int = 12
) -> list[tuple[int, int, int]]:
    """Return the most frequent confusions: true class, predicted one, number; the most first.

    Args:
        true: True classes, as from `confusions`; shape (n_pairs,).
        predicted: Predicted classes.
        numbers: Numbers of images.
        n: Largest number of confusions.
    """
    wrong = np.flatnonzero(true != predicted)
    order = wrong[np.argsort(-numbers[wrong], kind="stable")[:n]]
    return list(zip(*(each[order].tolist() for each in (true, predicted, numbers)), strict=True))


def write_confusion(matrix: IntArray, class_names: list[str], path: Path) -> None:
    """Write a confusion matrix as CSV: a row per true class, a column per predicted one.

    Raises:
        StorageError: If the file cannot be written.
    """
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        names = [spreadsheet_text(name) for name in class_names]
        writer.writerow(["true \\ predicted", *names])
        # Row by row: as numbers of Python a matrix takes several times as much memory.
        for name, row in zip(names, matrix, strict=True):
            writer.writerow([name, *row.tolist()])


def check_probs(probs: FloatArray, labels: IntArray) -> None:
    """Reject values that are not a probability for each class.

    Raises:
        ShapeError: If there are no rows, rows do not sum to 1 (tolerance 1e-3), values lie outside
            [0, 1] or are not finite, or a label has no column.
    """
    if probs.ndim != 2 or len(probs) != len(labels) or len(probs) == 0:
        raise ShapeError(f"probs of shape {probs.shape} do not match {len(labels)} labels")
    if (
        not np.isfinite(probs).all()
        or probs.min() < 0
        or np.abs(probs.sum(axis=1) - 1).max() > 1e-3
    ):
        raise ShapeError("probs must be probabilities in [0, 1], with rows that sum to 1")
    if labels.min() < 0 or labels.max() >= probs.shape[1]:
        raise ShapeError(f"labels must lie in [0, {probs.shape[1]})")
