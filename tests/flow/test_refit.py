"""Training once more on training and validation images, which stay evaluated by the first."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from killing import at_rename, train_until_killed

import convscope
from convscope.api import train as single
from convscope.classifier.classify import at_temperature
from convscope.classifier.keras_model import open_classifier, spec_of
from convscope.evaluation.predictions import read_predictions
from convscope.export import parity
from convscope.planning.settle import Request, settle
from convscope.progress import Progress
from convscope.run import Run
from convscope.training.fit import fit
from convscope.training.results import read_results
from convscope.types import Dataset

REFIT = {
    "model": "cnn-functional",
    "data": "digits",
    "epochs": 2,
    "precision": "float32",
    # So many fill batches with and without the validation images: a smaller one is traced again.
    "settings": {"split.images": 600},
    "batch_size": 48,
    "refit": True,
}


def train(out, **changes) -> Run:
    return convscope.train(out=out, **{**REFIT, "progress": Progress(), **changes})


@pytest.fixture(scope="module")
def refitted(tmp_path_factory) -> Run:
    return train(tmp_path_factory.mktemp("runs") / "refitted")


def load() -> Dataset:
    return convscope.load("digits", split={"images": 600}, progress=Progress())


def probs_of(run: Run, which: str, part) -> np.ndarray:
    return keras.saving.load_model(run.weights(which)).predict(part.images, verbose=0)


def test_each_part_is_evaluated_by_a_network_that_did_not_learn_it(refitted):
    data = load()
    said = read_predictions(refitted.predictions_file)[0]
    test = data.test.open(lambda n: None)
    for part, name, which, other in (
        (data.val, "val", "last", "refit"),
        (test, "test", "refit", "last"),
    ):
        np.testing.assert_allclose(said[name].probs, probs_of(refitted, which, part), atol=1e-5)
        assert np.abs(said[name].probs - probs_of(refitted, other, part)).max() > 0.01
    assert refitted.metrics["weights"] == "refit"
    assert refitted.test_openings[-1]["weights"] == "refit"


def test_the_temperature_is_that_of_unseen_images_and_belongs_to_every_answer(refitted):
    temperature = spec_of(refitted, "refit").temperature
    assert temperature != 1
    convscope.evaluate(refitted, weights="last", test=False, progress=Progress())
    assert spec_of(refitted, "last").temperature == temperature
    classifier = open_classifier(refitted)
    images = load().val.images[:4]
    np.testing.assert_allclose(
        classifier.predict_on_batch(images),
        at_temperature(classifier.network.predict_on_batch(images), temperature),
        atol=1e-6,
    )


def test_it_learns_from_the_validation_images_too(refitted, tmp_path):
    data = load()
    right = {
        which: (probs_of(refitted, which, data.val).argmax(axis=1) == data.val.labels).mean()
        for which in ("last", "refit")
    }
    assert right["refit"] > right["last"]
    # What it was trained in is gone, and the run holds nothing that convscope does not know.
    assert not refitted.refit_dir.exists()
    assert refitted.foreign_names() == set()


def test_the_second_training_knows_the_times_that_were_measured(tmp_path, monkeypatch):
    known = []

    def noting(phase, run, **options):
        known.append(phase.of_smaller)
        return fit(phase, run, **options)

    monkeypatch.setattr("convscope.training.fit.fit", noting)
    wish = {"data": "digits", "model": "cnn-functional", "precision": "float32", "refit": True}
    request = Request({**wish, "epochs": 1, "split.images": 600, "batch_size": 48})
    plan = replace(settle(request, Progress(), lambda config: load()), of_smaller=0.6)
    single.train(plan, progress=Progress(), out=tmp_path / "run", test=False)
    assert known == [0.6, 0.6]


def test_resumed_with_nothing_left_it_leaves_everything_as_it_is(refitted):
    def state():
        return [refitted.weights_sha256(w) for w in ("last", "refit")], refitted.test_openings

    before = state()
    seen = Labels()
    convscope.train(resume=refitted.path, progress=seen)
    assert state() == before
    assert not [label for label in seen.labels if label.startswith("epoch ")]


class Labels(Progress):
    """Keeps the labels of all tasks."""

    def __init__(self):
        self.labels = []

    def task(self, label, total, unit):
        self.labels.append(label)
        return super().task(label, total, unit)


@pytest.mark.parametrize("judge", ["best", "last"])
def test_it_takes_the_epochs_that_validation_images_chose(tmp_path, judge):
    seen = Labels()
    settings = {**REFIT["settings"], "early_stop_patience": 1, "judge": judge}
    run = train(tmp_path / "run", epochs=12, lr=0.01, settings=settings, progress=seen, test=False)
    rows = read_results(run.results_file)
    accuracies = [row["val_accuracy"] for row in rows]
    chosen = accuracies.index(max(accuracies)) + 1 if judge == "best" else len(rows)
    assert 1 <= chosen < 12
    epochs = [label for label in seen.labels if label.startswith("epoch ")]
    assert epochs == [f"epoch {n + 1}/12" for n in (*range(len(rows)), *range(chosen))]


@pytest.mark.parametrize(
    "patch",
    [
        pytest.param(
            at_rename("snapshot.npz", nth=1, when="after", below="/refit/"),
            marks=pytest.mark.slow,
        ),
        at_rename("last.keras", nth=1, when="after", below="/refit/"),
    ],
    ids=["epoch", "end"],
)
def test_killed_in_the_refit_it_ends_with_the_same_bits(refitted, tmp_path, patch):
    out = tmp_path / "run"
    train_until_killed(out, REFIT, patch)
    assert not Run(out).weights("refit").exists()
    again = train(out, resume=True)
    assert again.weights_sha256("refit") == refitted.weights_sha256("refit")
    assert not again.refit_dir.exists()


def test_it_can_be_added_to_a_finished_run(refitted, tmp_path):
    run = train(tmp_path / "run", refit=False)
    assert run.metrics["weights"] == "last"
    convscope.train(resume=run.path, refit=True, progress=Progress())
    assert run.metrics["weights"] == "refit"
    assert run.weights_sha256("refit") == refitted.weights_sha256("refit")


@pytest.mark.slow
def test_with_more_epochs_it_is_done_again(refitted, tmp_path):
    run = train(tmp_path / "run", epochs=1)
    before = run.weights_sha256("refit")
    more = train(run.path, resume=True)
    assert more.weights_sha256("refit") not in (before, more.weights_sha256("last"))
    assert more.metrics["weights"] == "refit"


def test_an_export_says_that_the_images_it_is_compared_on_were_learnt(
    refitted, tmp_path, monkeypatch
):
    monkeypatch.setattr(parity, "_SECONDS", 0.02)  # its timing

    class Listening(Progress):
        def say(self, text):
            told.append(text)

    for weights, is_said in ((None, True), ("last", False)):
        told = []
        out = tmp_path / f"{weights}.onnx"
        convscope.export(refitted, out=out, weights=weights, progress=Listening())
        assert any("has learnt the validation images" in line for line in told) == is_said
