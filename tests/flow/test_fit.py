"""Images of mixed shapes: a file is judged by the pixels that training saw, whatever the fit."""

import numpy as np
import pytest
from PIL import Image

import convscope
from convscope.classifier.classify import at_temperature
from convscope.classifier.keras_model import spec_of
from convscope.evaluation.predictions import read_predictions
from convscope.progress import Progress
from convscope.recipe import read_run_config


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two classes, upright and lying photos."""
    root = tmp_path_factory.mktemp("mixed") / "photos"
    rng = np.random.default_rng(0)
    for label, name in enumerate(("dark", "light")):
        (root / name).mkdir(parents=True)
        for number in range(24):
            shape = [(12, 30), (30, 12), (16, 16)][number % 3]
            pixels = rng.integers(90 * label, 90 * label + 120, (*shape, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


@pytest.mark.parametrize(
    "fit",
    ["crop", *(pytest.param(fit, marks=pytest.mark.slow) for fit in ("squash", "pad"))],
)
def test_predict_gives_the_probabilities_of_the_evaluation(photos, tmp_path, fit):
    run = convscope.train(
        "cnn-sequential",
        data=photos,
        image_size=16,
        fit=fit,
        epochs=1,
        precision="float32",
        test=False,
        out=tmp_path / "run",
        progress=Progress(),
    )
    spec = spec_of(run, "last")
    assert read_run_config(run.config_file).fit == spec.fit == fit
    judged = read_predictions(run.predictions_file)[0]["val"]
    files = [photos / str(name) for name in judged.ids]
    found = convscope.predict(run, files, progress=Progress())
    probs = np.array([list(each.probs.values()) for each in found], np.float32)
    np.testing.assert_array_equal(probs, at_temperature(judged.probs, spec.temperature))
