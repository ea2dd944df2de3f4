"""Metrics of images that have any number of classes."""

import csv

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, hamming_loss

from convscope.classifier.classify import at_temperature
from convscope.classifier.decisions import decided, image_losses, logits_of, sigmoid
from convscope.errors import RunError, ShapeError
from convscope.evaluation.calibration import (
    calibration_figures,
    expected_calibration_error,
    fit_temperature,
)
from convscope.evaluation.multi_label import (
    N_RESAMPLES,
    average_precisions,
    choose_thresholds,
    compute_metrics,
    map_interval,
    mean_average_precision,
    resampled_map,
    resamples,
    unseen_loss,
    write_wrongly_named,
    wrongly_named,
)
from convscope.evaluation.predictions import read_predictions, save_predictions
from convscope.types import Predictions

NAMES = ["cat", "dog", "owl", "bee"]
RATES = (0.5, 0.3, 0.1, 0.05)


def answers(n_images: int = 300, *, digits: int = 2, seed: int = 0):
    """Probabilities with many ties, and labels that they tell something about."""
    random = np.random.default_rng(seed)
    labels = (random.random((n_images, len(NAMES))) < RATES).astype(np.uint8)
    logits = random.normal(size=labels.shape) + 1.5 * labels - 1
    return np.round(sigmoid(logits), digits).astype(np.float32), labels


def test_average_precision_is_that_of_scikit_learn():
    probs, labels = answers()
    found = average_precisions(probs, labels)[0]
    expected = average_precision_score(labels, probs, average=None)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert mean_average_precision(probs, labels) == pytest.approx(
        average_precision_score(labels, probs, average="macro"), rel=1e-12
    )


def test_weights_count_images_as_often_as_scikit_learn_does():
    probs, labels = answers()
    weights = resamples(len(labels), 5)
    assert weights.sum(axis=1).tolist() == [len(labels)] * 5
    found = average_precisions(probs, labels, weights)
    for row, of_sample in zip(found, weights, strict=True):
        expected = average_precision_score(labels, probs, average=None, sample_weight=of_sample)
        np.testing.assert_allclose(row, expected, rtol=1e-12)


def test_a_class_without_images_counts_for_nothing():
    probs, labels = answers()
    labels[:, 2] = 0
    found = average_precisions(probs, labels)[0]
    assert np.isnan(found[2])
    expected = average_precision_score(labels[:, [0, 1, 3]], probs[:, [0, 1, 3]])
    assert mean_average_precision(probs, labels) == pytest.approx(expected)
    assert choose_thresholds(probs, labels)[2] == 0.5
    metrics = compute_metrics(predictions(probs, labels), probs, NAMES, [0.5] * 4)
    assert metrics["missing_classes"] == ["owl"]
    assert metrics["per_class"]["owl"]["average_precision"] is None
    assert metrics["mean_average_precision"] == pytest.approx(expected)


def test_no_threshold_has_a_higher_f1():
    def f1_at(values, true, threshold):
        named = values >= threshold
        return 2 * (named & true).sum() / max(1, named.sum() + true.sum())

    for seed in range(6):
        probs, labels = answers(80, digits=1 + seed % 3, seed=seed)
        for values, true, threshold in zip(
            probs.T, labels.T > 0, choose_thresholds(probs, labels), strict=True
        ):
            best = max(f1_at(values, true, each) for each in np.linspace(0, 1, 4_001))
            assert f1_at(values, true, threshold) == pytest.approx(best)
            expected = f1_score(true, values >= threshold, zero_division=0)
            assert expected == pytest.approx(best)
            assert 0 < threshold < 1


def test_of_equal_thresholds_the_nearest_to_a_half_is_taken():
    probs = np.array([[0.9], [0.8], [0.3], [0.2]], np.float32)
    # Naming one, or three, has the same F1: the first is between 0.9 and 0.8.
    assert choose_thresholds(probs, np.array([[1], [0], [1], [0]], np.uint8)) == [0.25]
    assert choose_thresholds(probs, np.array([[1], [1], [0], [0]], np.uint8)) == [0.55]
    assert choose_thresholds(probs, np.array([[1], [1], [1], [1]], np.uint8)) == [0.1]


def test_thresholds_separate_probabilities_that_are_nearly_equal():
    for values in ([1.8e-6, 1.2e-6], [0.9999999, 0.9999996]):
        probs = np.array(values, np.float32)[:, None]
        (threshold,) = choose_thresholds(probs, np.array([[1], [0]], np.uint8))
        assert 0 < threshold < 1
        assert (probs[:, 0] >= threshold).tolist() == [True, False]


def test_samples_without_any_class_are_no_part_of_the_interval():
    probs = np.random.default_rng(0).random((24, 2)).astype(np.float32)
    labels = np.zeros((24, 2), np.uint8)
    labels[0, 0] = labels[1, 1] = 1
    found = resampled_map(probs, labels)
    # One of 24 images is in no sample of 24 with a chance of (23/24)^24; neither, (22/24)^24.
    assert len(found) / N_RESAMPLES == pytest.approx(1 - (22 / 24) ** 24, abs=0.03)
    assert not np.isnan(found).any()
    low, high = map_interval(probs, labels)
    assert 0 <= low < high <= 1


def predictions(probs: np.ndarray, labels: np.ndarray) -> Predictions:
    return Predictions(probs, labels, np.array([f"{n}.png" for n in range(len(labels))]), "val")


def test_all_metrics_are_those_of_scikit_learn():
    probs, labels = answers()
    thresholds = [0.3, 0.4, 0.2, 0.1]
    metrics = compute_metrics(predictions(probs, labels), probs, NAMES, thresholds)
    named = probs >= np.array(thresholds)
    assert metrics["macro_f1"] == pytest.approx(f1_score(labels, named, average="macro"))
    assert metrics["micro_f1"] == pytest.approx(f1_score(labels, named, average="micro"))
    assert metrics["hamming_loss"] == pytest.approx(hamming_loss(labels, named))
    assert metrics["exact_match"] == pytest.approx((named == labels).all(axis=1).mean())
    assert metrics["n_images"] == 300
    each = f1_score(labels, named, average=None)
    for index, name in enumerate(NAMES):
        row = metrics["per_class"][name]
        assert row["f1"] == pytest.approx(each[index])
        assert row["threshold"] == thresholds[index]
        assert row["n_images"] == labels[:, index].sum()
    low, high = metrics["mean_average_precision_interval_95"]
    assert low < metrics["mean_average_precision"] < high
    for key in ("accuracy", "top_k_accuracy", "balanced_accuracy"):
        assert key not in metrics


def test_the_interval_narrows_with_the_root_of_the_number_of_images():
    widths = [np.diff(map_interval(*answers(n, digits=7)))[0] for n in (200, 3_200)]
    assert 2.5 < widths[0] / widths[1] < 6.5


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        # One class: Clopper and Pearson.
        ((20,), 1 - 0.025 ** (1 / 20)),
        ((1,), 0.975),
        # Classes of equal size: as one of all their images.
        ((10, 10), 1 - 0.025 ** (1 / 20)),
        # A rare class can fail alone, unseen; the others cannot.
        ((1, *[50] * 19), 0.975 / 20),
    ],
)
def test_unseen_errors_take_what_the_rarest_classes_may_hide(counts, expected):
    labels = np.repeat(np.eye(len(counts), dtype=np.uint8), counts, axis=0)
    assert unseen_loss(labels) == pytest.approx(expected, rel=1e-6)


def test_an_image_of_several_classes_counts_once():
    assert unseen_loss(np.ones((20, 3), np.uint8)) == pytest.approx(1 - 0.025 ** (1 / 20))


@pytest.mark.parametrize("n_images", [2, 20, 400])
def test_the_interval_of_a_perfect_map_has_a_width(n_images):
    labels = np.eye(2, dtype=np.uint8)[np.arange(n_images) % 2]
    low, high = map_interval(np.where(labels, 0.9, 0.1).astype(np.float32), labels)
    assert low == pytest.approx(0.025 ** (1 / n_images))
    assert high == 1


def test_the_interval_of_few_images_near_1_covers_the_truth():
    random = np.random.default_rng(3)

    def draw(n_images):
        labels = (random.random((n_images, 3)) < (0.3, 0.2, 0.15)).astype(np.uint8)
        return sigmoid(random.normal(size=labels.shape) + 4.2 * labels).astype(np.float32), labels

    truth = mean_average_precision(*draw(100_000))
    assert truth > 0.99
    intervals = [map_interval(*draw(40)) for _ in range(60)]
    covered = sum(low <= truth <= high for low, high in intervals)
    # Of 60 at 95 %, fewer than 53 are covered with a chance of 2 %; the bootstrap alone covers 28.
    assert covered >= 53


def test_loss_is_the_mean_binary_cross_entropy():
    probs, labels = np.array([[0.9, 0.2]], np.float32), np.array([[1, 1]], np.uint8)
    assert image_losses(probs, labels)[0] == pytest.approx(-np.log([0.9, 0.2]).mean(), rel=1e-6)
    assert np.isfinite(image_losses(np.array([[0.0, 1.0]], np.float32), np.array([[1, 0]]))).all()


def test_logits_and_probabilities_turn_into_each_other():
    logits = np.array([-30.0, -3.0, 0.0, 2.0, 12.0])
    np.testing.assert_allclose(logits_of(sigmoid(logits)), logits, rtol=2e-2)
    assert np.isfinite(logits_of(np.array([0, 1], np.float32))).all()
    assert sigmoid(np.array([-1e4, 1e4])).tolist() == [0, 1]


def test_a_temperature_divides_the_logit_of_each_class():
    probs, _ = answers(digits=7)
    scaled = at_temperature(probs, 2.0, multi_label=True)
    np.testing.assert_allclose(logits_of(scaled), logits_of(probs) / 2, rtol=1e-4, atol=1e-4)
    assert at_temperature(probs, 1.0, multi_label=True) is probs


def test_the_temperature_undoes_overconfidence():
    random = np.random.default_rng(1)
    logits = random.normal(size=(4_000, 4)) * 2
    labels = (random.random(logits.shape) < sigmoid(logits)).astype(np.uint8)
    probs = sigmoid(3 * logits)
    temperature = fit_temperature(probs, labels)
    assert temperature == pytest.approx(3, rel=0.05)
    found = calibration_figures(predictions(probs, labels), temperature)
    assert found["calibration_error_at_temperature"] < 0.02 < 0.1 < found["calibration_error"]
    # The binary cross-entropy of the logits from which the labels were drawn.
    right = np.logaddexp(0, np.where(labels, -logits, logits)).mean()
    assert found["loss_at_temperature"] == pytest.approx(right, rel=0.01)


def test_calibration_looks_at_each_decision():
    probs = np.array([[0.8, 0.1]] * 10, np.float32)
    labels = np.zeros((10, 2), np.uint8)
    labels[:8, 0] = labels[:1, 1] = 1
    assert expected_calibration_error(probs, labels) == pytest.approx(0, abs=1e-6)
    labels[:, 0] = 1
    assert expected_calibration_error(probs, labels) == pytest.approx(0.1, abs=1e-6)


def test_what_is_wrongly_named_is_counted_beside_each_true_class(tmp_path):
    labels = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0]], np.uint8)
    named = np.array([[1, 0, 1], [1, 1, 0], [1, 0, 0]], bool)
    matrix = wrongly_named(labels, named)
    # Image 1 has cat and dog: dog is missed, owl is wrong. Image 2 is a cat: dog is wrong.
    assert matrix.tolist() == [[0, 1, 1], [0, 1, 1], [0, 0, 0]]
    write_wrongly_named(matrix, NAMES[:3], tmp_path / "mistakes.csv")
    rows = list(csv.reader((tmp_path / "mistakes.csv").read_text().splitlines()))
    assert rows[1] == ["cat", "0", "", "1", "1"]
    assert rows[2] == ["dog", "1", "0", "", "1"]


def test_predictions_are_read_as_they_were_written(tmp_path):
    probs, labels = answers(20)
    said = predictions(probs, labels)
    save_predictions({"val": said}, NAMES, tmp_path / "p.parquet", about={"a": "b"})
    found, about = read_predictions(tmp_path / "p.parquet")
    assert found["val"].multi_label
    assert about["a"] == "b"
    np.testing.assert_array_equal(found["val"].labels, labels)
    np.testing.assert_array_equal(found["val"].probs, probs)


def test_a_damaged_file_of_predictions_is_refused_in_one_line(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    for labels in ([[0], [9]], [[0], None]):
        columns = {"split": ["val"] * 2, "id": ["a", "b"], "labels": labels}
        columns |= {"prob_0": [0.5, 0.5], "prob_1": [0.5, 0.5]}
        pq.write_table(pa.table(columns), tmp_path / "p.parquet")
        with pytest.raises(RunError, match="is damaged"):
            read_predictions(tmp_path / "p.parquet")


def test_values_that_are_no_probabilities_are_refused():
    probs, labels = answers(10)
    for wrong in (probs[:5], probs * 2, np.full_like(probs, np.nan)):
        with pytest.raises(ShapeError):
            choose_thresholds(wrong, labels)
    with pytest.raises(ShapeError, match="0 or 1"):
        choose_thresholds(probs, labels + 1)


def test_decisions_are_from_the_threshold_on():
    found = decided(np.array([[0.5, 0.49]], np.float32), [0.5, 0.5])
    assert found.tolist() == [[True, False]]
