import threading
from contextlib import contextmanager

import keras
import numpy as np
import pytest

from convscope.training.batches import Batches
from convscope.training.objective import build_state
from convscope.training.passes import evaluate_epoch, steps_on_one_device, train_epoch
from convscope.training.steps import ByKeras

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3)).astype("float32")
LABELS = RNG.integers(0, 4, 40)


def network(metrics=("accuracy",)) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=list(metrics))
    build_state(model, 4, flags=False)
    return model


def test_learning_and_judging_are_those_of_keras():
    mine, theirs = network(), network()
    steps = steps_on_one_device(mine)
    batches = Batches(X, LABELS, 16)  # the last one holds 8
    for _ in range(3):
        learnt = train_epoch(steps, batches)
        past = theirs.fit(X, LABELS, batch_size=16, shuffle=False, verbose=0).history
        assert learnt.loss == pytest.approx(past["loss"][-1], rel=1e-5)
        assert learnt.accuracy == pytest.approx(past["accuracy"][-1])
    for one, other in zip(mine.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    before = mine.get_weights()
    assert evaluate_epoch(steps, batches) == pytest.approx(
        theirs.evaluate(X, LABELS, verbose=0), rel=1e-5
    )
    for one, other in zip(mine.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_each_batch_is_told_of_with_its_own_loss_and_the_marks_so_far():
    told = []
    marks = train_epoch(
        steps_on_one_device(network()), Batches(X, LABELS, 16), lambda *news: told.append(news)
    )
    sizes, losses, so_far = zip(*told, strict=True)
    assert sizes == (16, 16, 8)
    for n in (1, 2, 3):
        mean = np.average(losses[:n], weights=sizes[:n])
        assert so_far[n - 1].loss == pytest.approx(mean)
    assert so_far[-1] == marks
    right = [mark.accuracy * sum(sizes[: n + 1]) for n, mark in enumerate(so_far)]
    assert right == pytest.approx(np.round(right))


class RunsOn:
    """What Keras was until 3.15: a batch's figures are means over all batches since a reset."""

    def __init__(self, losses, rights):
        self.coming, self.kept = list(zip(losses, rights, strict=True)), []

    def reset_metrics(self):
        self.kept = []

    def train_on_batch(self, inputs, labels, return_dict):
        self.kept.append((len(labels), *self.coming.pop(0)))
        sizes, losses, rights = zip(*self.kept, strict=True)
        loss, accuracy = (np.average(each, weights=sizes) for each in (losses, rights))
        return {"loss": loss, "accuracy": accuracy}

    test_on_batch = train_on_batch


@pytest.mark.parametrize("one_pass", [train_epoch, evaluate_epoch])
def test_figures_are_those_of_each_batch_even_where_metrics_run_on(one_pass):
    model = RunsOn([4.0, 2.0, 1.0] * 2, [0.25, 0.5, 0.75] * 2)
    batches = Batches(X, LABELS, 16)  # 16, 16 and 8 images
    for _ in range(2):
        assert one_pass(ByKeras(model), batches) == pytest.approx((2.6, 0.45))


class Slow(Batches):
    """Tells who makes which batch; the second fails if asked to."""

    def __init__(self, fails=False):
        super().__init__(X, LABELS, 16)
        self.made, self.fails = [], fails

    def __getitem__(self, index):
        self.made.append((index, threading.current_thread() is threading.main_thread()))
        if self.fails and index == 1:
            raise OSError("cannot be read")
        return super().__getitem__(index)


def test_batches_are_made_in_turn_beside_the_learning():
    batches = Slow()
    train_epoch(steps_on_one_device(network()), batches)
    assert batches.made == [(0, False), (1, False), (2, False)]


def test_what_goes_wrong_with_a_batch_is_raised_as_it_is_and_nothing_more_is_made():
    batches, told, steps = Slow(fails=True), [], steps_on_one_device(network())
    with pytest.raises(OSError, match="cannot be read"):
        train_epoch(steps, batches, lambda *news: told.append(news))
    assert [size for size, *_ in told] == ([] if steps.n_ahead else [16])
    assert len(batches.made) == 2


def test_whoever_is_told_may_stop_it():
    batches, steps = Slow(), steps_on_one_device(network())

    def stop(*news):
        raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        train_epoch(steps, batches, stop)
    assert len(batches.made) <= 2 + steps.n_ahead
    assert threading.active_count() == before


class Figure:
    """A number that is waited for when somebody asks for it."""

    def __init__(self, number, waited):
        self.number, self.waited = number, waited

    def __float__(self):
        self.waited.append(self.number)
        return float(self.number)


@pytest.mark.parametrize("n_ahead", [0, 1, 2, 5])
def test_so_many_steps_are_handed_over_before_one_is_waited_for(n_ahead):
    handed_over, waited, most = [], [], []

    class Steps:
        def placed(self, batches):
            return batches

        @contextmanager
        def training(self, size):
            assert size is None

            def step(inputs, labels, n_images):
                handed_over.append(n_images)
                most.append(len(handed_over) - len(waited))
                return Figure(len(handed_over), waited), 0.5

            yield step

    steps, told = Steps(), []
    steps.n_ahead = n_ahead
    marks = train_epoch(steps, Batches(X, LABELS, 8), lambda *news: told.append(news[:2]))
    assert max(most) == min(n_ahead + 1, 5)
    # All are waited for in the end, in their order.
    assert told == [(8, 1.0), (8, 2.0), (8, 3.0), (8, 4.0), (8, 5.0)]
    assert marks == pytest.approx((3.0, 0.5))
