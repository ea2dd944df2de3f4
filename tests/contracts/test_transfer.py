"""What every backbone keeps as part of a classifier: frozen, cut, trained and saved.

Found by the registry: whatever is new, and some that differ in how they are put together; the
lightest of the other families are marked slow.
"""

import keras
import numpy as np
import pytest

from convscope.models.backbones import BACKBONES, Backbone
from convscope.models.preprocessing import preprocessing_layers
from convscope.models.transfer import END, TransferModel, build_transfer
from convscope.recipe import HeadSettings
from convscope.types import InputSpec

# In every run are layers in a row, depthwise blocks with sums and gates, and normalisation of each
# place for itself. Branches and sums are cut in test_backbones too; of two networks side by side
# there is a file in test_efficientnet_lite_pair.
LIKE_OTHERS = {
    *("densenet121", "efficientnet_b0", "efficientnet_lite1_2", "efficientnet_v2_b0"),
    *("inception_resnet_v2", "inception_v3", "mobilenet", "mobilenet_v2", "nasnet_mobile"),
    *("resnet50", "resnet50_v2", "xception"),
}
N_IMAGES, N_CLASSES = 4, 3
HEAD = HeadSettings(standardise=True, dropout=0.2)


def lightest() -> list[object]:
    families: dict[str, list[Backbone]] = {}
    for entry in BACKBONES.entries():
        families.setdefault(entry.value.family, []).append(entry.value)
    chosen = [min(group, key=lambda b: b.n_params) for group in families.values()]
    return [
        pytest.param(b, id=b.name, marks=pytest.mark.slow if b.name in LIKE_OTHERS else ())
        for b in chosen
    ]


def random_images(side: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (N_IMAGES, side, side, 3), dtype=np.uint8)


@pytest.fixture(scope="module", params=lightest())
def network(request) -> TransferModel:
    """A classifier whose random trunk lets images through: its statistics fit them."""
    backbone = request.param
    keras.utils.set_random_seed(83)
    side = backbone.smallest_size
    spec = InputSpec(side, side, 3, backbone.scaling)
    network = build_transfer(backbone.name, spec, N_CLASSES, HEAD)
    before = {}
    for layer in network.trunk.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            before[layer.name] = (layer.momentum, layer.trainable)
            layer.momentum, layer.trainable = 0.0, True
    scaled = random_images(side)
    for layer in preprocessing_layers(spec):
        scaled = layer(scaled)
    network.trunk(scaled, training=True)
    for layer in network.trunk.layers:
        if layer.name in before:
            layer.momentum, layer.trainable = before[layer.name]
    return network


@pytest.fixture(scope="module")
def images(network) -> np.ndarray:
    return random_images(network.backbone.smallest_size)


@pytest.fixture(scope="module")
def features(network, images) -> np.ndarray:
    return answers(network.lower(END), images)


def answers(model, inputs) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(inputs))


def test_frozen_only_the_head_learns_and_statistics_are_still(network, images):
    trainable = {weight.path for weight in network.whole.trainable_weights}
    assert trainable == {"probs/kernel", "probs/bias"}
    norms = [isinstance(each, keras.layers.BatchNormalization) for each in network.trunk.layers]
    if not any(norms):
        return  # Nothing but what is trainable could change.
    before = network.whole.get_weights()
    network.whole.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    # To trace the whole graph for one step would take longer.
    network.whole.run_eagerly = True
    network.whole.fit(images, np.arange(N_IMAGES) % N_CLASSES, batch_size=N_IMAGES, verbose=0)
    for weight, old in zip(network.whole.weights, before, strict=True):
        same = np.array_equal(keras.ops.convert_to_numpy(weight), old)
        assert same == (weight.path not in trainable), weight.path


def test_at_each_stage_the_two_parts_are_the_whole(network, images, features):
    whole = answers(network.whole, images)
    np.testing.assert_allclose(answers(network.head, features), whole, atol=1e-5)
    scale = np.abs(features).max()
    assert scale > 0
    for stage in list(network.backbone.stages)[:-1]:
        activations = answers(network.lower(stage), images)
        assert np.isfinite(activations).all()
        found = answers(network.between(stage), activations)
        np.testing.assert_allclose(found / scale, features / scale, atol=1e-4, err_msg=stage)
    assert set(network.stage_of().values()) == set(range(1, len(network.backbone.stages) + 1))


def test_saved_and_loaded_it_says_the_same(network, images, tmp_path):
    path = tmp_path / "model.keras"
    network.whole.save(path, include_optimizer=False)
    again = keras.saving.load_model(path, compile=False)
    assert again.count_params() == network.whole.count_params()
    np.testing.assert_allclose(answers(again, images), answers(network.whole, images), atol=1e-5)


def test_features_tell_images_apart(features):
    # Else the checks above would compare constants.
    assert np.ptp(features, axis=0).max() > 1e-3 * np.abs(features).max()
