import math

import keras
import numpy as np
import pytest

from convscope.recipe import ScheduleSettings
from convscope.training.schedules import WarmupCosine, build_schedule, set_total_steps


def rates(schedule, steps) -> list[float]:
    return [float(keras.ops.convert_to_numpy(schedule(step))) for step in steps]


def cosine(epochs=10, steps_per_epoch=100, warmup=0.0, peak=0.1):
    settings = ScheduleSettings(name="cosine", warmup_epochs=warmup)
    return build_schedule(settings, peak, epochs=epochs, steps_per_epoch=steps_per_epoch)


def test_constant_is_the_number_itself():
    assert build_schedule(ScheduleSettings(), 0.02, epochs=3, steps_per_epoch=9) == 0.02


def test_it_starts_at_the_peak_is_half_in_the_middle_and_ends_near_nothing():
    start, middle, end, after = rates(cosine(), [0, 500, 999, 5000])
    assert start == pytest.approx(0.1, rel=1e-5)
    assert middle == pytest.approx(0.05, rel=0.01)
    # The last step learns something too.
    assert 0 < end < 1e-6
    assert after == pytest.approx(0, abs=1e-9)


def test_warm_up_rises_in_a_line_to_the_peak_and_the_rest_falls():
    schedule = cosine(warmup=2.0)
    found = rates(schedule, range(1000))
    expected = [
        0.1 * (step + 0.5) / 200
        if step < 200
        else 0.05 * (1 + math.cos(math.pi * (step + 0.5 - 200) / 800))
        for step in range(1000)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
    assert 0 < found[0] < 0.001
    assert max(found) == pytest.approx(0.1, rel=0.005)
    assert 198 <= int(np.argmax(found)) <= 201


def test_linear_rises_and_falls_in_lines():
    settings = ScheduleSettings(name="linear", warmup_epochs=2)
    schedule = build_schedule(settings, 0.1, epochs=10, steps_per_epoch=100)
    expected = [0.1 * min((step + 0.5) / 200, (1000 - step - 0.5) / 800) for step in range(1000)]
    np.testing.assert_allclose(rates(schedule, range(1000)), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("epochs", "steps", "warmup"),
    [(1, 1, 0), (1, 1, 0.5), (1, 1, 5), (3, 2, 3), (3, 2, 9), (2, 7, 0.25)],
)
def test_short_runs_never_exceed_the_peak_nor_stand_still(epochs, steps, warmup):
    found = rates(cosine(epochs, steps, warmup), range(epochs * steps))
    assert all(math.isfinite(rate) and 0 < rate <= 0.1 + 1e-8 for rate in found)


def test_an_optimiser_follows_it_step_by_step():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    schedule = cosine(epochs=2, steps_per_epoch=4, warmup=0.5)
    model.compile(keras.optimizers.SGD(schedule), "mse")
    x = np.ones((4, 1), "float32")
    for step in range(8):
        rate = float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))
        assert rate == pytest.approx(rates(schedule, [step])[0])
        before = model.get_weights()
        gradient = 2 * (before[0][0, 0] + before[1][0] - 3)
        model.train_on_batch(x, 3 * x)
        moved = model.get_weights()[1][0] - before[1][0]
        assert moved == pytest.approx(-rate * gradient, rel=1e-4, abs=1e-7)


def test_it_is_a_function_of_the_step_that_can_be_made_again():
    schedule = cosine(warmup=1.0)
    again = WarmupCosine.from_config(schedule.get_config())
    assert rates(again, [0, 50, 999]) == rates(schedule, [0, 50, 999])
    assert rates(schedule, [50, 0]) == list(reversed(rates(schedule, [0, 50])))


def test_a_compiled_model_follows_another_length_without_compiling_anew():
    traced = []

    class Counting(keras.layers.Layer):
        def call(self, inputs):
            traced.append(1)
            return inputs

    model = keras.Sequential([keras.Input((1,)), Counting(), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(cosine(epochs=2, steps_per_epoch=4)), "mse")
    x = np.ones((4, 1), "float32")
    set_total_steps(model.optimizer, 8)
    assert float(model.optimizer.learning_rate) == pytest.approx(rates(cosine(2, 4), [0])[0])
    model.fit(x, x, batch_size=1, verbose=0)
    before = len(traced)
    set_total_steps(model.optimizer, 40)
    model.fit(x, x, batch_size=1, verbose=0)
    # On torch nothing is compiled, so each step calls the layer.
    assert len(traced) == before or keras.config.backend() == "torch"
    assert float(model.optimizer.learning_rate) == pytest.approx(rates(cosine(10, 4), [8])[0])


def test_a_constant_rate_has_no_length():
    optimizer = keras.optimizers.SGD(0.1)
    set_total_steps(optimizer, 8)
    assert float(optimizer.learning_rate) == pytest.approx(0.1)
