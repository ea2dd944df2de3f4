import dataclasses
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import tiny
from convscope.errors import ConfigError, UnknownNameError
from convscope.models.backbones import BACKBONES
from convscope.models.folding import fold_batch_norm
from convscope.models.head import (
    Block,
    build_head,
    feature_statistics,
    set_statistics,
    standardised,
    weighed,
)
from convscope.models.saving import PortableModel
from convscope.models.transfer import END, START, TransferModel, build_transfer
from convscope.recipe import HeadSettings
from convscope.recipes import RECIPES
from convscope.types import InputSpec

pytestmark = pytest.mark.usefixtures("tiny_backbone")

SPEC = InputSpec(64, 64, 3, "tf")
HEAD = HeadSettings(standardise=True, hidden=(16,), dropout=0.3)
N_CLASSES = 4
IMAGES = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
LABELS = np.arange(6) % N_CLASSES


_TRUNKS: dict[tuple, list[np.ndarray]] = {}


def untrained(cut=END, name="mobilenet_v2", spec=SPEC, head=HEAD, **options) -> TransferModel:
    """A classifier that tells images apart: random weights, with statistics that fit them."""
    keras.utils.set_random_seed(83)
    network = build_transfer(name, spec, N_CLASSES, head, cut=cut, **options)
    key = (name, spec.height)
    if key not in _TRUNKS:
        _TRUNKS[key] = calibrated(BACKBONES.get(name), spec.height)
    network.trunk.set_weights(_TRUNKS[key])
    rng = np.random.default_rng(1)
    features = np.prod(network.head.input_shape[1:])
    network.standardise(rng.normal(0, 0.1, features), rng.uniform(0.5, 2, features))
    return network


def calibrated(backbone, side) -> list[np.ndarray]:
    keras.utils.set_random_seed(1)
    trunk = backbone.build((side, side, 3))
    for layer in trunk.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    images = np.random.default_rng(1).uniform(-1, 1, (8, side, side, 3))
    trunk(images.astype("float32"), training=True)
    return trunk.get_weights()


@pytest.fixture(scope="module")
def network() -> TransferModel:
    return untrained()


def answers(model, inputs=IMAGES) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(inputs))


@pytest.mark.parametrize(
    ("cut", "name"),
    [
        *((f"stage{number}", "tiny") for number in (1, 2, 3, 4)),
        *((cut, "mobilenet_v2") for cut in (START, "block_6_expand", END)),
        pytest.param("block_9_add", "mobilenet_v2", marks=pytest.mark.slow),
    ],
)
def test_the_whole_is_its_two_parts(cut, name):
    network = untrained(cut, name)
    whole = answers(network.whole)
    assert whole.shape == (6, N_CLASSES)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(whole.sum(axis=1), 1, atol=1e-6)
    assert np.ptp(whole, axis=0).max() > 1e-3
    if cut == START:
        assert network.upper() is network.whole
    else:
        activations = answers(network.lower())
        np.testing.assert_allclose(answers(network.upper(), activations), whole, atol=1e-5)
        if cut == END:
            assert network.upper() is network.head
            assert activations.shape == (6, 1280)
        else:
            features = answers(network.between(cut), activations)
            np.testing.assert_allclose(features, answers(network.lower(END)), atol=1e-4)
            np.testing.assert_allclose(answers(network.head, features), whole, atol=1e-5)


def test_the_parts_share_their_weights_with_the_whole():
    network = untrained("stage4", "tiny")
    ids = {id(weight) for weight in network.whole.weights}
    for part in (network.lower(), network.between("stage4"), network.upper(), network.head):
        assert {id(weight) for weight in part.weights} <= ids
    lower, upper = ({id(w) for w in part.weights} for part in (network.lower(), network.upper()))
    assert lower | upper == ids
    assert not lower & upper


def test_the_whole_does_what_the_backbone_of_keras_does(network):
    trunk = keras.applications.MobileNetV2(
        include_top=False, weights=None, input_shape=(64, 64, 3), pooling="avg"
    )
    trunk.set_weights(network.trunk.get_weights())
    prepared = keras.applications.mobilenet_v2.preprocess_input(IMAGES.astype("float32"))
    np.testing.assert_allclose(answers(network.lower()), answers(trunk, prepared), atol=1e-4)


def test_flattened_features_are_all_values_of_the_last_map():
    network = untrained(name="tiny", head=HeadSettings(pooling="flatten"))
    assert network.map_shape == (2, 2, 32)
    assert network.head.input_shape == (None, 128)
    np.testing.assert_allclose(
        answers(network.head, answers(network.lower())), answers(network.whole), atol=1e-5
    )


# What learns.


def learn(model, inputs):
    # To compile it, or to trace it, would take longer than to run it.
    optimizer = keras.optimizers.Adam(0.01)
    model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=False)
    model.run_eagerly = True
    model.fit(inputs, LABELS, batch_size=3, verbose=0)


def changed(network, before) -> set[str]:
    pairs = zip(network.whole.weights, before, strict=True)
    return {w.path for w, old in pairs if not np.array_equal(keras.ops.convert_to_numpy(w), old)}


@pytest.mark.parametrize("name", ["tiny", pytest.param("mobilenet_v2", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("cut", "what"),
    [
        (END, "upper"),
        ("stage2", "whole"),
        *(
            pytest.param(cut, what, marks=pytest.mark.slow)
            for cut, what in ((END, "whole"), ("stage4", "upper"), (START, "upper"))
        ),
    ],
)
def test_only_what_lies_behind_the_cut_learns_and_statistics_stay(cut, what, name):
    network = untrained(cut, name)
    before = network.whole.get_weights()
    if what == "whole" or cut == START:
        learn(network.whole, IMAGES)
    else:
        learn(network.upper(), answers(network.lower()))
    moved = changed(network, before)
    heads = {"dense1/kernel", "dense1/bias", "probs/kernel", "probs/bias"}
    assert heads <= moved
    if cut == END:
        assert moved == heads
        return
    graph = {layer.name: index for index, layer in enumerate(network.trunk.layers)}
    first = -1 if cut == START else graph[network.backbone.stages[cut]]
    expected = set()
    for layer in network.trunk.layers:
        still = isinstance(layer, keras.layers.BatchNormalization)
        if graph[layer.name] > first and not still:
            expected |= {weight.path for weight in layer.weights}
    # In the order of the layers, all that comes after the cut in this chain of blocks.
    assert moved == heads | expected
    assert {w.path for w in network.whole.trainable_weights} == moved


def test_the_statistics_of_the_trunk_would_move_if_they_were_not_held():
    # The check above could not fail otherwise.
    network = untrained("stage4", "tiny")
    for layer in network.trunk.layers:
        layer.trainable = True
    before = network.whole.get_weights()
    learn(network.upper(), answers(network.lower()))
    assert any(path.endswith("moving_mean") for path in changed(network, before))


def test_a_bfloat16_trunk_has_float32_weights_and_gives_nearly_the_same(network):
    exact, coarse = network, untrained(precision="bfloat16")
    assert keras.config.dtype_policy().name == "float32"
    assert {str(w.dtype) for w in coarse.whole.weights} == {"float32"}
    assert coarse.trunk.layers[1].compute_dtype == "bfloat16"
    assert coarse.whole.output.dtype == "float32"
    for mine, theirs in zip(exact.whole.get_weights(), coarse.whole.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    mine, theirs = (answers(each.lower()).astype("float32") for each in (exact, coarse))
    # Correlation between the images' features, image by image.
    alike = np.corrcoef(mine, theirs)[:6, 6:]
    assert min(alike.diagonal()) > 0.9
    assert alike[~np.eye(6, dtype=bool)].max() < 0.5


# Images.


def test_grey_images_are_seen_as_colour_ones_of_equal_channels(network):
    grey = untrained(spec=InputSpec(64, 64, 1, "tf"))
    pixels = IMAGES[..., :1]
    np.testing.assert_allclose(
        answers(grey.whole, pixels),
        answers(network.whole, np.repeat(pixels, 3, axis=-1)),
        atol=1e-6,
    )


def test_grey_images_get_the_scaling_of_each_channel():
    grey = untrained(name="vgg16", spec=InputSpec(32, 32, 1, "caffe"))
    pixels = IMAGES[:2, :32, :32, :1]
    x = pixels.astype("float32")
    expected = keras.applications.vgg16.preprocess_input(np.repeat(x, 3, axis=-1))
    lower = grey.lower("stage1")
    first = keras.Model(
        grey.trunk.input, grey.trunk.get_layer(grey.backbone.stages["stage1"]).output
    )
    np.testing.assert_allclose(answers(lower, pixels), answers(first, expected), atol=1e-3)


def test_too_small_images_are_one_line():
    with pytest.raises(
        ConfigError, match=r"31x64 is too small for mobilenet_v2.*--image-size 96"
    ) as e:
        TransferModel("mobilenet_v2", InputSpec(31, 64, 3, "tf"), 4, HEAD)
    assert "\n" not in str(e.value)


def test_one_class_is_too_few():
    with pytest.raises(ConfigError, match="at least 2 classes, not 1"):
        TransferModel("mobilenet_v2", SPEC, 1, HEAD)


def test_an_unknown_backbone_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'mobilenet_v2'"):
        TransferModel("mobilenet-v2", SPEC, 4, HEAD)


@pytest.mark.parametrize(
    ("cut", "name"),
    [
        *((cut, "tiny") for cut in ("stage9", "last", "")),
        # Inside a residual block data also flows past the layer.
        ("block_4_expand", "mobilenet_v2"),
        pytest.param("block_12_depthwise", "mobilenet_v2", marks=pytest.mark.slow),
    ],
)
def test_what_is_no_cut_is_refused_in_one_line_that_names_the_stages(cut, name):
    with pytest.raises(ConfigError) as caught:
        TransferModel(name, SPEC, 4, HEAD, cut).upper()
    assert str(caught.value) == (
        f"{name} cannot be cut at '{cut}'; choose one of: start, stage1, stage2, stage3, "
        "stage4, before-last, end, or a layer that all data passes through"
    )


@pytest.mark.parametrize("part", ["lower", "between"])
def test_the_parts_refuse_it_too(network, part):
    with pytest.raises(ConfigError, match="cannot be cut at 'stage9'"):
        getattr(network, part)("stage9")


# Sizes.


@pytest.mark.parametrize(
    ("name", "total", "trainable"),
    [
        ("vgg16", 14_789_258, 74_570),
        ("mobilenet_v2", 2_430_858, 172_874),
        ("resnet50_v2", 23_835_978, 271_178),
    ],
)
def test_the_tutorials_models_have_its_number_of_parameters(name, total, trainable):
    recipe = RECIPES.get("tutorial-transfer")()
    spec = InputSpec(recipe.image_size, recipe.image_size, 3, recipe.backbone.scaling)
    whole = TransferModel(name, spec, 10, recipe.head, recipe.backbone.cut).whole
    assert whole.count_params() == total
    assert sum(int(np.prod(w.shape)) for w in whole.trainable_weights) == trainable


def test_depths_count_the_stages_from_the_head(network):
    depth = network.stage_of()
    assert set(depth) == {weight.path for weight in network.trunk.weights}
    assert set(depth.values()) == {1, 2, 3, 4, 5}
    order = [layer.name for layer in network.trunk.layers]
    ends = [order.index(layer) for layer in network.backbone.stages.values()]
    for index, layer in enumerate(network.trunk.layers):
        expected = 5 - sum(index > end for end in ends)
        for weight in layer.weights:
            assert depth[weight.path] == expected, weight.path


# Heads.


@pytest.mark.parametrize(
    ("settings", "layers"),
    [
        ({}, ["probs"]),
        ({"dropout": 0.5}, ["dropout1", "probs"]),
        ({"standardise": True}, ["standardise", "probs"]),
        (
            {"standardise": True, "hidden": (8, 4), "dropout": 0.5},
            ["standardise", "dropout1", "dense1", "dropout2", "dense2", "dropout3", "probs"],
        ),
    ],
)
def test_a_head_is_what_its_settings_say(settings, layers):
    statistics = np.zeros(5, "float32"), np.ones(5, "float32")
    head = build_head((5,), HeadSettings(**settings), 3, statistics)
    assert [layer.name for layer in head.layers[1:]] == layers
    assert head.output_shape == (None, 3)


def test_standardised_features_have_mean_0_and_spread_1_and_stay_so():
    features = np.random.default_rng(0).normal(5, [[1, 10, 0.1]], (500, 3)).astype("float32")
    head = build_head((3,), HeadSettings(standardise=True), 2, feature_statistics(features))
    seen = keras.Model(head.input, head.get_layer("standardise").output)
    for _ in range(2):
        found = answers(seen, features)
        np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-3)
        np.testing.assert_allclose(found.std(axis=0), 1, atol=1e-3)
        # Even when it learns from batches of another kind.
        head.compile("sgd", "sparse_categorical_crossentropy")
        head.fit(features[:32] + 9, np.arange(32) % 2, verbose=0)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_statistics_are_those_of_numpy(tmp_path, dtype):
    features = np.random.default_rng(0).normal(100, [[1, 2, 0.5, 3]], (10_000, 4)).astype(dtype)
    np.save(tmp_path / "features.npy", features)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    mean, variance = feature_statistics(mapped)
    assert mean.dtype == variance.dtype == np.float32
    np.testing.assert_allclose(mean, features.mean(axis=0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(variance, features.var(axis=0, dtype=np.float64), rtol=1e-5)


def test_a_feature_that_never_varies_is_not_blown_up():
    features = np.random.default_rng(0).normal(0, 1, (100, 3)).astype("float32")
    features[:, 1] = 7
    _, variance = feature_statistics(features)
    assert 5e-5 < variance[1] < 2e-4
    _, variance = feature_statistics(np.full((10, 2), 3, "float32"))
    assert np.isfinite(variance).all()
    assert (variance > 0).all()


@pytest.fixture
def branching():
    """The name of a tiny backbone that drops a whole branch in training, as EfficientNet does."""

    def build(shape):
        trunk = tiny.build(shape)
        branch = keras.layers.Dropout(0.5, noise_shape=(None, 1, 1, 1), name="drop")(trunk.output)
        total = keras.layers.Add(name="add")([trunk.output, branch])
        return keras.Model(trunk.input, total)

    plain = BACKBONES.get("tiny")
    stages = {**plain.stages, "stage5": "add"}
    BACKBONES.register("branching")(
        dataclasses.replace(plain, name="branching", build=build, stages=stages)
    )
    yield
    del BACKBONES._entries["branching"]


@pytest.mark.parametrize(
    "name", ["branching", pytest.param("efficientnet_b0", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("cut", [START, "stage2", END])
def test_branches_are_dropped_in_training_and_a_plain_call_is_none_even_after_reloading(
    branching, tmp_path, name, cut
):
    spec = InputSpec(32, 32, 3, BACKBONES.get(name).scaling)
    network = untrained(cut, name, spec, HeadSettings())
    pixels = IMAGES[:, :32, :32]
    expected = network.whole.predict_on_batch(pixels)
    network.whole.save(tmp_path / "whole.keras")
    for model in (network.whole, keras.saving.load_model(tmp_path / "whole.keras")):
        np.testing.assert_allclose(answers(model, pixels), expected, atol=1e-5)
    features = answers(network.lower(END), pixels)
    np.testing.assert_allclose(answers(network.head, features), expected, atol=1e-5)
    trained = keras.ops.convert_to_numpy(network.whole(pixels, training=True))
    assert np.abs(trained - expected).max() > 1e-3


# Saving.

RELOAD = """
import sys
import keras
import numpy as np

folder, *names = sys.argv[1:]
inputs = dict(np.load(f"{folder}/inputs.npz"))
answers = {}
for name in names:
    model = keras.saving.load_model(f"{folder}/{name}.keras")
    assert {str(w.dtype) for w in model.weights} == {"float32"}
    for size, x in inputs.items():
        channels = model.inputs[0].shape[-1]
        answers[f"{name} {size}"] = keras.ops.convert_to_numpy(model(x[..., :channels]))
np.savez(f"{folder}/answers.npz", **answers)
assert not [module for module in sys.modules if module.startswith("convscope")]
"""


MADE = {
    "end": ("tiny", SPEC, END, "float32"),
    "stage": ("mobilenet_v2", SPEC, "stage4", "bfloat16"),
    "grey": ("tiny", InputSpec(32, 32, 1, "torch"), START, "float32"),
    "caffe": ("vgg16", InputSpec(32, 32, 3, "caffe"), "stage3", "float32"),
}


@pytest.mark.parametrize(
    "kinds", [("end", "grey"), pytest.param(("stage", "caffe"), marks=pytest.mark.slow)]
)
def test_a_saved_classifier_opens_with_keras_alone_and_gives_the_same_answers(tmp_path, kinds):
    sizes = {"same": (64, 64), "smaller": (20, 31), "larger": (90, 70)}
    rng = np.random.default_rng(0)
    inputs = {k: rng.integers(0, 256, (3, *s, 3), dtype="uint8") for k, s in sizes.items()}
    np.savez(tmp_path / "inputs.npz", **inputs)
    made = {kind: MADE[kind] for kind in kinds}
    expected = {}
    for key, (name, spec, cut, precision) in made.items():
        trained = untrained(cut, name, spec, precision=precision)
        if cut == END:
            learn(trained.upper(), answers(trained.lower()))

        def twin(name=name, spec=spec, cut=cut, trained=trained):
            keras.utils.set_random_seed(9)
            network = TransferModel(name, spec, N_CLASSES, HEAD, cut)
            network.trunk.set_weights(trained.trunk.get_weights())
            return network.upper(), network.whole

        portable = PortableModel(twin)
        portable.save(trained.upper().get_weights(), tmp_path / f"{key}.keras")
        for size, x in inputs.items():
            pixels = x[..., : spec.channels]
            expected[f"{key} {size}"] = answers(portable.model, pixels)
            if precision == "float32":
                np.testing.assert_allclose(
                    answers(trained.whole, pixels), expected[f"{key} {size}"], atol=1e-5
                )
    environment = {**os.environ, "KERAS_BACKEND": keras.backend.backend()}
    command = [sys.executable, "-c", RELOAD, str(tmp_path), *made]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "answers.npz")
    assert set(found) == set(expected)
    for key, value in expected.items():
        # The file resizes by other operations; rounding grows in a trunk with random weights.
        np.testing.assert_allclose(found[key], value, atol=1e-4, err_msg=key)


def test_pieces_that_were_made_before_do_not_get_into_the_file(tmp_path):
    network = untrained("stage4", "tiny")
    network.upper(), network.lower(), network.between("stage4"), network.stage_of()
    before = answers(network.whole)
    network.whole.save(tmp_path / "whole.keras")
    again = keras.saving.load_model(tmp_path / "whole.keras")
    assert again.count_params() == network.whole.count_params()
    np.testing.assert_allclose(answers(again), before, atol=1e-6)


def test_backbones_of_these_tests_are_registered():
    assert {"mobilenet_v2", "vgg16", "resnet50_v2"} <= set(BACKBONES.names())


STAGES = HeadSettings(pooling="stages", standardise=True)


@pytest.mark.parametrize(
    ("cut", "name"),
    [(END, "tiny"), ("before-last", "tiny"), ("block_13_expand", "mobilenet_v2")],
)
def test_of_all_stages_there_are_means_and_deviations_and_of_the_last_map_means(cut, name):
    network = untrained(cut, name, head=STAGES)
    names = list(network.backbone.pooled or network.backbone.stages.values())
    maps = keras.Model(network.trunk.input, [network.trunk.get_layer(n).output for n in names])
    scaled = IMAGES.astype(np.float32) / 127.5 - 1
    *earlier, last = (np.asarray(each) for each in maps(scaled))
    expected = [each.mean(axis=(1, 2)) for each in earlier]
    expected += [np.sqrt(each.var(axis=(1, 2)) + 1e-6) for each in earlier]
    expected.append(last.mean(axis=(1, 2)))
    features = network.lower()(IMAGES)
    if cut != END:
        # What lies before the cut is pooled there, and packed with the activations.
        whole = answers(network.whole)
        np.testing.assert_allclose(answers(network.upper(), features), whole, atol=1e-5)
        features = fold_batch_norm(network.between(network.cut))(features)
        np.testing.assert_allclose(answers(network.head, features), whole, atol=1e-5)
    np.testing.assert_allclose(features, np.concatenate(expected, axis=1), rtol=2e-3, atol=2e-4)
    assert network.blocks == [Block(0, features.shape[1], last.shape[-1])]
    assert untrained(name=name).blocks == [Block(0, last.shape[-1])]


def test_maps_without_variation_do_not_break_training():
    network = untrained("stage2", "tiny", head=STAGES)
    upper = network.upper()
    upper.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy")
    flat = np.zeros((6, *upper.input_shape[1:]), np.float32)
    upper.train_on_batch(flat, LABELS)
    assert all(np.isfinite(weight).all() for weight in upper.get_weights())


def test_features_that_are_weighed_keep_their_mean_and_become_that_many_times_as_large():
    features = np.random.default_rng(0).normal(3, 2, (50, 8)).astype(np.float32)
    statistics = feature_statistics(features)
    plain = standardised(features, statistics)
    double = standardised(features, weighed(statistics, [Block(0, 8, 3)], 2.0))
    np.testing.assert_array_equal(double[:, :5], plain[:, :5])
    np.testing.assert_allclose(double[:, 5:], 2 * plain[:, 5:], rtol=1e-6)
    # A head is given the same.
    head = build_head((8,), STAGES, N_CLASSES, statistics)
    set_statistics(head, weighed(statistics, [Block(0, 8, 3)], 2.0))
    inside = head.get_layer("standardise")(features, training=False)
    np.testing.assert_allclose(inside, double, rtol=1e-5, atol=1e-6)
    # Nothing to weigh: as they were.
    np.testing.assert_array_equal(weighed(statistics, [Block(0, 8)], 2.0)[1], statistics[1])
