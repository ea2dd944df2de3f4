"""The classifier of a run: which weights, which temperature, on which backend."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys

import keras
import pytest

import convscope
from convscope.classifier import keras_model
from convscope.classifier.keras_model import (
    load_model,
    open_classifier,
    spec_of,
    unevaluated_note,
    write_spec,
)
from convscope.errors import RunError
from convscope.images.decode import DECODER_VERSION
from convscope.progress import Progress
from convscope.run import Run


def test_a_missing_or_damaged_model_says_what_to_do(tmp_path):
    path = tmp_path / "run" / "weights" / "last.keras"
    with pytest.raises(RunError, match="no saved model.*--resume"):
        load_model(path)
    path.parent.mkdir(parents=True)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    model.save(path)
    assert load_model(path).count_params() == model.count_params()
    content = path.read_bytes()
    for damage in (b"", content[: len(content) // 2], b"PK no zip"):
        path.write_bytes(damage)
        with pytest.raises(RunError, match=r"last\.keras is damaged") as caught:
            load_model(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (EOFError(), "EOFError"),
        (ValueError("no layer caf\udce9\x1b[2J.\nmore"), r"no layer caf\udce9\x1b[2J"),
    ],
)
def test_the_cause_of_damage_is_one_printable_line_whatever_keras_says(
    tmp_path, monkeypatch, error, said
):
    def load_portable(path):
        raise error

    monkeypatch.setattr(keras_model, "load_portable", load_portable)
    path = tmp_path / "last.keras"
    path.touch()
    with pytest.raises(RunError) as caught:
        load_model(path)
    assert str(caught.value) == f"the saved model {path} is damaged: {said}"


def test_a_saved_model_cannot_run_code(tmp_path):
    path = tmp_path / "last.keras"
    keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x + 1)]).save(path)
    with pytest.raises(RunError, match="damaged"):
        load_model(path)


@pytest.fixture
def run(digits_run, tmp_path) -> Run:
    """A run of its own, to be changed."""
    shutil.copytree(digits_run, tmp_path / "run")
    return Run(tmp_path / "run")


def test_training_leaves_the_spec_beside_the_weights(digits_run):
    run = Run(digits_run)
    spec = spec_of(run, "last")
    content = json.loads(run.classifier_file("last").read_text())
    assert spec.temperature == content["temperature"] != 1
    assert spec.class_names == tuple(run.class_names) == tuple("0123456789")
    assert (spec.height, spec.width, spec.channels) == (8, 8, 1)
    assert spec.run_id == "digits"
    assert spec.licence == run.state["provenance"]["licence"]
    assert spec.weights_sha256 == run.weights_sha256("last")


def test_a_temperature_holds_for_its_weights_only(run):
    write_spec(run, "last", temperature=1.5)
    assert spec_of(run, "last").temperature == 1.5
    network = keras.saving.load_model(run.weights("last"))
    network.set_weights([weight * 1.01 for weight in network.get_weights()])
    network.save(run.weights("last"))
    assert spec_of(run, "last").temperature == 1
    assert open_classifier(run).spec == spec_of(run, "last")


def test_weights_that_were_never_evaluated_are_told_with_what_helps(run, tmp_path):
    said = []

    class Told(Progress):
        def say(self, text):
            said.append(text)

    file = tmp_path / "0.png"
    keras.utils.save_img(file, convscope.load("digits", progress=Progress()).val.images[0])
    list(convscope.predict(run, file, progress=Told()))
    assert said == []
    list(convscope.predict(run, file, weights="best", progress=Told()))
    command = f"convscope evaluate {run.path} --weights best"
    assert said == [
        "Note: the weights 'best' were not evaluated, so their probabilities are not calibrated "
        f"and nothing can be rejected; first: {command}"
    ]
    with pytest.raises(RunError) as error:
        list(convscope.predict(run, file, weights="best", reject=True, progress=Progress()))
    lacking = "this classifier has no threshold for images of no class"
    assert str(error.value) == f"{lacking}; first: {command}"
    write_spec(run, "best", temperature=1.0)
    assert unevaluated_note(run, "best") == ""
    # Sealed test images stay so.
    run.classifier_file("last").unlink()
    run.record(test_openings=[])
    assert unevaluated_note(run).endswith(f"first: convscope evaluate {run.path} --no-test")


def test_an_evaluation_keeps_the_version_of_the_decoder_of_the_training(run):
    assert spec_of(run, "last").decoder_version == DECODER_VERSION
    old = dataclasses.replace(spec_of(run, "last"), decoder_version=DECODER_VERSION - 2)
    old.write(run.classifier_file("last"))
    assert write_spec(run, "last", temperature=1.5).decoder_version == DECODER_VERSION - 2
    run.record(decoder_version=DECODER_VERSION - 1)
    assert write_spec(run, "last", temperature=1.5).decoder_version == DECODER_VERSION - 1


def test_a_look_at_other_weights_changes_no_answer(run, tmp_path):
    network = keras.saving.load_model(run.weights("last"))
    network.set_weights([weight * 0.9 for weight in network.get_weights()])
    network.save(run.weights("best"))
    files = [tmp_path / "0.png"]
    keras.utils.save_img(files[0], convscope.load("digits", progress=Progress()).val.images[0])
    before = [found.probs for found in convscope.predict(run, files, progress=Progress())]
    metrics, predictions = run.metrics, run.predictions_file.read_bytes()
    looked = convscope.evaluate(run, weights="best", test=False, progress=Progress())
    assert looked["weights"] == "best"
    assert looked["val"]["loss"] != metrics["val"]["loss"]
    assert run.metrics == metrics
    assert run.predictions_file.read_bytes() == predictions
    assert json.loads((run.path / "metrics-best.json").read_text()) == looked
    after = [found.probs for found in convscope.predict(run, files, progress=Progress())]
    assert after == before
    # And the others have a temperature of their own.
    assert spec_of(run, "best").temperature not in (1, spec_of(run, "last").temperature)


def test_the_temperature_of_an_older_run_is_read(run):
    old = spec_of(run, "last")
    run.classifier_file("last").unlink()
    assert spec_of(run, "last").temperature == 1
    content = {"temperature": 1.7, "weights_sha256": old.weights_sha256}
    run.calibration_file.write_text(json.dumps(content))
    assert spec_of(run, "last").temperature == 1.7
    run.calibration_file.write_text(json.dumps({**content, "weights_sha256": "0" * 64}))
    assert spec_of(run, "last").temperature == 1


@pytest.mark.parametrize("text", ["", "[]", '{"temperature": 0}', '{"temperature": "x"}'])
def test_a_damaged_file_is_told_in_a_line(text, run):
    run.classifier_file("last").unlink()
    run.calibration_file.write_text(text)
    with pytest.raises(RunError, match="damaged; write it again: convscope evaluate"):
        spec_of(run, "last")


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="hides the other backends")
def test_a_run_trained_on_another_backend_answers_on_the_one_that_is_here(run, tmp_path):
    text = run.config_file.read_text()
    assert "backend: tensorflow" in text
    run.config_file.write_text(text.replace("backend: tensorflow", "backend: jax"))
    file = tmp_path / "0.png"
    keras.utils.save_img(file, convscope.load("digits", progress=Progress()).val.images[0])
    (found,) = convscope.predict(run, [file], progress=Progress())
    # In a process in which no backend was chosen yet, and JAX looks as if it were not installed.
    code = f"""
import sys, importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name in ("jax", "torch") else found(name, *a)
import convscope
from convscope.progress import Progress
for said in convscope.predict({str(run.path)!r}, [{str(file)!r}], progress=Progress()):
    print(said.class_name, round(max(said.probs.values()), 4))
"""
    environment = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    name, prob = done.stdout.split()
    assert name == found.class_name
    assert float(prob) == pytest.approx(max(found.probs.values()), abs=2e-4)
