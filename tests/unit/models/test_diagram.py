"""The pictures use the multiplication sign."""

# ruff: noqa: RUF001

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image

from convscope.models import MODELS
from convscope.models._blocks import blocks, short_count
from convscope.models.diagram import draw_architecture
from convscope.models.geometry import geometry
from convscope.types import InputSpec

LAYERS = ["conv1", "pool1", "conv2", "pool2", "conv3", "flatten", "dense", "probs"]


def tutorial(name="cnn-functional", size=32, channels=3):
    return MODELS.get(name)(InputSpec(size, size, channels), 10)


def deep():
    return keras.applications.MobileNetV2(weights=None, input_shape=(96, 96, 3), classes=10)


def test_a_small_network_is_drawn_layer_by_layer():
    model = tutorial()
    shown = blocks(model, geometry(model))
    titles = [block.title for block in shown]
    assert titles == ["image", *LAYERS]
    assert shown[0].details == ["resized, rescaled"]
    conv1 = shown[1]
    assert conv1.lines == ["conv 3×3, relu", "32×32×32"]
    assert conv1.details == ["896 params", "885 k multiply-adds", "sees 3×3 px"]
    assert [block.role for block in shown[-3:]] == ["reshape", "dense", "output"]


def test_the_three_styles_are_drawn_alike():
    shown = []
    for name in ("cnn-sequential", "cnn-functional", "cnn-subclassing"):
        model = tutorial(name)
        shown.append(blocks(model, geometry(model)))
    assert shown[0] == shown[1] == shown[2]


def test_a_deep_network_is_gathered_by_resolution():
    model = deep()
    sheet = geometry(model)
    shown = blocks(model, sheet)
    assert [block.lines[0] for block in shown[1:6]] == ["48×48", "24×24", "12×12", "6×6", "3×3"]
    assert [block.role for block in shown[6:]] == ["pool", "output"]
    stages = [int(block.lines[2].split()[0]) for block in shown[1:6]]
    assert sum(stages) == len(sheet) - 2  # the others are the two of the head
    assert sum(block.slices for block in shown[1:6]) == sum("Conv" in layer.kind for layer in sheet)
    assert shown[5].details[-1] == "sees the whole image"


def test_normalisation_and_activation_go_with_their_layer():
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Conv2D(8, 3, strides=2, name="stem"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.GlobalAveragePooling2D(name="mean"),
            layers.Dropout(0.5),
            layers.Dense(4, activation="softmax", name="probs"),
        ]
    )
    shown = blocks(model, geometry(model))
    assert [block.title for block in shown] == ["image", "stem", "mean", "probs"]
    assert shown[1].lines[0] == "conv 3×3 step 2, norm, relu"
    assert shown[2].lines == ["average of the map, dropout", "8 values"]


@pytest.mark.parametrize("make", [tutorial, deep])
def test_the_picture_fills_its_page(make, tmp_path):
    path = tmp_path / "architecture.png"
    draw_architecture(make(), path)
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert pixels.shape[1] > pixels.shape[0] > 500
    inked = (pixels < 250).any(axis=2)
    rows, columns = np.flatnonzero(inked.any(axis=1)), np.flatnonzero(inked.any(axis=0))
    # Nothing is cut off at the edges, and the drawing uses the width of the page.
    assert rows[0] > 10
    assert columns[0] > 10
    assert rows[-1] < pixels.shape[0] - 10
    assert columns[-1] < pixels.shape[1] - 10
    assert columns[-1] - columns[0] > 0.8 * pixels.shape[1]
    colours = {tuple(colour) for colour in pixels.reshape(-1, 3)[::7]}
    assert (0x3A, 0x7C, 0xA5) in colours  # a convolution's front


def test_the_suffix_chooses_the_format_and_the_figure_is_nobodys(tmp_path):
    import matplotlib.pyplot as plt

    draw_architecture(tutorial(size=28, channels=1), tmp_path / "a.svg", title="My network")
    assert (tmp_path / "a.svg").read_text().lstrip().startswith("<?xml")
    assert [path.name for path in tmp_path.iterdir()] == ["a.svg"]
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (9_999, "9,999"), (12_345, "12.3 k"), (8_488_192, "8.49 M"), (15.47e9, "15.5 G")],
)
def test_short_counts(number, text):
    assert short_count(int(number)) == text
