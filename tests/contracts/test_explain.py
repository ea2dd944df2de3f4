"""What Grad-CAM keeps for every registered network, found by the registries."""

import keras
import numpy as np
import pytest

from convscope.explain.forward import activations
from convscope.explain.gradcam import gradcam
from convscope.models import MODELS
from convscope.models.backbones import BACKBONES
from convscope.models.transfer import TransferModel
from convscope.recipe import HeadSettings
from convscope.types import InputSpec

N_CLASSES = 3
QUICK = {*MODELS.names(), "mobilenet_v2"}
"""One head is made for all backbones: in every run one of them stands for the others."""


def build(name: str) -> tuple[keras.Model, int]:
    """Return a network whose answers are so sure that float32 rounds them, and its image side."""
    keras.utils.set_random_seed(83)
    if name in MODELS.names():
        side, model = 32, MODELS.get(name)(InputSpec(32, 32, 3), N_CLASSES)
    else:
        backbone = BACKBONES.get(name)
        side = max(64, backbone.smallest_size)
        spec = InputSpec(side, side, 3, backbone.scaling)
        model = TransferModel(name, spec, N_CLASSES, HeadSettings()).whole
    layer = next(each for each in reversed(model.layers) if isinstance(each, keras.layers.Dense))
    for _ in range(40):  # random features may be as small as the network is deep
        *_, probs = activations(model, images(side)).values()
        if probs.max() == 1:
            break
        kernel, *bias = layer.get_weights()
        layer.set_weights([kernel * np.float32(10), *bias])
    assert probs.max() == 1
    if not any(gradcam(model, images(side)[0], index).any() for index in range(N_CLASSES)):
        # By chance all logits were negative, so that nothing spoke for any class.
        kernel, *bias = layer.get_weights()
        layer.set_weights([-kernel, *bias])
    return model, side


def images(side: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (1, side, side, 3), dtype=np.uint8)


def logits_of(model: keras.Model) -> keras.Model:
    """Return a network that ends where the softmax of `model` begins; `model` is spoilt."""
    last = model.layers[-1]
    if isinstance(last, keras.layers.Softmax):
        return keras.Model(model.inputs, last.input)
    last.activation = keras.activations.linear
    return model


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name in [*MODELS.names(), *BACKBONES.names()]
    ],
)
def test_grad_cam_is_of_the_logit_however_sure_the_answer(name):
    model, side = build(name)
    (image,) = images(side)
    maps = [gradcam(model, image, index) for index in range(N_CLASSES)]
    logits = logits_of(model)
    for index, heat in enumerate(maps):
        np.testing.assert_allclose(heat, gradcam(logits, image, index), atol=1e-4)
    assert max(heat.max() for heat in maps) == 1
