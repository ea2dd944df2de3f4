"""Every registered model becomes an ONNX file that answers as it does."""

import dataclasses

import keras
import numpy as np
import pytest

from convscope.classifier.classify import Classifier
from convscope.classifier.exported import Classifier as Exported
from convscope.classifier.spec import STEPS, ClassifierSpec
from convscope.export import FORMATS
from convscope.export.graph import build_function
from convscope.models import MODELS
from convscope.models.backbones import BACKBONES
from convscope.models.transfer import TransferModel
from convscope.recipe import HeadSettings
from convscope.types import InputSpec

SIZE, N_CLASSES = 40, 4
NETWORKS = [name for name in MODELS.names() if name not in BACKBONES.names()]
CASES = [
    # The tutorial's network is exported in tests/flow/test_export.py.
    *(pytest.param(name, "onnx", marks=pytest.mark.slow) for name in NETWORKS),
    *(pytest.param(name, "onnx", marks=pytest.mark.slow) for name in BACKBONES.names()),
    *(
        pytest.param(name, form, marks=pytest.mark.slow)
        for name in ("fast-small", "mobilenet_v2", "vgg16", "efficientnet_lite0", "resnet50")
        for form in FORMATS.names()
        if form not in ("onnx", "triton", "ovms", "web")  # those hold other formats
    ),
]


def network_of(name, spec):
    keras.utils.set_random_seed(29)
    if name not in BACKBONES.names():
        network = MODELS.get(name)(spec, N_CLASSES)
    else:
        network = TransferModel(name, spec, N_CLASSES, HeadSettings(), "end").whole
    # With the kernels of a fresh deep network all images look nearly alike.
    network.set_weights([1.4 * w if w.ndim > 1 else w for w in network.get_weights()])
    return network


@pytest.mark.parametrize(("name", "form"), CASES)
def test_an_exported_model_answers_as_the_model(name, form, tmp_path):
    size = SIZE if name not in BACKBONES.names() else max(SIZE, BACKBONES.get(name).smallest_size)
    scaling = "unit" if name not in BACKBONES.names() else BACKBONES.get(name).scaling
    network = network_of(name, InputSpec(size, size, 3, scaling))
    spec = ClassifierSpec(tuple("abcd"), size, size, 3)
    target = FORMATS.get(form)()
    path = tmp_path / f"model{target.suffix}"
    inside = STEPS if target.any_size else STEPS[1:]
    target.write(
        build_function(network, spec, any_size=target.any_size),
        dataclasses.replace(spec, in_graph=inside),
        path,
    )
    images = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), dtype=np.uint8)
    exported = Exported(path) if form == "onnx" else target.open(path)
    expected = Classifier(network, spec).predict_on_batch(images)
    np.testing.assert_allclose(exported.predict_on_batch(images), expected, atol=1e-4)
    np.testing.assert_allclose(exported.predict_on_batch(images[:1]), expected[:1], atol=1e-4)
