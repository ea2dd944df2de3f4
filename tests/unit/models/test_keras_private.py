"""What is used of Keras although it is not public, against what must come of it."""

import keras
import numpy as np
import pytest

from convscope.models.keras_private import (
    DecayStep,
    moving_averages,
    run_through_graph,
    schedule_of,
    variable_index,
)


def network() -> keras.Model:
    keras.utils.set_random_seed(83)
    layers = keras.layers
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4), layers.Dense(2)])
    return keras.Model(model.inputs, model.outputs)


def step(model) -> None:
    x, y = np.ones((5, 3), "float32"), np.ones((5, 2), "float32")
    model.train_on_batch(x, y)


def numbers(variables) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(each) for each in variables]


def test_a_graph_runs_on_anything_and_visits_a_shared_layer_twice():
    pixels = keras.Input((4,))
    shared, joined = keras.layers.Dense(4, name="shared"), keras.layers.Add(name="joined")
    once = shared(pixels)
    graph = keras.Model(pixels, joined([once, shared(once)]))
    said = run_through_graph(
        graph,
        ["pixels"],
        lambda operation, args, kwargs: f"{operation.name}{keras.tree.flatten([args, kwargs])}",
    )
    inner = "shared['pixels']"
    assert said == f"joined{[inner, f'shared{[inner]}']}"


def test_the_schedule_of_an_optimiser_is_the_one_that_it_was_made_with():
    falling = keras.optimizers.schedules.CosineDecay(0.1, 10)
    for kind in (keras.optimizers.SGD, keras.optimizers.Adam):
        assert schedule_of(kind(falling)) is falling
        assert float(schedule_of(kind(0.25))) == 0.25


def test_moving_averages_are_those_that_keras_would_finish_with():
    model = network()
    model.compile(keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5), "mse")
    step(model)
    first = numbers(model.trainable_variables)
    step(model)
    second = numbers(model.trainable_variables)
    averages = numbers(moving_averages(model.optimizer))
    model.optimizer.finalize_variable_values(model.trainable_variables)
    for average, finished, one, two in zip(
        averages, numbers(model.trainable_variables), first, second, strict=True
    ):
        np.testing.assert_array_equal(average, finished)
        assert not np.array_equal(average, two)
        assert average.shape == one.shape


def test_variables_are_counted_in_the_order_in_which_an_optimiser_was_built():
    asked = []

    class Asking(keras.optimizers.SGD):
        def update_step(self, gradient, variable, learning_rate):
            asked.append((variable_index(self, variable), tuple(variable.shape)))
            super().update_step(gradient, variable, learning_rate)

    model = network()
    model.compile(Asking(0.1), "mse")
    step(model)
    variables = model.trainable_variables
    assert sorted(set(asked)) == [(i, tuple(v.shape)) for i, v in enumerate(variables)]
    assert [variable_index(model.optimizer, v) for v in variables] == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", [keras.optimizers.SGD, keras.optimizers.AdamW])
def test_decay_can_be_put_in_other_hands(kind):
    class Halves(DecayStep, kind):
        def decay_weights(self, variables):
            super().decay_weights(variables[:2])

    model = network()
    model.compile(Halves(0.5, weight_decay=0.1), "mse", jit_compile=False)
    optimizer = model.optimizer
    optimizer.build(model.trainable_variables)
    before = numbers(model.trainable_variables)
    still = [keras.ops.zeros(each.shape) for each in before]
    optimizer.apply(still, model.trainable_variables)
    after = numbers(model.trainable_variables)
    for index, (old, new) in enumerate(zip(before, after, strict=True)):
        np.testing.assert_allclose(new, old * (0.95 if index < 2 else 1.0), rtol=1e-6)


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="converts TensorFlow's graph")
def test_graphs_are_left_as_they_are_for_a_while():
    import onnx
    import tensorflow as tf
    from tf2onnx import optimizer

    from convscope.engines import INPUT
    from convscope.engines.conversion import to_onnx

    net = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3), keras.layers.Conv2D(4, 3)]
    )
    function = tf.function(
        lambda images: {"features": tf.identity(net(images), name="features")},
        input_signature=[tf.TensorSpec((None, 8, 8, 3), tf.float32, name=INPUT)],
    )
    before = optimizer._get_optimizers

    def n_operations(**settings):
        return len(onnx.load_from_string(to_onnx(function, **settings)).graph.node)

    assert n_operations(simplified=False) > n_operations()
    assert optimizer._get_optimizers is before
