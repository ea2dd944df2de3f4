import csv
import json
import math

import keras
import numpy as np
import pytest
from sklearn.metrics import f1_score

from convscope.classifier.decisions import image_losses
from convscope.errors import ShapeError
from convscope.evaluation.metrics import (
    check_probs,
    compute_metrics,
    confusion_matrix,
    confusions,
    most_confused,
    n_images_of_each,
    top_k_accuracy,
    weakest_classes,
    weakest_first,
    wilson,
    write_confusion,
)
from convscope.types import Predictions


def predictions(probs, labels) -> Predictions:
    ids = np.array([f"test/{index}" for index in range(len(labels))])
    return Predictions(np.asarray(probs, np.float32), np.asarray(labels, np.int64), ids, "test")


def sure_of(predicted, n_classes) -> np.ndarray:
    """Probabilities with 0.7 for the class that is predicted, the rest shared."""
    probs = np.full((len(predicted), n_classes), 0.3 / (n_classes - 1))
    probs[np.arange(len(predicted)), predicted] = 0.7
    return probs


def random_probs(n_images, n_classes, seed=0):
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.ones(n_classes), n_images).astype(np.float32)
    return probs, rng.integers(0, n_classes, n_images)


# Worked out on paper: class a has 3 images (2 right), b has 2 (1 right), c has 1 (1 right).
LABELS = [0, 0, 0, 1, 1, 2]
PREDICTED = [0, 0, 1, 1, 2, 2]


def test_a_small_case_worked_out_by_hand():
    found = compute_metrics(predictions(sure_of(PREDICTED, 3), LABELS), ["a", "b", "c"])
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["n_images"] == 6
    assert found["per_class"]["a"] == {
        "precision": 1.0,
        "recall": pytest.approx(2 / 3),
        "f1": pytest.approx(0.8),
        "n_images": 3,
    }
    assert found["per_class"]["b"] == {
        "precision": 0.5,
        "recall": 0.5,
        "f1": 0.5,
        "n_images": 2,
    }
    assert found["per_class"]["c"] == {
        "precision": 0.5,
        "recall": 1.0,
        "f1": pytest.approx(2 / 3),
        "n_images": 1,
    }
    assert found["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert found["macro_f1"] == pytest.approx((0.8 + 0.5 + 2 / 3) / 3)
    assert found["loss"] == pytest.approx(-(4 * math.log(0.7) + 2 * math.log(0.15)) / 6, rel=1e-6)
    assert list(found["top_k_accuracy"]) == ["2"]
    low, high = found["accuracy_interval_95"]
    assert low < 4 / 6 < high


def test_what_compute_metrics_gives_is_plain_json():
    found = compute_metrics(predictions(sure_of(PREDICTED, 3), LABELS), ["a", "b", "c"])
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_class_without_images_has_no_score_and_no_mean_over_all_classes_is_known():
    # Nobody is of class c, and one image was taken for it.
    labels, predicted = [0, 0, 1, 1], [0, 0, 1, 2]
    found = compute_metrics(predictions(sure_of(predicted, 3), labels), ["a", "b", "c"])
    assert found["per_class"]["c"] == {"precision": None, "recall": None, "f1": None, "n_images": 0}
    assert found["missing_classes"] == ["c"]
    assert found["balanced_accuracy"] is None
    assert found["macro_f1"] is None
    # Over those that are there.
    assert found["balanced_accuracy_of_present"] == pytest.approx((1 + 0.5) / 2)
    assert found["macro_f1_of_present"] == pytest.approx((1 + 2 / 3) / 2)
    expected = f1_score(labels, predicted, average="macro", labels=[0, 1])
    assert found["macro_f1_of_present"] == pytest.approx(expected)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_always_the_same_answer_is_never_perfect_where_the_other_class_has_no_images():
    found = compute_metrics(predictions(sure_of([0, 0, 0], 2), [0, 0, 0]), ["a", "b"])
    assert found["accuracy"] == 1.0
    assert found["balanced_accuracy"] is None
    assert found["macro_f1"] is None
    assert found["missing_classes"] == ["b"]


def test_where_no_class_is_missing_the_means_are_over_all():
    found = compute_metrics(predictions(sure_of(PREDICTED, 3), LABELS), ["a", "b", "c"])
    assert found["missing_classes"] == []
    assert not [key for key in found if key.endswith("_of_present")]


def test_no_class_is_called_weakest_where_all_read_alike():
    def rows(*f1: float) -> dict:
        return {name: {"f1": each, "n_images": 5} for name, each in zip("abcde", f1, strict=False)}

    assert weakest_classes(rows(1, 1)) == "All classes have F1 1.00."
    assert weakest_classes(rows(0.996, 1)) == "All classes have F1 1.00."
    # Nor is the best among the weakest three.
    assert weakest_classes(rows(0.9, 1, 1)) == "It is weakest at a (F1 0.90)."
    assert weakest_classes(rows(0.4, 0.5, 0.3, 0.2, 1)) == (
        "It is weakest at d (F1 0.20), c (F1 0.30), a (F1 0.40)."
    )


def test_the_weakest_class_is_one_that_was_judged():
    labels, predicted = [0, 0, 1, 1], [0, 0, 1, 2]
    per_class = compute_metrics(predictions(sure_of(predicted, 4), labels), list("abcd"))[
        "per_class"
    ]
    assert weakest_first(per_class) == [("b", pytest.approx(2 / 3)), ("a", 1.0)]
    assert n_images_of_each({"weights": "best", "test": {"per_class": per_class}}) == {
        "test": [2, 2, 0, 0]
    }
    # As earlier versions wrote it.
    per_class["c"] |= {"f1": 0.0, "precision": 0.0, "recall": 0.0}
    assert weakest_first(per_class)[0][0] == "b"


def test_a_class_that_is_never_predicted_has_precision_zero():
    found = compute_metrics(predictions(sure_of([0, 0, 0], 2), [0, 0, 1]), ["a", "b"])
    assert found["per_class"]["b"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "n_images": 1}
    assert found["balanced_accuracy"] == 0.5


@pytest.mark.parametrize(
    ("n_right", "n_images", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998), table I, method 3 (Wilson's score).
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
        # From the formula below.
        (29, 29, 0.8830, 1.0000),
    ],
)
def test_the_interval_is_wilsons(n_right, n_images, low, high):
    found = wilson(n_right / n_images, n_images)
    assert found == pytest.approx((low, high), abs=6e-5)
    p, z = n_right / n_images, 1.959964
    centre = (p + z**2 / (2 * n_images)) / (1 + z**2 / n_images)
    half = z / (1 + z**2 / n_images) * math.sqrt(p * (1 - p) / n_images + z**2 / (4 * n_images**2))
    assert found == pytest.approx((centre - half, centre + half), abs=1e-6)


def test_top_k_is_counted_by_hand():
    probs = np.array(
        [[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1], [0.1, 0.4, 0.2, 0.3]], dtype=np.float32
    )
    labels = np.array([1, 0, 0])
    assert [top_k_accuracy(probs, labels, k=k) for k in (1, 2, 3, 4)] == pytest.approx(
        [1 / 3, 1 / 3, 2 / 3, 1.0]
    )


def test_top_k_with_two_classes_and_with_absent_ones():
    probs = np.array([[0.6, 0.4], [0.3, 0.7], [0.9, 0.1]], dtype=np.float32)
    labels = np.array([0, 0, 0])
    assert top_k_accuracy(probs, labels, k=1) == pytest.approx(2 / 3)
    assert top_k_accuracy(probs, labels, k=2) == 1.0
    # Of five classes only one occurs.
    assert top_k_accuracy(sure_of([0, 1], 5).astype(np.float32), np.array([0, 0]), k=1) == 0.5


@pytest.mark.parametrize(
    ("n_classes", "ks"), [(2, []), (3, ["2"]), (5, ["2", "3"]), (6, ["2", "3", "5"])]
)
def test_top_k_is_left_out_where_it_says_nothing(n_classes, ks):
    probs, labels = random_probs(20, n_classes)
    found = compute_metrics(predictions(probs, labels), [f"c{index}" for index in range(n_classes)])
    assert list(found["top_k_accuracy"]) == ks


def test_top_k_grows_with_k():
    probs, labels = random_probs(500, 10)
    values = [top_k_accuracy(probs, labels, k=k) for k in range(1, 11)]
    assert values == sorted(values)
    assert values[0] == (probs.argmax(axis=1) == labels).mean()
    assert values[-1] == 1.0


def test_loss_equals_that_of_keras():
    probs, labels = random_probs(200, 10)
    probs[1] = np.eye(10)[labels[1]]
    theirs = float(keras.losses.SparseCategoricalCrossentropy()(labels, probs))
    assert image_losses(probs, labels).mean() == pytest.approx(theirs, rel=1e-5)


def test_loss_of_over_confident_mistakes_is_that_of_the_logits():
    logits = np.array([[50.0, 0.0, -1.0], [0.0, 30.0, 2.0]], np.float32)
    probs, labels = np.asarray(keras.ops.softmax(logits)), np.array([2, 0])
    theirs = float(keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, logits))
    assert image_losses(probs, labels).mean() == pytest.approx(theirs, rel=1e-5)
    # Not infinite where float32 has nothing left of the probability.
    surely_wrong = np.array([[1.0, 0.0]], np.float32)
    expected = -math.log(np.finfo(np.float32).tiny)
    assert image_losses(surely_wrong, np.array([1])).mean() == pytest.approx(expected, rel=1e-6)


def test_the_confusions_that_occur_are_those_of_the_matrix():
    said = predictions(sure_of(PREDICTED, 4), LABELS)
    true, predicted, numbers = confusions(said)
    matrix = np.zeros((4, 4), int)
    matrix[true, predicted] = numbers
    assert (numbers > 0).all()
    np.testing.assert_array_equal(matrix, confusion_matrix(said))


def test_the_most_frequent_confusions_come_first():
    counts = [np.array(each) for each in ([0, 0, 1, 2, 2], [0, 1, 0, 1, 2], [9, 1, 4, 1, 9])]
    assert most_confused(*counts, 2) == [(1, 0, 4), (0, 1, 1)]
    assert most_confused(*counts, 9) == [(1, 0, 4), (0, 1, 1), (2, 1, 1)]


def test_rows_of_the_confusion_matrix_are_true_classes():
    matrix = confusion_matrix(predictions(sure_of(PREDICTED, 4), LABELS))
    assert matrix.tolist() == [[2, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert matrix.dtype == np.int64


def test_the_confusion_table_is_csv_that_reads_back(tmp_path):
    names = ["a", 'with "quotes", and a comma', "ä"]
    matrix = np.array([[2, 1, 0], [0, 1, 1], [0, 0, 1]])
    path = tmp_path / "confusion_matrix.csv"
    write_confusion(matrix, names, path)
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header[1:] == names
    assert [row[0] for row in rows] == names
    assert [[int(value) for value in row[1:]] for row in rows] == matrix.tolist()


@pytest.mark.parametrize(
    ("probs", "labels"),
    [
        ([[2.0, -1.0], [0.5, 0.5]], [0, 1]),
        ([[3.1, 0.2], [1.0, 4.0]], [0, 1]),
        ([[0.9, 0.9]], [0]),
        ([[0.2, 0.2]], [0]),
        ([[np.nan, 0.5]], [0]),
        ([[np.inf, 0.0]], [0]),
        ([[0.5, 0.5]], [2]),
        ([[0.5, 0.5]], [-1]),
        (np.zeros((0, 2)), []),
    ],
    ids=["logits", "scores", "too-much", "too-little", "nan", "inf", "label", "negative", "empty"],
)
def test_what_is_no_probability_is_refused(probs, labels):
    with pytest.raises(ShapeError):
        compute_metrics(predictions(probs, labels), ["a", "b"])


def test_arrays_that_do_not_fit_are_refused():
    probs, labels = random_probs(4, 3)
    with pytest.raises(ShapeError, match="3 labels"):
        check_probs(probs, labels[:3])
    with pytest.raises(ShapeError):
        check_probs(probs[:, 0], labels)
    with pytest.raises(ShapeError, match="3 probabilities per row for 2 classes"):
        compute_metrics(predictions(probs, [0, 1, 0, 1]), ["a", "b"])


def test_a_label_without_a_column_is_refused_however_many_rows_there_are():
    probs, _ = random_probs(5, 3)
    with pytest.raises(ShapeError, match=r"labels must lie in \[0, 3\)"):
        check_probs(probs, np.array([0, 1, 2, 0, 3]))
    # Fewer rows than classes are no fault.
    check_probs(probs[:2], np.array([2, 2]))


def test_a_network_may_be_sure():
    check_probs(np.array([[1.0, 0.0], [0.0, 1.0]], np.float32), np.array([0, 0]))


def test_rounding_of_float32_and_bfloat16_sums_is_tolerated():
    probs, labels = random_probs(4, 3)
    check_probs(probs * np.float32(1 + 5e-4), labels)
    with pytest.raises(ShapeError):
        check_probs(probs * np.float32(1 + 5e-3), labels)
