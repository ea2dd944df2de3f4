import itertools
import re

import keras
import numpy as np
import pytest
from keras import layers

from convscope.errors import ShapeError
from convscope.models import MODELS
from convscope.models.geometry import geometry
from convscope.types import InputSpec

STYLES = ["cnn-sequential", "cnn-functional", "cnn-subclassing"]


def network(shape, *steps):
    return keras.Sequential([keras.Input(shape), *steps])


def sheet_of(shape, *steps):
    return geometry(network(shape, *steps))


def evaluated(formula: str) -> int:
    """Work out the arithmetic that a formula spells, and check that it gives what it says."""
    left, right = formula.split(" = ")
    stated = int(right.split()[0])
    numbers = re.fullmatch(r"floor\((.+)\)/(\d+)\) \+ 1", left)
    assert numbers, formula
    inside = eval(numbers[1].lstrip("("), {"__builtins__": {}})
    assert inside // int(numbers[2]) + 1 == stated, formula
    return stated


def measured_field(model, size: int, channels: int) -> tuple[int, int]:
    """Find by trial which rows and columns of the image the middle of the output depends on."""
    bars = np.zeros((2 * size, size, size, channels), "float32")
    for i in range(size):
        bars[i, i, :, :] = 1
        bars[size + i, :, i, :] = 1
    changed = keras.ops.convert_to_numpy(model(bars))
    middle = changed[:, changed.shape[1] // 2, changed.shape[2] // 2].max(axis=-1) > 0
    return int(middle[:size].sum()), int(middle[size:].sum())


@pytest.mark.parametrize("name", STYLES)
def test_the_tutorials_network(name):
    sheet = {g.name: g for g in geometry(MODELS.get(name)(InputSpec(32, 32, 3), 10))}
    assert sheet["conv1"].formula == "floor((32 + 2*1 - 3)/1) + 1 = 32"
    assert sheet["pool1"].formula == "floor((32 + 2*0 - 2)/2) + 1 = 16"
    assert sheet["flatten"].formula == "8*8*64 = 4096"
    fields = {n: g.receptive_field for n, g in sheet.items() if g.kernel}
    # By hand: r grows by (k - 1) * jump, and each pooling doubles the jump.
    assert fields == {
        "conv1": (3, 3),
        "pool1": (4, 4),
        "conv2": (8, 8),
        "pool2": (10, 10),
        "conv3": (18, 18),
    }
    assert [sheet[n].jump[0] for n in ("conv1", "pool1", "conv2", "pool2")] == [1, 2, 2, 4]
    assert sheet["dense"].receptive_field == (32, 32)
    assert sum(g.params for g in sheet.values()) == 582_026
    by_hand = {
        "conv1": 32 * 32 * 32 * 3 * 3 * 3,
        "conv2": 16 * 16 * 64 * 3 * 3 * 32,
        "conv3": 8 * 8 * 64 * 3 * 3 * 64,
        "dense": 4096 * 128,
        "probs": 128 * 10,
    }
    assert {n: g.multiply_adds for n, g in sheet.items() if g.multiply_adds} == by_hand
    assert sum(by_hand.values()) == 8_488_192


WINDOWS = list(itertools.product([7, 16, 33], [1, 2, 3, 6], [1, 2, 3], ["same", "valid"], [1, 2]))


def test_window_sizes_are_those_of_keras():
    """Odd and even sizes, kernels and strides, both paddings, with and without dilation."""
    checked = 0
    for size, kernel, stride, padding, dilation in WINDOWS:
        spans = dilation * (kernel - 1) + 1
        if (dilation > 1 and stride > 1) or (padding == "valid" and spans > size):
            continue  # Keras has no such layer, or the window does not fit
        steps = [layers.Conv2D(2, kernel, stride, padding, dilation_rate=dilation)]
        if dilation == 1:
            steps += [layers.MaxPooling2D(kernel, stride, padding)]
            steps += [layers.AveragePooling2D(kernel, stride, padding)]
            steps += [layers.DepthwiseConv2D(kernel, stride, padding, depth_multiplier=2)]
            steps += [layers.SeparableConv2D(5, kernel, stride, padding)]
        for step in steps:
            step.build((None, size, size + 1, 3))
            wanted = step.compute_output_shape((None, size, size + 1, 3))[1:]
            (got,) = sheet_of((size, size + 1, 3), step)
            assert got.output_shape == wanted, (step, size, kernel, stride, padding)
            for part in re.sub(r"\s?\([^()]*(before|spread)[^()]*\)", "", got.formula).split("; "):
                assert evaluated(part.split(": ")[-1]) in wanted
            checked += 1
    assert checked > 250


def test_uneven_padding_is_written_out():
    (conv,) = sheet_of((32, 32, 3), layers.Conv2D(4, 3, strides=2, padding="same"))
    assert conv.padding == (1, 1)
    assert conv.formula == "floor((32 + 0 + 1 - 3)/2) + 1 = 16 (padding 0 before, 1 after)"


def test_even_total_padding_is_written_as_the_tutorial_does():
    (conv,) = sheet_of((15, 15, 3), layers.Conv2D(4, 5, padding="same"))
    assert conv.padding == (4, 4)
    assert conv.formula == "floor((15 + 2*2 - 5)/1) + 1 = 15"


def test_rows_and_columns_are_told_apart_where_they_differ():
    (conv,) = sheet_of((20, 10, 3), layers.Conv2D(4, (5, 3), strides=(2, 1)))
    assert conv.formula == (
        "rows: floor((20 + 2*0 - 5)/2) + 1 = 8; columns: floor((10 + 2*0 - 3)/1) + 1 = 8"
    )
    assert conv.receptive_field == (5, 3)
    assert conv.jump == (2, 1)


def test_a_dilated_kernel_says_what_it_spans():
    (conv,) = sheet_of((20, 20, 3), layers.Conv2D(4, 3, dilation_rate=2))
    assert conv.formula == "floor((20 + 2*0 - 5)/1) + 1 = 16 (kernel 3 spread over 5)"
    assert conv.receptive_field == (5, 5)


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_receptive_fields_are_those_that_can_be_measured(padding):
    def conv(k, s=1, d=1):
        return layers.Conv2D(1, k, s, padding, dilation_rate=d, kernel_initializer="ones")

    size = 61
    stacks = [
        [conv(3), layers.AveragePooling2D(2), conv(3), layers.AveragePooling2D(2), conv(3)],
        [conv((5, 3), 2), conv(1), layers.AveragePooling2D(3, 2, padding), conv((1, 3))],
        [conv(3, d=2), conv(3, s=3), layers.ZeroPadding2D(2), conv(2)],
        [layers.SeparableConv2D(1, 3, 2, padding, depthwise_initializer="ones"), conv(3)],
    ]
    for stack in stacks:
        model = network((size, size, 1), *stack)
        model.set_weights([abs(w) if w.ndim > 1 else w for w in model.get_weights()])
        assert measured_field(model, size, 1) == geometry(model)[-1].receptive_field


def test_where_branches_join_the_largest_field_counts():
    x = keras.Input((32, 32, 3))
    short = layers.Conv2D(4, 1, name="short")(x)
    long = layers.Conv2D(4, 3, padding="same", name="first")(x)
    long = layers.Conv2D(4, 3, padding="same", name="second")(long)
    added = layers.Add(name="sum")([short, long])
    joined = layers.Concatenate(name="join")([added, x])
    plain = joined * 2.0 + added[..., :1]  # operations without a layer
    model = keras.Model(x, layers.GlobalMaxPooling2D(name="all", keepdims=True)(plain))
    sheet = {g.name: g for g in geometry(model)}
    assert sheet["short"].receptive_field == (1, 1)
    assert sheet["sum"].receptive_field == (5, 5)
    assert sheet["join"].receptive_field == (5, 5)
    assert sheet["join"].output_shape == (32, 32, 7)
    assert sheet["all"].receptive_field == (32, 32)
    assert sheet["all"].input_shape == (32, 32, 7)
    assert sheet["all"].output_shape == (1, 1, 7)


def test_squeeze_and_excitation_sees_the_whole_image():
    x = keras.Input((16, 16, 4))
    squeezed = layers.GlobalAveragePooling2D(name="squeeze")(x)
    gate = layers.Reshape((1, 1, 4), name="gate")(layers.Dense(4, name="mix")(squeezed))
    scaled = layers.Multiply(name="scale")([x, gate])
    model = keras.Model(x, layers.Conv2D(2, 3, padding="same", name="conv")(scaled))
    sheet = {g.name: g for g in geometry(model)}
    assert sheet["gate"].receptive_field == (16, 16)
    assert sheet["scale"].receptive_field == (16, 16)
    assert sheet["scale"].jump == (1, 1)
    assert sheet["mix"].multiply_adds == 16


def test_models_within_models_are_opened():
    backbone = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            layers.Conv2D(4, 3, 2, "same", name="stem"),
            layers.BatchNormalization(name="norm"),
        ],
        name="backbone",
    )
    x = keras.Input((None, None, 3))
    y = layers.GlobalAveragePooling2D(name="mean")(backbone(layers.Resizing(24, 24, name="fit")(x)))
    model = keras.Model(x, layers.Dense(5, name="head")(y))
    sheet = geometry(model, (100, 50, 3))
    assert [g.name for g in sheet] == ["fit", "backbone/stem", "backbone/norm", "mean", "head"]
    assert sheet[0].formula == "100*50 resized to 24*24"
    assert sheet[1].output_shape == (12, 12, 4)
    assert sheet[3].formula == "all 12*12 positions -> 1"
    assert sheet[3].receptive_field == (24, 24)  # in pixels that the network sees
    assert sum(g.params for g in sheet) == model.count_params()
    assert geometry(model)[0].input_shape == (24, 24, 3)


def test_padding_and_cropping():
    sheet = sheet_of(
        (9, 9, 2), layers.ZeroPadding2D(((1, 2), (0, 3))), layers.Cropping2D(((2, 1), (1, 1)))
    )
    assert sheet[0].formula == "rows: 9 + 1 + 2 = 12; columns: 9 + 0 + 3 = 12"
    assert sheet[0].padding == (3, 3)
    assert sheet[0].output_shape == (12, 12, 2)
    assert sheet[1].formula == "rows: 12 - 2 - 1 = 9; columns: 12 - 1 - 1 = 10"
    assert sheet[1].output_shape == (9, 10, 2)


def test_grouped_convolution_costs_less():
    whole, grouped = sheet_of(
        (8, 8, 4), layers.Conv2D(8, 3, padding="same"), layers.Conv2D(8, 3, groups=4)
    )
    assert whole.multiply_adds == 8 * 8 * 8 * 9 * 4
    assert grouped.multiply_adds == 6 * 6 * 8 * 9 * 2


def test_what_cannot_be_followed_is_said_to_be_unknown():
    sheet = sheet_of((8, 8, 4), layers.UpSampling2D(2), layers.Conv2D(1, 3))
    assert sheet[0].output_shape == (16, 16, 4)
    assert sheet[0].receptive_field is None
    assert sheet[1].receptive_field is None
    assert sheet[1].output_shape == (14, 14, 1)


@pytest.mark.parametrize("builder", ["MobileNetV2", "ResNet50V2"])
def test_deep_networks_have_the_sizes_of_keras(builder):
    model = getattr(keras.applications, builder)(weights=None, input_shape=(96, 96, 3), classes=10)
    sheet = geometry(model)
    expected = [
        (layer.name, layer.output.shape[1:])
        for layer in model.layers
        if not isinstance(layer, layers.InputLayer)
    ]
    assert sorted((g.name, g.output_shape) for g in sheet) == sorted(expected)
    assert len(sheet) > 150
    assert sum(g.params for g in sheet) == model.count_params()
    assert all(g.receptive_field for g in sheet)


@pytest.mark.parametrize(
    ("builder", "last", "field", "billions"),
    [
        # Receptive fields: Araujo et al., "Computing Receptive Fields of Convolutional Neural
        # Networks", Distill 2019. Multiply-adds: the networks' papers (MobileNetV1 table 8,
        # without the classifier's million; VGG-16 is usually given as 15.5 with its dense layers).
        ("MobileNet", "conv_pw_13_relu", 315, 0.568),
        ("VGG16", "block5_pool", 212, 15.35),
    ],
)
def test_published_figures_come_out(builder, last, field, billions):
    model = getattr(keras.applications, builder)(
        weights=None, include_top=False, input_shape=(224, 224, 3)
    )
    sheet = geometry(model)
    assert sheet[-1].name == last
    assert sheet[-1].receptive_field == (field, field)
    assert sum(g.multiply_adds for g in sheet) / 1e9 == pytest.approx(billions, rel=0.005)


def test_a_shape_that_does_not_fit_is_refused():
    model = network((32, 32, 3), layers.Conv2D(4, 3))
    with pytest.raises(ShapeError, match=r"not one of shape \(32, 32, 1\)"):
        geometry(model, (32, 32, 1))
