"""The classifier in an exported file."""

import copy
import pickle

import numpy as np
import pytest

import brightness
from convscope.classifier import exported
from convscope.classifier.exported import Classifier
from convscope.errors import ConfigError, RunError
from convscope.progress import Progress

IMAGES = np.arange(0, 252, 7, dtype=np.uint8).reshape(1, 6, 6, 1)


@pytest.fixture
def model(tmp_path):
    pytest.importorskip("onnx")
    return brightness.export(tmp_path / "model.onnx")


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))])
def test_a_copy_answers_the_same_in_another_folder_too(model, monkeypatch, tmp_path, copied):
    monkeypatch.chdir(model.parent)
    first = Classifier("model.onnx", threads=1)
    (tmp_path / "elsewhere").mkdir()
    state = first.__reduce__()[1]
    assert state[1] == model
    assert state[3] == {"engine": "onnxruntime", "threads": 1, "shared": False}
    monkeypatch.chdir(tmp_path / "elsewhere")
    second = copied(first)
    assert type(second) is Classifier
    assert (second.sha256, second.engine) == (first.sha256, first.engine)
    np.testing.assert_array_equal(second.predict_on_batch(IMAGES), first.predict_on_batch(IMAGES))
    pickled = pickle.dumps(first)
    assert pickle.loads(pickled).spec == first.spec


def test_another_model_in_the_place_of_a_pickled_one_is_refused(model, monkeypatch):
    pickled = pickle.dumps(Classifier(model, threads=1))
    monkeypatch.setattr(exported, "checksum_of", lambda content: "of another")
    with pytest.raises(RunError, match=r"model\.onnx is another model than the one that was"):
        pickle.loads(pickled)


def test_a_run_is_told_how_it_becomes_an_exported_file(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "run.json").write_text("{}")
    with pytest.raises(
        RunError, match=r"is a run; .* open mine\.onnx: convscope export \S*mine --"
    ):
        Classifier(tmp_path / "mine")


@pytest.mark.parametrize("threads", [0, -1])
def test_no_threads_are_refused(model, threads):
    with pytest.raises(ConfigError, match=f"threads must be at least 1, not {threads}"):
        Classifier(model, threads=threads)


def test_the_choice_of_the_engine_is_told_to_whom_one_names(model, monkeypatch):
    def choose(content, shape, threads, progress):
        progress.say("chosen")
        return "onnxruntime"

    said = []

    class Lines(Progress):
        def say(self, text):
            said.append(text)

    monkeypatch.setattr(exported, "fastest_engine", choose)
    Classifier(model, engine="auto", threads=1, progress=Lines())
    assert said == ["chosen"]
