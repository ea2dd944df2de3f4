import keras
import numpy as np
import pytest

from convscope.errors import ShapeError
from convscope.models import MODELS
from convscope.models.structure import as_functional, image_shape, layer_table, sole_readers
from convscope.types import InputSpec

STYLES = ["cnn-sequential", "cnn-functional", "cnn-subclassing"]


def build(name, size=12):
    return MODELS.get(name)(InputSpec(size, size, 3), 4)


@pytest.mark.parametrize("name", STYLES)
def test_the_graph_shares_weights_with_the_model(name):
    model = build(name)
    graph = as_functional(model)
    x = np.random.default_rng(0).integers(0, 256, (2, 20, 15, 3), dtype="uint8")
    model.set_weights([w * 0.5 for w in model.get_weights()])
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(graph(x)), keras.ops.convert_to_numpy(model(x))
    )
    assert {id(w) for w in graph.weights} == {id(w) for w in model.weights}


@pytest.mark.parametrize("name", STYLES)
def test_a_model_is_traced_once(name):
    model = build(name)
    assert as_functional(model) is as_functional(model)


def test_all_styles_show_the_same_table():
    tables = [layer_table(build(name)) for name in STYLES]
    assert tables[0] == tables[1] == tables[2]
    convolutions = ["conv1", "pool1", "conv2", "pool2", "conv3"]
    expected = ["resize", "rescale", *convolutions, "flatten", "dense", "probs"]
    assert [row.name for row in tables[0]] == expected
    assert sum(row.params for row in tables[0]) == build(STYLES[0]).count_params()


def test_an_unbuilt_model_is_refused():
    with pytest.raises(ShapeError, match="not built"):
        layer_table(keras.Sequential([keras.layers.Dense(2)], name="empty"))


def test_a_model_within_is_one_row_and_a_shared_layer_counts_once():
    inner = keras.Sequential([keras.Input((4, 4, 2)), keras.layers.Conv2D(3, 1)], name="inner")
    dense = keras.layers.Dense(5, name="shared")
    x = keras.Input((4, 4, 2))
    a = keras.layers.Flatten(name="flat")(inner(x))
    both = keras.layers.Add(name="add")([dense(a), dense(a * 2)])
    model = keras.Model(x, both)
    rows = {}
    for row in layer_table(model):
        rows.setdefault(row.name, []).append(row)
    assert rows["inner"][0].params == 9
    assert rows["inner"][0].output_shape == (4, 4, 3)
    assert sorted(row.params for row in rows["shared"]) == [0, 245]
    assert sum(r.params for each in rows.values() for r in each) == model.count_params()


@pytest.mark.parametrize("name", STYLES)
def test_image_shape_is_the_size_that_the_network_works_at(name):
    assert image_shape(MODELS.get(name)(InputSpec(9, 14, 1), 3)) == (9, 14, 1)


def test_image_shape_of_a_network_for_any_size_is_not_known():
    x = keras.Input((None, None, 3))
    y = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(x))
    with pytest.raises(ShapeError, match="any image size"):
        image_shape(keras.Model(x, y, name="fully_convolutional"))


def test_sole_readers_are_those_of_layers_that_only_one_layer_reads():
    layers = keras.layers
    pixels = keras.Input((8, 8, 3))

    def conv(name):
        return layers.Conv2D(3, 3, padding="same", name=name)

    twice, pool = conv("twice"), layers.MaxPooling2D(1, name="pool")
    x = conv("plain")(pixels)
    x = layers.ReLU(name="relu")(x)  # read twice
    x = layers.Add(name="add")([x, conv("branch")(x)])
    x = conv("before_twice")(x)
    x = twice(twice(x))
    shown = conv("shown")(x)  # an output of the model, too
    x = pool(shown)
    x = conv("before_shared")(x)
    model = keras.Model(pixels, [shown, layers.Flatten(name="flat")(pool(x))])
    found = {one.name: other.name for one, other in sole_readers(model).items()}
    assert found == {"plain": "relu", "branch": "add", "add": "before_twice"}
