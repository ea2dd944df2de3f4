"""A run of an older version opens, answers and goes on.

It was made with `convscope train --data digits --model cnn-sequential --epochs 6 --precision
float32 --batch-size 64 --set tta.shift=0.125 --set optimizer.name=sgd --set optimizer.momentum=0.9
--lr 0.02`, before classifiers had a file of their own, copies of an image went to one part, and the
saved graph resized by itself.
"""

import shutil

import keras
import numpy as np
import pytest

import convscope
from convscope.classifier.classify import at_temperature
from convscope.classifier.keras_model import open_classifier, spec_of
from convscope.evaluation.predictions import read_predictions
from convscope.progress import Progress
from convscope.run import Run
from convscope.training.results import read_results


@pytest.fixture
def run(older_run, tmp_path) -> Run:
    shutil.copytree(older_run, tmp_path / "run")
    return Run.open(tmp_path / "run")


def test_it_answers_as_it_did(run):
    saved, _ = read_predictions(run.predictions_file)
    val = convscope.load("digits", split={"version": 1}, progress=Progress()).val
    assert val.ids.tolist() == saved["val"].ids.tolist()
    classifier = open_classifier(run)
    assert classifier.spec.temperature == spec_of(run, "last").temperature != 1
    assert classifier.spec.views.shift == 0.125
    wanted = at_temperature(saved["val"].probs, classifier.spec.temperature)
    np.testing.assert_allclose(classifier.predict_on_batch(val.images), wanted, atol=1e-4)


def test_it_is_judged_again_to_the_same_numbers(run):
    before = run.metrics
    after = convscope.evaluate(run, fresh=True, progress=Progress())
    for part in ("val", "test"):
        assert after[part]["accuracy"] == pytest.approx(before[part]["accuracy"], abs=0.006)
        assert after[part]["loss"] == pytest.approx(before[part]["loss"], abs=1e-4)
    assert run.classifier_file("last").exists()


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="it was trained on TensorFlow")
def test_it_goes_on(run):
    before = read_results(run.results_file)
    longer = convscope.train(resume=run.path, epochs=7, test=False, progress=Progress())
    rows = read_results(longer.results_file)
    assert rows[:6] == before
    assert len(rows) == 7
    assert rows[6]["loss"] < rows[5]["loss"]


def test_it_is_diagnosed_and_reported(run):
    found = convscope.doctor(run, progress=Progress())
    assert found.quiet
    assert convscope.report(run, progress=Progress()).exists()
