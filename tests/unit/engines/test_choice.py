"""The fastest engine is measured once, and must answer as ONNX Runtime does."""

import time
from itertools import count, groupby

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
    now, order = [0.0], []

    def cold(name, ms, cold_ms):
        """Return a call that takes longer after another one, now and then very long."""
        numbers = count(1)

        def call():
            usual = ms if order[-1:] == [name] else cold_ms
            order.append(name)
            now[0] += 9 if next(numbers) % 29 == 0 else 1e-3 * usual

        return call

    monkeypatch.setattr(choice.time, "perf_counter", lambda: now[0])
    calls = {
        "one": cold("one", 1, 8),
        "other": cold("other", 0.25, 2),
        "slow": cold("slow", 30, 31),
    }
    found = median_ms(calls, 100)
    # By turns, so that what else the machine does meets all of them.
    turns = [name for name, _ in groupby(order)]
    assert turns == [*calls] * (len(turns) // 3)
    assert len(turns) > 60
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


@pytest.mark.parametrize("package", [{}, {"package": "none_here"}, {"package": "none_here.engine"}])
def test_an_engine_whose_package_is_not_known_to_be_there_is_not_chosen(engines, package):
    engines(onnxruntime=Fake(1))
    ENGINES._entries["theirs"] = Entry("theirs", Fake(0), package)
    assert fastest_engine(MODEL, (4, 4, 3), None, Progress()) == "onnxruntime"
