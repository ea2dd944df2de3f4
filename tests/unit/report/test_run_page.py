"""What the page of a run says of its training."""

from types import SimpleNamespace

import pytest

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
