"""The fastest engine is measured once, and must answer as ONNX Runtime does."""

import time

import numpy as np
import pytest

from convscope.engines import ENGINES, choice
from convscope.engines.choice import fastest_engine, measure_engines, median_ms
from convscope.measurements import read_results
from convscope.progress import Progress
from convscope.registry import Entry

MODEL = b"model" + b"0" * 64


class Fake:
    """A session of an engine that takes some time."""

    def __init__(self, ms, probs=(0.25, 0.75)):
        self.ms, self.probs = ms, probs

    def __call__(self, model, threads):
        return self

    def predict_on_batch(self, images):
        time.sleep(self.ms / 1e3)
        return np.tile(np.float32(self.probs), (len(images), 1))


class Told(Progress):
    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


@pytest.fixture
def engines(monkeypatch):
    """Return a function that makes fake engines the registered and installed ones."""

    def only(**fakes):
        entries = {name: Entry(name, fake, {"package": "numpy"}) for name, fake in fakes.items()}
        monkeypatch.setattr(ENGINES, "_entries", entries)
        monkeypatch.setattr(ENGINES, "_scanned", True)
        monkeypatch.setattr(choice, "_SECONDS", 0.02)

    return only


def test_the_fastest_is_measured_once_and_kept(engines, monkeypatch):
    engines(onnxruntime=Fake(4), openvino=Fake(1))
    progress = Told()
    assert fastest_engine(MODEL, (4, 4, 3), None, progress) == "openvino"
    assert progress.lines[0].startswith("Engine openvino, the fastest here: onnxruntime ")
    monkeypatch.setattr(choice, "measure_engines", None)
    assert fastest_engine(MODEL, (4, 4, 3), None, progress) == "openvino"
    assert len(progress.lines) == 1
    assert list(read_results("engines", str).values()) == ["openvino"]


def test_a_turn_of_a_fast_model_is_timed_when_the_model_before_no_longer_matters(monkeypatch):
    now, last = [0.0], []

    class Cold:
        """A model whose first call after another one takes longer, on a clock of its own."""

        def __init__(self, ms, cold_ms):
            self.ms, self.cold_ms = ms, cold_ms

        def predict_on_batch(self, images):
            now[0] += 1e-3 * (self.ms if last == [self] else self.cold_ms)
            last[:] = [self]

    monkeypatch.setattr(choice.time, "perf_counter", lambda: now[0])
    models = {"one": Cold(1, 8), "other": Cold(0.25, 2), "slow": Cold(30, 31)}
    found = median_ms(models, np.zeros((1, 4, 4, 3), np.uint8), 1)
    assert found == {
        "one": pytest.approx(1),
        "other": pytest.approx(0.25),
        "slow": pytest.approx(31),
    }


def test_an_engine_that_answers_otherwise_is_never_chosen(engines):
    engines(onnxruntime=Fake(4), openvino=Fake(0, probs=(0.26, 0.74)))
    assert set(measure_engines(MODEL, (4, 4, 3), ["onnxruntime", "openvino"], 1)) == {"onnxruntime"}
    assert fastest_engine(MODEL, (4, 4, 3), 1, Progress()) == "onnxruntime"


def test_a_single_engine_needs_no_measurement(engines, monkeypatch):
    engines(onnxruntime=Fake(1))
    monkeypatch.setattr(choice, "measure_engines", None)
    assert fastest_engine(MODEL, (4, 4, 3), None, Progress()) == "onnxruntime"
