import json
import math

import keras
import pytest

import convscope
from convscope import backend
from convscope.machine import cpu_name
from convscope.planning.networks import build_model, input_spec
from convscope.planning.plan import run_config
from convscope.progress import Progress
from convscope.run import Run
from convscope.storage import cache_dir
from convscope.training import precision
from convscope.training.precision import choose_precision, machine, measure_speedup


class Measured:
    """Stands in for the measurement, and counts how often it is made."""

    def __init__(self, speedup):
        self.speedup, self.times = speedup, 0

    def __call__(self, step):
        self.times += 1
        return self.speedup


@pytest.fixture
def measured(monkeypatch):
    backend.configure()
    monkeypatch.setattr(precision, "bfloat16_units", lambda: "AMX")
    stand_in = Measured(1.5)
    monkeypatch.setattr(precision, "measure_speedup", stand_in)
    return stand_in


def answers() -> dict:
    return json.loads((cache_dir() / "precision.json").read_text())


def test_the_answer_is_measured_once_and_reused(measured):
    assert choose_precision(Progress()) == "bfloat16"
    assert list(answers().values()) == [1.5]
    measured.speedup = 0.1
    assert choose_precision(Progress()) == "bfloat16"
    assert measured.times == 1


def test_another_machine_is_measured_anew_and_the_first_remembered(measured, monkeypatch):
    choose_precision(Progress())
    (first,) = answers()
    monkeypatch.setattr(backend, "cpu_name", lambda: "another processor")
    measured.speedup = 0.1
    assert choose_precision(Progress()) == "float32"
    assert measured.times == 2
    (second,) = answers().keys() - {first}
    assert "another processor" in second
    assert keras.config.backend() in second
    assert answers() == {first: 1.5, second: 0.1}


def test_a_machine_is_named_by_the_device_that_computes(monkeypatch):
    backend.configure()
    monkeypatch.setattr(precision, "accelerator", lambda: None)
    assert machine().startswith(f"{cpu_name()}, ")
    names = set()
    for device in ("NVIDIA L4", "NVIDIA H100 80GB HBM3"):
        monkeypatch.setattr(precision, "accelerator", lambda device=device: device)
        assert machine().startswith(f"{device}, ")
        names.add(machine())
    assert len(names) == 2


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="asks TensorFlow")
def test_an_accelerator_is_called_by_its_model(monkeypatch):
    import tensorflow as tf

    assert precision.accelerator() is None
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    details = {"GPU": {"device_name": "NVIDIA L4"}}
    monkeypatch.setattr(tf.config.experimental, "get_device_details", details.get)
    assert precision.accelerator() == "NVIDIA L4"
    details["GPU"] = {}  # a driver that does not say
    assert precision.accelerator() == "GPU"


@pytest.mark.parametrize(
    ("speedup", "chosen"), [(0.1, "float32"), (1.09, "float32"), (1.1, "bfloat16"), (2, "bfloat16")]
)
def test_bfloat16_has_to_win_clearly(measured, speedup, chosen):
    measured.speedup = speedup
    told = []

    class Tell(Progress):
        def say(self, text):
            told.append(text)

    assert choose_precision(Tell()) == chosen
    assert len(told) == 1
    assert chosen in told[0]
    assert f"{speedup:.2f}" in told[0]
    assert told[0].endswith("here, by AMX")


def test_a_processor_without_bfloat16_is_not_measured(measured, monkeypatch):
    monkeypatch.setattr(precision, "bfloat16_units", lambda: "")
    monkeypatch.setattr(precision, "accelerator", lambda: None)
    assert choose_precision(Progress()) == "float32"
    monkeypatch.setattr(precision, "accelerator", lambda: "NVIDIA L4")
    assert choose_precision(Progress()) == "bfloat16"
    assert measured.times == 1


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"3", b"null", b'{"a": "fast"}', b"\xff\xfe", b"[" * 100_000]
)
def test_an_unreadable_cache_is_measured_again_and_replaced(measured, content):
    path = cache_dir() / "precision.json"
    path.write_bytes(content)
    assert choose_precision(Progress()) == "bfloat16"
    assert measured.times == 1
    assert list(answers().values()) == [1.5]


def test_a_cache_that_cannot_be_written_costs_a_measurement_not_the_run(
    measured, monkeypatch, tmp_path
):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        monkeypatch.setenv("CONVSCOPE_CACHE", str(place))
        assert choose_precision(Progress()) == "bfloat16"
    assert measured.times == 2
    folder = tmp_path / "cache"
    (folder / "precision.json").mkdir(parents=True)
    monkeypatch.setenv("CONVSCOPE_CACHE", str(folder))
    assert choose_precision(Progress()) == "bfloat16"
    assert measured.times == 3


def test_the_measurement_is_real_and_leaves_no_trace(monkeypatch):
    backend.configure()
    # bfloat16 takes tens of times as long where a processor has no units for it.
    for name, few in (("_BATCH", 4), ("_ROUNDS", 2), ("_STEPS", 1)):
        monkeypatch.setattr(precision, name, few)
    rounds = []
    found = measure_speedup(lambda n, note="": rounds.append((n, note)))
    assert math.isfinite(found)
    assert 0.001 < found < 1000
    assert sum(n for n, _ in rounds) > 1
    ratios = [float(note.split()[0]) for _, note in rounds]
    assert min(ratios) - 0.01 <= found <= max(ratios) + 0.01
    assert keras.config.dtype_policy().name == "float32"
    # Layers built afterwards are called what they would be called without it.
    assert keras.layers.Conv2D(1, 1).name == "conv2d"
    assert not (cache_dir() / "precision.json").exists()


@pytest.fixture(scope="module")
def bfloat16_run(tmp_path_factory) -> Run:
    return convscope.train(
        "cnn-functional",
        data="digits",
        epochs=1,
        precision="bfloat16",
        out=tmp_path_factory.mktemp("runs") / "bfloat16",
        progress=Progress(),
    )


def test_a_bfloat16_run_computes_in_bfloat16_and_saves_float32(bfloat16_run, digits_run):
    config = run_config(bfloat16_run)
    assert config.precision == "bfloat16"
    dataset = convscope.load("digits", progress=Progress())
    network = build_model(config, input_spec(dataset, config), 10)
    assert {layer.compute_dtype for layer in network.layers if "conv" in layer.name} == {"bfloat16"}
    for which in ("best", "last"):
        saved = keras.saving.load_model(bfloat16_run.weights(which))
        assert {layer.compute_dtype for layer in saved.layers} == {"float32"}
        assert {str(variable.dtype) for variable in saved.variables} == {"float32"}
        policies = {layer.dtype_policy.name for layer in saved.layers}
        assert policies == {"float32"}
    # It did learn in the other precision: not the bits of a float32 run.
    first = bfloat16_run.metrics["val"]["accuracy"]
    assert 0.3 < first <= 1
    assert keras.config.dtype_policy().name == "float32"
