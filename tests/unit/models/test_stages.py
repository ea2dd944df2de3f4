"""The geometry of a backbone by its stages, and the picture of it."""

import keras
import pytest
from keras import layers

from convscope.models._blocks import blocks
from convscope.models.geometry import geometry
from convscope.models.sheet import model_sheet
from convscope.models.stages import by_stage

STAGES = {"stem": "relu", "middle": "inside", "last": "out"}


@pytest.fixture
def classifier():
    """A backbone of three stages, one of which ends with a model of its own, under a head."""
    inside = keras.Sequential(
        [layers.DepthwiseConv2D(3, name="deep"), layers.BatchNormalization(name="norm")],
        name="inside",
    )
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 3, strides=2, padding="same", name="conv")(image)
    x = layers.ReLU(name="relu")(x)
    x = inside(layers.MaxPooling2D(name="pool")(x))
    x = layers.Conv2D(8, 1, name="mix")(x)
    trunk = keras.Model(image, layers.ReLU(name="out")(x), name="trunk")
    pixels = keras.Input((16, 16, 3))
    x = trunk(layers.Rescaling(1 / 255, name="rescale")(pixels))
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    model = keras.Model(pixels, layers.Dense(2, name="probs")(x))
    trunk.get_layer("conv").trainable = False
    return model


def names(stage):
    return [layer.name for layer in stage.layers]


def test_layers_stand_with_their_stage_and_those_around_alone(classifier):
    gathered = {stage.name: names(stage) for stage in by_stage(geometry(classifier), STAGES)}
    assert gathered == {
        "rescale": ["rescale"],
        "stem": ["trunk/conv", "trunk/relu"],
        "middle": ["trunk/pool", "trunk/inside/deep", "trunk/inside/norm"],
        "last": ["trunk/mix", "trunk/out"],
        "mean": ["mean"],
        "probs": ["probs"],
    }


def test_a_bare_backbone_is_gathered_too(classifier):
    trunk = classifier.get_layer("trunk")
    gathered = by_stage(geometry(trunk), STAGES)
    assert [stage.name for stage in gathered] == ["stem", "middle", "last"]


def test_a_stage_adds_up_its_layers(classifier):
    stem, middle, last = by_stage(geometry(classifier), STAGES)[1:4]
    assert stem.params == 3 * 3 * 3 * 4 + 4
    assert stem.multiply_adds == 8 * 8 * 3 * 3 * 3 * 4
    assert middle.params == (3 * 3 * 4 + 4) + 4 * 4
    assert middle.multiply_adds == 2 * 2 * 3 * 3 * 4
    assert middle.n_convolutions == 1
    assert middle.output.output_shape == (2, 2, 4)
    assert last.multiply_adds == 2 * 2 * 4 * 8


def test_a_sheet_says_what_learns_of_each_layer(classifier):
    sheet = model_sheet(classifier, STAGES)
    assert sheet.learning["trunk/conv"] == 0
    assert sheet.learning["trunk/inside/norm"] == 2 * 4
    assert sheet.learning["probs"] == 8 * 2 + 2
    assert sum(sheet.learning.values()) == sheet.n_trainable
    assert {layer.name for layer in sheet.geometry} <= sheet.learning.keys()
    assert sheet.image_shape == (16, 16, 3)
    assert sum(stage.params for stage in sheet.stages) == sheet.n_params
    assert model_sheet(classifier).stages == []


def test_the_picture_shows_the_stages_as_large_as_the_map_that_leaves_them(classifier):
    shown = blocks(classifier, geometry(classifier), STAGES)
    assert [(block.title, block.shape) for block in shown] == [
        ("image", (16, 16, 3)),
        ("stem", (8, 8, 4)),
        ("middle", (2, 2, 4)),
        ("last", (2, 2, 8)),
        ("mean", (8,)),
        ("probs", (2,)),
    ]
    assert shown[2].lines[1] == "3 layers, 1 conv"
    assert shown[-1].role == "output"


def test_a_backbone_of_few_stages_is_drawn_otherwise(classifier):
    two = {"stem": "relu", "rest": "out"}
    shown = blocks(classifier, geometry(classifier), two)
    assert "rest" not in [block.title for block in shown]


def test_preparing_the_pixels_belongs_to_the_image():
    image = keras.Input((8, 8, 1))
    x = layers.Concatenate(name="grey_to_rgb")([image] * 3)
    x = keras.ops.take(x, (2, 1, 0), axis=-1)
    model = keras.Model(image, layers.Conv2D(4, 3, name="conv")(x))
    shown = blocks(model, geometry(model))
    assert [block.title for block in shown] == ["image", "conv"]
    assert shown[0].details == ["grey as colour, blue first"]
