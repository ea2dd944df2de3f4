"""What the explorer computes for networks in every style, beside Keras' own numbers."""

import json
import shutil
import subprocess
from pathlib import Path

import keras
import numpy as np
import pytest

from convscope.explain.forward import activations
from convscope.explorer import payload as payloads
from convscope.explorer.document import explorer_text
from convscope.explorer.payload import Subject, build_payload
from convscope.explorer.trace import IMAGE, Step, trace
from convscope.models import MODELS
from convscope.models.backbones import BACKBONES
from convscope.models.transfer import TransferModel
from convscope.recipe import HeadSettings
from convscope.types import InputSpec

CLASSES = [f"class {number}" for number in range(10)]
TUTORIAL = ["cnn-sequential", "cnn-functional", "cnn-subclassing"]
ALL = [*MODELS.names(), *BACKBONES.names()]
QUICK = {"cnn-subclassing"}


def network(name: str, side: int = 32) -> keras.Model:
    keras.utils.set_random_seed(83)
    if name in MODELS.names():
        return MODELS.get(name)(InputSpec(side, side, 3, "unit"), 10)
    backbone = BACKBONES.get(name)
    side = max(64, backbone.smallest_size)
    spec = InputSpec(side, side, 3, backbone.scaling)
    return TransferModel(name, spec, 10, HeadSettings(hidden=(8,))).whole


def image(side: int = 32) -> np.ndarray:
    # Smooth: noise alone would look the same to every layer.
    waves = np.sin(np.arange(side) / 3)[:, None, None] + np.cos(np.arange(side) / 4)[None, :, None]
    noise = np.random.default_rng(5).normal(0, 20, (side, side, 3))
    return np.clip(128 + 50 * waves + noise, 0, 255).astype(np.uint8)


def subject(name: str) -> Subject:
    stages = dict(BACKBONES.get(name).stages) if name in BACKBONES.names() else {}
    return Subject("a run", name, "an image.png", CLASSES, stages=stages)


def opened(text: str, folder: Path) -> list:
    """Return what the page's modules compute, see open_page.mjs."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not installed")
    (folder / "page.html").write_text(text, encoding="utf-8")
    command = [node, Path(__file__).with_name("open_page.mjs"), folder / "page.html"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in ALL]
)
def test_every_number_of_a_page_is_the_one_of_keras(name, tmp_path):
    check(name, tmp_path)


def test_so_it_is_of_a_network_too_large_to_be_computed(tmp_path, monkeypatch):
    monkeypatch.setattr(payloads, "LARGEST_COMPUTED", 0)
    check("cnn-functional", tmp_path)


def check(name: str, tmp_path: Path) -> None:
    model, pixels = network(name), image(32 if name in MODELS.names() else 64)
    payload = build_payload(model, pixels, subject(name))
    text = explorer_text(payload)
    assert len(text) < 15_000_000
    if name in TUTORIAL:
        assert len(text) < 3_000_000
    wanted, found = activations(model, pixels[None]), opened(text, tmp_path)
    explained = 0
    for step, output, can, n, worst in found:
        # The first half of a separable convolution is no layer of Keras'.
        if output is not None and not step.endswith("/depthwise"):
            values = wanted[step].reshape(-1)
            largest = max(float(np.abs(values).max()), 1e-9)
            np.testing.assert_allclose(output, values, rtol=0, atol=1e-5 * largest)
        assert worst <= 1e-5, step
        assert not can or n
        explained += can
    assert explained >= 0.5 * len(found)
    stages = {entry.get("stage", "") for entry in payload.document["steps"]} - {""}
    assert stages == set(subject(name).stages)


def test_a_separable_convolution_is_two_steps_with_its_output(tmp_path):
    keras.utils.set_random_seed(83)
    inputs = keras.Input((8, 8, 3))
    settings = {"strides": 2, "padding": "same", "depth_multiplier": 2, "activation": "silu"}
    layer = keras.layers.SeparableConv2D(4, 3, bias_initializer="normal", name="both", **settings)
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(layer(inputs))
    model = keras.Model(inputs, keras.layers.Dense(10, "softmax", name="probs")(pooled))
    payload = build_payload(model, image(8), Subject("a run", "mine", "an image.png", CLASSES))
    found = opened(explorer_text(payload), tmp_path)
    assert [each[0] for each in found] == ["both/depthwise", "both", "pool", "probs"]
    pixels = image(8)[None].astype(np.float32)
    np.testing.assert_allclose(found[1][1], np.ravel(layer(pixels)), atol=1e-4)
    assert all(worst <= 1e-5 for *_, worst in found)


@pytest.mark.parametrize("largest", [0, 3_000_000])
def test_a_kernel_for_each_map_and_a_factor_for_each_map(largest, tmp_path, monkeypatch):
    keras.utils.set_random_seed(83)
    monkeypatch.setattr(payloads, "LARGEST_COMPUTED", largest)
    inputs = keras.Input((8, 8, 3))
    scaled = keras.layers.Rescaling(1 / 255, name="scaled")(inputs)
    conv = keras.layers.Conv2D(6, 3, 2, "same", activation="relu", name="conv")(scaled)
    own = keras.layers.Conv2D(6, 3, padding="same", groups=6, name="own")(conv)
    factors = keras.layers.GlobalAveragePooling2D(keepdims=True, name="factors")(own)
    times = keras.layers.Multiply(name="times")([own, factors])
    flat = keras.layers.Flatten(name="flat")(times)
    model = keras.Model(inputs, keras.layers.Dense(10, "softmax", name="probs")(flat))
    pixels = image(8)
    payload = build_payload(model, pixels, Subject("a run", "mine", "an image.png", CLASSES))
    assert payload.document["computed"] == (largest > 0)
    wanted = activations(model, pixels[None])
    for name, output, can, n, worst in opened(explorer_text(payload), tmp_path):
        assert worst <= 1e-5, name
        if name in ("conv", "own", "times", "probs"):
            assert can
            assert n
        if output is not None:
            np.testing.assert_allclose(output, wanted[name].reshape(-1), atol=1e-5)


def test_steps_are_linked_as_the_data_goes():
    steps: list[Step] = []
    pixels = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(2, 1, name="a")(keras.layers.Dropout(0.5)(pixels))
    y = keras.layers.Add(name="sum")([x, keras.layers.ReLU(name="b")(x)])
    out = keras.layers.Dense(2, "softmax", name="probs")(keras.layers.Flatten(name="flat")(y))
    probs = trace(keras.Model(pixels, out), image(8)[..., :1], steps.append)
    assert [(each.name, each.sources) for each in steps] == [
        *(("a", (IMAGE,)), ("b", (0,)), ("sum", (0, 1)), ("flat", (2,)), ("probs", (3,))),
    ]
    assert probs.shape == (2,)
    assert probs.sum() == pytest.approx(1)
