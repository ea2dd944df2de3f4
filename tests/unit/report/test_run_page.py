"""What the page of a run says of its training."""

from types import SimpleNamespace

import pytest

from convscope.recipe import Recipe, resolve
from convscope.report import run_page


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
    facts = SimpleNamespace(history=rows, multi_label=False)
    (picture,) = run_page._learning(facts)
    assert picture.caption == caption


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
