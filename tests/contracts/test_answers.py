"""Whoever asks a run's model about an image gets the same class and the same probability."""

from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import convscope
from convscope.api.train import describe
from convscope.classifier.classify import at_temperature
from convscope.classifier.keras_model import open_classifier
from convscope.evaluation.predictions import read_predictions
from convscope.models import MODELS, is_backbone
from convscope.models.backbones import BACKBONES
from convscope.models.saving import PortableModel
from convscope.planning.networks import build_model, input_spec
from convscope.progress import Progress
from convscope.recipe import resolve
from convscope.recipes import RECIPES
from convscope.run import Run

NETWORKS = [name for name in MODELS.names() if not is_backbone(name)]
RECIPES_OF = {
    kind: [entry.name for entry in RECIPES.entries() if entry.info["trains"] == kind]
    for kind in ("network", "backbone")
}
# In every run are, with views, the smallest of each kind of network, and one without.
LIKE_OTHERS = {
    *((name, "fast") for name in ("fast-medium", "fast-large", "fast-deep")),
    *((name, "tutorial") for name in NETWORKS if name != "cnn-functional"),
}
CASES = [
    *(
        pytest.param(
            name, recipe, {}, marks=pytest.mark.slow if (name, recipe) in LIKE_OTHERS else ()
        )
        for name in NETWORKS
        for recipe in RECIPES_OF["network"]
    ),
    # What they have in common is run in one of them; views under a probe come below.
    ("tiny", "finetune", {}),
    *(
        pytest.param("mobilenet_v2", recipe, {}, marks=pytest.mark.slow)
        for recipe in RECIPES_OF["backbone"]
    ),
    # Views under a frozen backbone, whose features are in a cache where there are none.
    pytest.param(
        *("mobilenet_v2", "probe", {"tta.mirror": True, "tta.shift": 0.125}), marks=pytest.mark.slow
    ),
    *(
        pytest.param(name, "probe", {}, marks=pytest.mark.slow)
        for name in BACKBONES.names()
        if name != "mobilenet_v2"
    ),
]


def untrained_run(folder: Path, name: str, recipe: str, settings: dict) -> Run:
    """Return a run whose weights are random, as if it had been trained."""
    dataset = convscope.load("digits", progress=Progress())
    given = {"data": "digits", "model": name, "recipe": recipe, "precision": "float32", **settings}
    if is_backbone(name):
        given |= {"weights": "random", "image_size": max(32, BACKBONES.get(name).smallest_size)}
    config = resolve(RECIPES.get(recipe)(), {**given, "backend": "tensorflow"})
    run = Run.create(folder, "")
    describe(run, config, dataset)

    def build():
        network = build_model(config, input_spec(dataset, config), len(dataset.class_names))
        return network, network

    keras.utils.set_random_seed(83)
    network, _ = build()
    weights = network.get_weights()
    if not is_backbone(name):
        # With the kernels of a fresh deep network all images, and all views, look nearly alike.
        weights = [2 * weight if weight.ndim > 1 else weight for weight in weights]
    PortableModel(build).save(weights, run.weights(config.judge))
    return run


@pytest.mark.parametrize(("name", "recipe", "settings"), CASES)
def test_all_doors_give_one_answer(name, recipe, settings, tmp_path, tiny_backbone):
    run = untrained_run(tmp_path / "run", name, recipe, settings)
    # Judging fits a temperature, and from then on it belongs to every answer.
    convscope.evaluate(run, test=False, progress=Progress())
    classifier = open_classifier(run)
    assert classifier.spec.temperature != 1
    judged = read_predictions(run.predictions_file)[0]["val"]
    wanted = at_temperature(judged.probs, classifier.spec.temperature)[:4]

    val = convscope.load("digits", progress=Progress()).val
    files = [tmp_path / f"{index}.png" for index in range(4)]
    for image, file in zip(val.images, files, strict=False):
        Image.fromarray(image.squeeze()).save(file)

    def compare(found, expected=wanted) -> None:
        probs = np.array([list(said.probs.values()) for said in found])
        np.testing.assert_allclose(probs, expected, atol=2e-5)

    compare(convscope.predict(run, files, progress=Progress()))
    compare(convscope.predict(run, files, batch_size=1, progress=Progress()))
    (page,) = convscope.explain(
        run, files[:1], out=tmp_path / "pages", explorer=False, progress=Progress()
    )
    compare([page.prediction], wanted[:1])
    np.testing.assert_allclose(classifier.predict_on_batch(val.images[:4]), wanted, atol=2e-5)
    # The file by itself has neither views nor temperature.
    bare = np.asarray(classifier.network.predict_on_batch(val.images[:4]))
    if classifier.spec.views == type(classifier.spec.views)():
        np.testing.assert_allclose(bare, judged.probs[:4], atol=2e-5)
    elif not is_backbone(name):  # of random weights, a backbone's answers may all be the same
        assert np.abs(bare - judged.probs[:4]).max() > 1e-5
