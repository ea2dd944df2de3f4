"""What the page of a run says of its training."""

from types import SimpleNamespace

import numpy as np
import pytest

from convscope.recipe import Recipe, resolve
from convscope.report import run_page
from convscope.run import SmallerImages
from convscope.types import Predictions


@pytest.mark.parametrize(
    ("accuracies", "caption"),
    [
        (
            (0.5, 0.8, 0.7),
            "Validation accuracy reaches its highest after epoch 2: 80.0%; 70.0% at the end.",
        ),
        ((1.0, 1.0), "Validation accuracy reaches its highest after epoch 1: 100.0%."),
    ],
)
def test_an_accuracy_that_stays_at_its_highest_ends_there(accuracies, caption):
    rows = [
        {"epoch": k, "loss": 1.0, "val_loss": 1.0, "accuracy": each, "val_accuracy": each}
        for k, each in enumerate(accuracies, 1)
    ]
    facts = SimpleNamespace(history=rows, multi_label=False, smaller=None)
    (picture,) = run_page._learning(facts)
    assert picture.caption == caption
    facts.smaller = SmallerImages(2, "24x18 pixels")
    (picture,) = run_page._learning(facts)
    said = "The first 2 epochs (shaded) trained on images of 24x18 pixels, to save time."
    assert picture.caption == f"{caption} {said}"


def test_a_head_that_is_fitted_at_once_has_no_epochs():
    row = {"epoch": 1, "loss": 0.1, "val_loss": 0.2, "accuracy": 0.99, "val_accuracy": 0.933}
    (one,) = run_page._learning(SimpleNamespace(history=[row], multi_label=False, smaller=None))
    assert one.caption == "Validation accuracy 93.3%, training accuracy 99.0%."
    (several,) = run_page._learning(SimpleNamespace(history=[row], multi_label=True, smaller=None))
    assert several.caption == "Validation loss 0.200, training loss 0.100."
    assert "epoch" not in one.alt + several.alt


@pytest.mark.parametrize("n_classes", [20, 21])
def test_confusions_are_listed_where_the_matrix_has_no_numbers(n_classes):
    labels = np.repeat(np.arange(n_classes), 4)
    answers = labels.copy()
    answers[[0, 1, 2, 9]] = [7, 7, 3, 5]  # of class 0 and 2
    probs = np.eye(n_classes, dtype=np.float32)[answers]
    said = Predictions(probs, labels, labels.astype(str), "val")
    facts = SimpleNamespace(
        predictions={"val": said},
        judged="val",
        multi_label=False,
        class_names=[f"c{index}" for index in range(n_classes)],
        hardest=None,
    )
    _, *tables = run_page._errors(facts)
    assert [table.rows for table in tables] == (n_classes > 20) * [
        [
            ["c0, predicted as c7", "2", "4"],
            ["c0, predicted as c3", "1", "4"],
            ["c2, predicted as c5", "1", "4"],
        ]
    ]


def test_of_many_classes_those_that_are_wrongly_named_are_listed():
    names = [f"c{index}" for index in range(21)]
    labels = np.zeros((3, 21), np.int64)
    labels[:, 4] = 1
    probs = np.zeros((3, 21), np.float32)
    probs[:, 4], probs[0, [9, 2]], probs[1, 9] = 0.9, 0.8, 0.8
    _, table = run_page.multi_label.error_blocks(probs, labels, names, [0.5] * 21)
    assert table.rows == [["c9, in images of c4", "2", "3"], ["c2, in images of c4", "1", "3"]]


@pytest.mark.parametrize(
    ("opened", "said"),
    [
        (False, "The test images are still sealed."),
        (True, "The test images were opened before, but not for these weights."),
    ],
)
def test_test_images_are_sealed_only_if_they_were_never_opened(opened, said):
    judged = {"accuracy": 0.9, "n_images": 100, "per_class": {"a": {"n_images": 100}}}
    facts = SimpleNamespace(
        judged="val",
        metrics={"weights": "last", "val": judged},
        multi_label=False,
        class_names=["a"],
        opened=opened,
    )
    assert run_page._headline(facts) == f"90.0% accuracy on 100 validation images. {said}"


def test_an_f1_on_the_images_of_its_thresholds_says_so():
    judged = {"mean_average_precision": 0.8, "macro_f1": 0.7, "n_images": 50}
    plain = "mAP 80.0% and macro F1 70.0% on 50 test images."
    assert run_page.multi_label.headline(judged, "test", fitted=False) == plain
    said = run_page.multi_label.headline(judged, "validation", fitted=True)
    assert "70.0% (flattering: its thresholds were chosen on these images) on 50" in said


@pytest.mark.parametrize(
    ("settings", "trained"),
    [
        ({"head": {"logistic": True, "standardise": True, "hidden": []}}, "logistic regression"),
        ({}, "2 epochs"),
    ],
)
def test_fine_tuning_that_was_undone_is_not_described_as_kept(settings, trained):
    cut = {"model": "mobilenet_v2", "backbone.cut": "before-last", "backbone.head_epochs": 0}
    config = resolve(Recipe(), cut, settings)
    facts = SimpleNamespace(config=config, history=[{}, {}], rolled_back=True)
    assert run_page._about(facts).endswith(
        f"{trained} on the frozen backbone (kept, as fine-tuning was no better)"
    )
