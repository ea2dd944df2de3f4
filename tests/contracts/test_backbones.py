"""What every registered backbone keeps, found by the registry and checked against Keras itself.

One of each structure is built in every run, and whatever is new; the others are marked slow.
"""

import dataclasses
import math
import re

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.applications import imagenet_utils
from keras.src.legacy.saving import legacy_h5_format
from keras.src.utils import file_utils

from convscope.models.backbones import BACKBONES, SIZES, Backbone
from convscope.models.geometry import geometry
from convscope.models.preprocessing import SCALINGS, preprocessing_layers
from convscope.models.weights import find_weights, load_weights
from convscope.progress import Progress
from convscope.types import InputSpec

# Name: (module in keras.applications, class there, parameters without the classifier).
KERAS = {
    "convnext_base": ("convnext", "ConvNeXtBase", 87_566_464),
    "convnext_large": ("convnext", "ConvNeXtLarge", 196_230_336),
    "convnext_small": ("convnext", "ConvNeXtSmall", 49_454_688),
    "convnext_tiny": ("convnext", "ConvNeXtTiny", 27_820_128),
    "convnext_xlarge": ("convnext", "ConvNeXtXLarge", 348_147_968),
    "densenet121": ("densenet", "DenseNet121", 7_037_504),
    "densenet169": ("densenet", "DenseNet169", 12_642_880),
    "densenet201": ("densenet", "DenseNet201", 18_321_984),
    "efficientnet_b0": ("efficientnet", "EfficientNetB0", 4_049_571),
    "efficientnet_b1": ("efficientnet", "EfficientNetB1", 6_575_239),
    "efficientnet_b2": ("efficientnet", "EfficientNetB2", 7_768_569),
    "efficientnet_b3": ("efficientnet", "EfficientNetB3", 10_783_535),
    "efficientnet_b4": ("efficientnet", "EfficientNetB4", 17_673_823),
    "efficientnet_b5": ("efficientnet", "EfficientNetB5", 28_513_527),
    "efficientnet_b6": ("efficientnet", "EfficientNetB6", 40_960_143),
    "efficientnet_b7": ("efficientnet", "EfficientNetB7", 64_097_687),
    "efficientnet_v2_b0": ("efficientnet_v2", "EfficientNetV2B0", 5_919_312),
    "efficientnet_v2_b1": ("efficientnet_v2", "EfficientNetV2B1", 6_931_124),
    "efficientnet_v2_b2": ("efficientnet_v2", "EfficientNetV2B2", 8_769_374),
    "efficientnet_v2_b3": ("efficientnet_v2", "EfficientNetV2B3", 12_930_622),
    "efficientnet_v2_l": ("efficientnet_v2", "EfficientNetV2L", 117_746_848),
    "efficientnet_v2_m": ("efficientnet_v2", "EfficientNetV2M", 53_150_388),
    "efficientnet_v2_s": ("efficientnet_v2", "EfficientNetV2S", 20_331_360),
    "inception_resnet_v2": ("inception_resnet_v2", "InceptionResNetV2", 54_336_736),
    "inception_v3": ("inception_v3", "InceptionV3", 21_802_784),
    "mobilenet": ("mobilenet", "MobileNet", 3_228_864),
    "mobilenet_v2": ("mobilenet_v2", "MobileNetV2", 2_257_984),
    "mobilenet_v3_large": ("mobilenet_v3", "MobileNetV3Large", 2_996_352),
    "mobilenet_v3_small": ("mobilenet_v3", "MobileNetV3Small", 939_120),
    "nasnet_large": ("nasnet", "NASNetLarge", 84_916_818),
    "nasnet_mobile": ("nasnet", "NASNetMobile", 4_269_716),
    "resnet101": ("resnet", "ResNet101", 42_658_176),
    "resnet101_v2": ("resnet_v2", "ResNet101V2", 42_626_560),
    "resnet152": ("resnet", "ResNet152", 58_370_944),
    "resnet152_v2": ("resnet_v2", "ResNet152V2", 58_331_648),
    "resnet50": ("resnet", "ResNet50", 23_587_712),
    "resnet50_v2": ("resnet_v2", "ResNet50V2", 23_564_800),
    "vgg16": ("vgg16", "VGG16", 14_714_688),
    "vgg19": ("vgg19", "VGG19", 20_024_384),
    "xception": ("xception", "Xception", 20_861_480),
}
# Name: parameters without the classifier, of those that Keras has not.
OTHERS = {
    "efficientnet_lite0": 3_413_024,
    "efficientnet_lite1": 4_189_344,
    "efficientnet_lite2": 4_869_168,
    "efficientnet_lite1_2": 4_189_344 + 4_869_168,
}
N_PARAMS = {name: facts[2] for name, facts in KERAS.items()} | OTHERS
# Keras checks no hash of these.
WITHOUT_HASH = {"mobilenet", "mobilenet_v2"}
# One of each structure: layers in a row; sums of what came before and after them; depthwise blocks
# with gates; branches put side by side; normalisation of each place for itself; one of ours. Two of
# these side by side are built in tests/unit/models/test_efficientnet_lite_pair.py.
STAND_INS = {
    "vgg16",
    "resnet50_v2",
    "mobilenet_v3_small",
    "inception_v3",
    "convnext_tiny",
    "efficientnet_lite0",
}


def lightest(registered: list[Backbone]) -> list[Backbone]:
    families: dict[str, list[Backbone]] = {}
    for backbone in registered:
        families.setdefault(backbone.family, []).append(backbone)
    return [min(group, key=lambda b: b.n_params) for group in families.values()]


def variants(registered: list[Backbone]) -> list[object]:
    return [
        pytest.param(
            b, id=b.name, marks=pytest.mark.slow if b.name in N_PARAMS.keys() - STAND_INS else ()
        )
        for b in registered
    ]


ALL = [entry.value for entry in BACKBONES.entries()]
ANY = pytest.mark.parametrize("backbone", ALL, ids=lambda backbone: backbone.name)
BUILT = pytest.mark.parametrize("backbone", variants(ALL))
KERAS_OWN = pytest.mark.parametrize("backbone", variants([b for b in ALL if b.name in KERAS]))


def square(side: int) -> tuple[int, int, int]:
    return (side, side, 3)


@pytest.fixture
def mixed_precision():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(before)


def test_every_classifier_of_keras_applications_is_there():
    # Functions that build a network have upper-case names; the modules beside them do not.
    theirs = {name for name in dir(keras.applications) if name[0].isupper()}
    assert {builder for _, builder, _ in KERAS.values()} == theirs
    assert BACKBONES.names() == sorted(N_PARAMS)


@ANY
def test_its_facts_are_there(backbone):
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", backbone.name)
    assert 2 < len(backbone.family) < 25
    assert re.search(r", (ICLR|CVPR|ECCV|ICCV|ICML|AAAI|arXiv [\d.]+,) ?\d{4}$", backbone.paper)
    assert backbone.summary.startswith(backbone.family)
    assert backbone.scaling in SCALINGS
    assert 32 <= backbone.smallest_size <= backbone.sensible_size < backbone.native_size <= 600
    assert 0.65 < backbone.top1 < 0.9
    assert backbone.top1_source
    assert backbone.stages
    assert len(set(backbone.stages.values())) == len(backbone.stages)


@ANY
def test_its_weights_are_a_published_file(backbone):
    weights = backbone.weights
    if backbone.parts:
        assert weights.package.split() == [part.weights.package for part in backbone.parts]
        assert {part.name for part in backbone.parts} <= set(OTHERS)
        return
    if backbone.name in OTHERS:
        assert re.fullmatch(r"[a-z0-9.-]+\.pth", weights.name)
        assert weights.package.startswith("efficientnet-lite")
        assert re.fullmatch(r"sha256:[0-9a-f]{64}", weights.digest)
        return
    assert re.fullmatch(r"[a-z0-9_.-]*no_?top(_v2)?\.h5", weights.name)
    assert weights.url.startswith("https://storage.googleapis.com/")
    if backbone.name in WITHOUT_HASH:
        assert weights.digest is None
    else:
        assert re.fullmatch(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", weights.digest)


@ANY
def test_scales_pixels_as_its_family_does(backbone):
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype="uint8")
    x = images
    for layer in preprocessing_layers(InputSpec(8, 8, 3, backbone.scaling)):
        x = layer(x)
    expected = (images.astype("float32") - 127) / 128  # EfficientNet-Lite's
    if backbone.name in KERAS:
        module = getattr(keras.applications, KERAS[backbone.name][0])
        expected = module.preprocess_input(images.astype("float32"))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(x), expected, rtol=1e-5, atol=1e-5)


# Keras asks their sizes whether branches have to be brought together while it builds them.
OF_ONE_SIZE = {"nasnet_large", "nasnet_mobile"}


def multiply_adds(trunk: keras.Model, side: int) -> int:
    return sum(layer.multiply_adds for layer in geometry(trunk, square(side)))


def dots(trunk: keras.Model, side: int) -> int:
    """Count as TensorFlow sees it: output values times the weights that each is made of."""

    @tf.function
    def predict(images):
        return trunk(images, training=False)

    graph = predict.get_concrete_function(tf.TensorSpec((1, *square(side)))).graph
    total = 0
    for operation in graph.get_operations():
        if operation.type in ("Conv2D", "DepthwiseConv2dNative"):
            rows, columns, channels, _ = operation.inputs[1].shape
            each = rows * columns * (channels if operation.type == "Conv2D" else 1)
            total += math.prod(operation.outputs[0].shape) * each
    return total


@BUILT
def test_its_multiply_adds_are_those_of_the_network(backbone):
    sides = [side for side in SIZES if side >= backbone.smallest_size]
    assert list(backbone.multiply_adds) == sides
    if backbone.name not in OF_ONE_SIZE:
        trunk = backbone.build((None, None, 3))
        counts = {side: multiply_adds(trunk, side) for side in sides}
        assert counts == backbone.multiply_adds


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(OF_ONE_SIZE))
@pytest.mark.parametrize("side", SIZES[1:])
def test_multiply_adds_of_those_that_are_built_for_one_size(name, side):
    backbone = BACKBONES.get(name)
    assert multiply_adds(backbone.build(square(side)), side) == backbone.multiply_adds[side]


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="counts in TensorFlow's graph")
@pytest.mark.parametrize(
    "name",
    ["mobilenet", *(pytest.param(n, marks=pytest.mark.slow) for n in ("xception", "resnet50"))],
)
def test_multiply_adds_are_those_of_the_compiled_graph(name):
    """Counted without `geometry`: depthwise, separable and plain convolutions."""
    backbone = BACKBONES.get(name)
    assert dots(backbone.build(square(96)), 96) == backbone.multiply_adds[96]


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        # As published for 224 pixels with the classifier of 1,000 classes, which is added here.
        ("mobilenet", 0.569),  # Howard et al. 2017, table 4
        ("mobilenet_v2", 0.300),  # Sandler et al. 2018, table 4
        ("efficientnet_b0", 0.39),  # Tan and Le 2019, table 2
        ("resnet50", 3.8),  # He et al. 2016, table 1
        ("resnet101", 7.6),
        ("resnet152", 11.3),
        ("nasnet_mobile", 0.564),  # Zoph et al. 2018, table 3
        ("convnext_tiny", 4.5),  # Liu et al. 2022, table 1
        ("convnext_xlarge", 60.9),
    ],
)
def test_multiply_adds_are_the_published_ones(name, billions):
    backbone = BACKBONES.get(name)
    whole = backbone.multiply_adds[224] + 1000 * backbone.n_features
    assert whole / 1e9 == pytest.approx(billions, rel=0.02)


class CaughtError(Exception):
    pass


@KERAS_OWN
def test_keras_has_the_same_weights_and_sizes(backbone, monkeypatch):
    """What Keras would download, caught before it does."""
    seen = {}

    def get_file(name, url, *, cache_subdir, file_hash=None, **_):
        seen.update(name=name, url=url, hash=file_hash, folder=cache_subdir)
        raise CaughtError

    def obtain_input_shape(input_shape, default_size, min_size, **arguments):
        seen.update(native_size=default_size, smallest_size=min_size)
        return plain(input_shape, default_size, min_size, **arguments)

    plain = imagenet_utils.obtain_input_shape
    monkeypatch.setattr(file_utils, "get_file", get_file)
    monkeypatch.setattr(imagenet_utils, "obtain_input_shape", obtain_input_shape)
    builder = getattr(keras.applications, KERAS[backbone.name][1])
    with pytest.raises(CaughtError):
        builder(weights="imagenet", include_top=False, input_shape=square(224))
    assert seen["folder"] == "models"
    assert (seen["name"], seen["url"]) == (backbone.weights.name, backbone.weights.url)
    # Keras tells the algorithm by the hash's length.
    told = {0: "", 32: "md5:", 64: "sha256:"}[len(seen["hash"] or "")] + (seen["hash"] or "")
    assert told == (backbone.weights.digest or "")
    if "MobileNetV3" not in backbone.family:  # which checks its size in another way
        assert seen["native_size"] == backbone.native_size
        assert seen["smallest_size"] == backbone.smallest_size


@BUILT
def test_builds_at_its_smallest_size_and_not_below(backbone):
    with pytest.raises(ValueError, match="size must be at least"):
        backbone.build(square(backbone.smallest_size - 1))
    trunk = backbone.build(square(backbone.smallest_size))
    assert trunk.count_params() == N_PARAMS[backbone.name] == backbone.n_params
    assert trunk.output_shape[-1] == backbone.n_features
    assert len(trunk.output_shape) == 4
    # Built for one size it costs what it does when it is built for any.
    side = backbone.smallest_size
    assert backbone.multiply_adds.get(side) in (None, multiply_adds(trunk, side))
    if backbone.sensible_size > backbone.smallest_size:
        assert trunk.output_shape[1:3] == (1, 1)
    # Where the two differ by one, this was that size.
    if backbone.sensible_size - 1 > backbone.smallest_size:
        below = backbone.build(square(backbone.sensible_size - 1))
        assert below.output_shape[1:3] == (1, 1)


@BUILT
def test_at_its_sensible_size_it_can_be_cut_at_each_stage(backbone, mixed_precision):
    trunk = backbone.build(square(backbone.sensible_size))
    assert trunk.count_params() == backbone.n_params
    assert {weight.dtype for weight in trunk.trainable_weights} == {"float32"}
    assert trunk.output_shape[1] > 1
    assert trunk.output_shape[2] > 1

    ends = [trunk.get_layer(name) for name in backbone.stages.values()]
    assert ends[-1].output is trunk.output
    assert len({layer.name for layer in trunk.layers}) == len(trunk.layers)
    for before, after in zip([None, *ends], ends, strict=False):
        assert len(after._inbound_nodes) == 1
        assert reaches_the_input(after.output, without=None)
        if before is not None:
            # Nothing gets from the image to the later stage but through the earlier one.
            assert not reaches_the_input(after.output, without=before)
    sides = [layer.output.shape[1] for layer in ends]
    assert sides == sorted(sides, reverse=True)
    assert len(set(sides[:-1])) == len(sides) - 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "backbone",
    lightest([each for each in ALL if not each.parts]),  # each part has a file of its own
    ids=lambda backbone: backbone.name,
)
def test_its_weights_load_from_both_layouts_that_keras_writes(backbone, tmp_path):
    backbone = dataclasses.replace(backbone, after_loading=None)
    trunk = backbone.build(square(backbone.smallest_size))
    random = np.random.default_rng(0)
    trunk.set_weights([random.uniform(0.1, 1, w.shape) for w in trunk.get_weights()])
    paths = tmp_path / "older.h5", tmp_path / "newer.weights.h5"
    with h5py.File(paths[0], "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, trunk)
    trunk.save_weights(paths[1])
    other = backbone.build(square(backbone.sensible_size))
    for path in paths:
        other.set_weights([np.zeros_like(w) for w in other.get_weights()])
        load_weights(other, backbone, find_weights(backbone, path, Progress()))
        for loaded, saved in zip(other.get_weights(), trunk.get_weights(), strict=True):
            np.testing.assert_array_equal(loaded, saved)


def reaches_the_input(tensor, without) -> bool:
    """Walk back from a tensor to the image, not through the layer `without`."""
    seen, ahead = set(), [tensor]
    while ahead:
        tensor = ahead.pop()
        operation, node, _ = tensor._keras_history
        if id(tensor) in seen or operation is without:
            continue
        seen.add(id(tensor))
        if isinstance(operation, keras.layers.InputLayer):
            return True
        ahead.extend(operation._inbound_nodes[node].arguments.keras_tensors)
    return False


def test_the_walk_sees_a_way_around_a_layer():
    image = keras.Input(square(8))
    a = keras.layers.Conv2D(3, 1, name="a")(image)
    b = keras.layers.Conv2D(3, 1, name="b")(a)
    model = keras.Model(image, keras.layers.Add()([a, b]))
    assert not reaches_the_input(model.output, without=model.get_layer("a"))
    assert reaches_the_input(model.output, without=model.get_layer("b"))


@pytest.mark.parametrize(
    "name",
    [
        "mobilenet_v3_small",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("xception", "nasnet_mobile")),
    ],
)
def test_layers_have_the_same_names_however_often_it_is_built(name):
    backbone = BACKBONES.get(name)
    for _ in range(2):
        trunk = backbone.build(square(backbone.smallest_size))
        for layer in backbone.stages.values():
            assert trunk.get_layer(layer).name == layer
