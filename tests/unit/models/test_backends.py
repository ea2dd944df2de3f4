"""The models on Keras' other backends: each in a process of its own."""

import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from convscope.models import MODELS
from convscope.models.saving import PortableModel
from convscope.types import InputSpec

STYLES = ["cnn-sequential", "cnn-functional", "cnn-subclassing"]

SCRIPT = """
import sys
import keras
import numpy as np
from convscope.models import MODELS
from convscope.models.geometry import geometry
from convscope.types import InputSpec

folder = sys.argv[1]
spec = InputSpec(12, 12, 3)
inputs = dict(np.load(f"{folder}/inputs.npz"))
reloaded = keras.saving.load_model(f"{folder}/model.keras")
assert keras.backend.backend() == sys.argv[2]
answers = {size: reloaded.predict(x, verbose=0) for size, x in inputs.items()}
for name in sys.argv[3:]:
    model = MODELS.get(name)(spec, 4)
    model.set_weights(reloaded.get_weights())
    assert geometry(model)[-1].output_shape == (4,)
    answers[name] = keras.ops.convert_to_numpy(model(inputs["smaller"]))
np.savez(f"{folder}/answers.npz", **answers)
model.compile("adam", "sparse_categorical_crossentropy")
loss = model.fit(inputs["exact"], np.arange(6) % 4, verbose=0).history["loss"][0]
assert np.isfinite(loss)
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_another_backend_gives_the_same_answers(backend, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    rng = np.random.default_rng(0)
    sizes = {"exact": (12, 12), "smaller": (20, 31), "larger": (7, 9)}
    inputs = {k: rng.integers(0, 256, (6, *s, 3), dtype="uint8") for k, s in sizes.items()}
    np.savez(tmp_path / "inputs.npz", **inputs)
    spec = InputSpec(12, 12, 3)
    model = MODELS.get("cnn-functional")(spec, 4)
    PortableModel.of("cnn-functional", spec, 4).save(model.get_weights(), tmp_path / "model.keras")

    command = [sys.executable, "-c", SCRIPT, str(tmp_path), backend, *STYLES]
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answers = np.load(tmp_path / "answers.npz")
    expected = {size: keras.ops.convert_to_numpy(model(x)) for size, x in inputs.items()}
    expected |= dict.fromkeys(STYLES, expected["smaller"])
    assert set(answers) == set(expected)
    for key in expected:
        np.testing.assert_allclose(answers[key], expected[key], atol=1e-5)
