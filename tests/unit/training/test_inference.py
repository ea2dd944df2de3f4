import keras
import numpy as np
import pytest

from convscope.engines import conversion
from convscope.engines.onnxruntime import OnnxRuntimeSession
from convscope.errors import FailureError
from convscope.progress import Progress
from convscope.training import inference as module
from convscope.training.inference import FrozenInference, engine_of

pytestmark = pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="others compute features in Keras"
)

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)


class Heard(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture(autouse=True)
def nothing_prepared(monkeypatch):
    monkeypatch.setattr(module, "_prepared", {})


@pytest.fixture(scope="module", name="net")
def large() -> keras.Model:
    """A network of just enough weights."""
    keras.utils.set_random_seed(83)
    pixels = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 255)(pixels)
    x = keras.layers.Conv2D(16, 3, padding="same", activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    inner = keras.Sequential([keras.layers.Dense(60_000, activation="relu")])
    return keras.Model(pixels, inner(x))


def small() -> keras.Model:
    pixels = keras.Input((8, 8, 3))
    return keras.Model(pixels, keras.layers.Conv2D(4, 3)(pixels))


def test_outputs_are_those_of_keras_computed_by_onnx_runtime(net, monkeypatch):
    expected = net.predict_on_batch(IMAGES)

    def never(*args):
        raise AssertionError("Keras was asked")

    monkeypatch.setattr(net, "predict_on_batch", never)
    heard = Heard()
    run = FrozenInference(net, "a", 16, heard)
    both = np.concatenate([run(IMAGES[:16]), run(IMAGES[16:])])
    assert both.dtype == np.float32
    np.testing.assert_allclose(both, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert not heard.lines


@pytest.mark.parametrize(
    ("room", "n_conversions"), [(100_000_000, 2), (3_000_000, 2), (2_000_000, 4)]
)
def test_networks_are_converted_once_while_there_is_room(net, monkeypatch, room, n_conversions):
    counted, plain = [], conversion.to_onnx

    def to_onnx(function, **settings):
        counted.append(1)
        return plain(function, **settings)

    monkeypatch.setattr(conversion, "to_onnx", to_onnx)
    monkeypatch.setattr(module, "_KEPT_WEIGHTS", room)
    assert 1_000_000 < net.count_params() < 1_500_000
    for key in ("first", "first", "other", "first", "other"):
        FrozenInference(net, key, 16, Progress())(IMAGES[:2])
    assert len(counted) == n_conversions
    assert sum(n_weights for _, n_weights in module._prepared.values()) <= room


def test_the_network_used_longest_ago_makes_room(net, monkeypatch):
    monkeypatch.setattr(module, "_KEPT_WEIGHTS", 2 * net.count_params())
    for key in ("first", "second", "first", "third"):
        FrozenInference(net, key, 16, Progress())(IMAGES[:2])
    assert [key.split()[0] for key in module._prepared] == ["first", "third"]


@pytest.mark.parametrize("case", ["fails", "differs"])
def test_what_onnx_runtime_cannot_compute_keras_does_and_says_why(net, monkeypatch, case):
    expected = net.predict_on_batch(IMAGES)
    if case == "fails":

        def to_onnx(function, **settings):
            raise FailureError("no operation for it")

        monkeypatch.setattr(conversion, "to_onnx", to_onnx)
    else:
        plain = OnnxRuntimeSession.outputs

        def outputs(self, images, names):
            return {name: 1.01 * array for name, array in plain(self, images, names).items()}

        monkeypatch.setattr(OnnxRuntimeSession, "outputs", outputs)
    heard = Heard()
    # A batch that is not full is filled up for Keras, and cut again.
    found = FrozenInference(net, "a", 32, heard)(IMAGES)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    (line,) = heard.lines
    assert line.startswith("Features are computed in Keras: ")
    assert ("no operation" if case == "fails" else "differ") in line


@pytest.mark.parametrize("case", ["small", "bfloat16", "package", "accelerator"])
def test_where_it_does_not_pay_keras_computes(net, monkeypatch, case):
    network = net
    if case == "small":
        network = small()
    elif case == "bfloat16":
        pixels = keras.Input((8, 8, 3))
        x = keras.layers.GlobalAveragePooling2D()(pixels)
        network = keras.Model(pixels, keras.layers.Dense(300_000, dtype="mixed_bfloat16")(x))
    elif case == "package":
        monkeypatch.setattr(module, "_PACKAGES", ("onnxruntime", "no_such_package"))
    else:
        monkeypatch.setattr(module, "accelerator", lambda: "NVIDIA L4")
    assert "onnxruntime" not in engine_of(network)
    found = FrozenInference(network, "a", 4, Progress())(IMAGES[:2])
    expected = network.predict_on_batch(IMAGES[:2])
    np.testing.assert_allclose(found, np.asarray(expected, np.float32), rtol=0.01, atol=1e-3)
    assert "onnxruntime" in engine_of(net) or case in ("package", "accelerator")
    assert not module._prepared
