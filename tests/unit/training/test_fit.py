import math

import keras
import numpy as np
import pytest

import convscope
from convscope import backend
from convscope.errors import DivergedError
from convscope.models import MODELS
from convscope.models.preprocessing import preprocessing_layers
from convscope.progress import Progress
from convscope.recipe import OptimizerSettings, Recipe, resolve
from convscope.run import Run
from convscope.training.batches import Examples, epoch_order
from convscope.training.fit import (
    Phase,
    best_row,
    chosen_epochs,
    compile_model,
    fit,
    training_batches,
)
from convscope.training.optimizers import averaged_weights, build_optimizer
from convscope.training.passes import steps_on_one_device, train_epoch
from convscope.training.results import COLUMNS, read_results
from convscope.training.snapshot import load_snapshot
from convscope.types import InputSpec


@pytest.fixture(autouse=True, scope="module")
def set_up():
    backend.configure()


@pytest.fixture(scope="module")
def data():
    return convscope.load("digits", progress=Progress())


@pytest.fixture
def run(tmp_path) -> Run:
    return Run.create(tmp_path / "run", "run")


def settings(**changes):
    return resolve(
        Recipe(),
        {"data": "digits", "precision": "float32", "epochs": 3, "batch_size": 256, **changes},
    )


SGD = {"optimizer.name": "sgd"}


def build(seed=83) -> keras.Model:
    """A network that compiles and trains in no time."""
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(32, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )


@pytest.mark.parametrize("label_smoothing", [0, 0.1])
@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="others trace otherwise")
def test_a_step_is_traced_once_for_each_size_of_batch(data, label_smoothing):
    traced = []

    class Tracing(keras.layers.Layer):
        def call(self, inputs):
            traced.append(inputs.shape)
            return inputs

    model = build()
    model.add(Tracing())
    config = settings(label_smoothing=label_smoothing)
    compile_model(model, config, len(data.train))
    traced.clear()
    steps = steps_on_one_device(model)
    for epoch in range(2):  # the last batch of each is smaller
        train_epoch(steps, training_batches(config, Examples.of(data.train), 10, epoch))
    assert len(traced) == 2


class Told(Progress):
    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


class Saved:
    """Stands in for the saving of models: keeps the weights, writes a file."""

    def __init__(self):
        self.weights = {}

    def __call__(self, weights, path):
        self.weights[path.name] = [np.array(array) for array in weights]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"weights")


def start(data, run, config, *, model=None, log_row=lambda row: None, progress=None):
    """Call `fit`; returns (history, model, saved weights)."""
    model, saved = model or build(), Saved()
    train, val = Examples.of(data.train), Examples.of(data.val)
    phase = Phase(model, train, val, config, saved)
    history = fit(phase, run, log_row=log_row, progress=progress or Progress())
    return history, model, saved.weights


def assert_same(mine, theirs):
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def restored(run, config, history_length):
    """A fresh model in the state of the run's snapshot."""
    model = build(seed=1)
    model.compile(build_optimizer(config.optimizer), config.loss)
    model.optimizer.build(model.trainable_variables)
    assert len(load_snapshot(model, run.snapshot_file)) == history_length
    return model


def test_it_is_plain_keras_training_in_our_order(data, run):
    config = settings()
    history, model, saved = start(data, run, config)
    plain = build()
    plain.compile(keras.optimizers.Adam(0.001), config.loss, metrics=["accuracy"])
    accuracies = []
    for epoch in range(3):
        order = epoch_order(len(data.train), 83, epoch)
        images, labels = data.train.images[order], data.train.labels[order]
        plain.fit(images, labels, batch_size=256, shuffle=False, verbose=0)
        accuracies.append(plain.evaluate(data.val.images, data.val.labels, verbose=0)[1])
    assert_same(saved["last.keras"], plain.get_weights())
    assert_same(model.get_weights(), plain.get_weights())
    assert [row["val_accuracy"] for row in history] == pytest.approx(accuracies, abs=1e-6)


def test_rows_are_told_written_and_true(data, run):
    rows = []
    history, model, saved = start(data, run, settings(), log_row=rows.append)
    assert rows == history
    assert [tuple(row) for row in history] == [COLUMNS] * 3
    assert read_results(run.results_file) == history
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert [row["learning_rate"] for row in history] == pytest.approx([0.001] * 3)
    last = history[-1]
    probs = np.asarray(model.predict_on_batch(data.val.images))
    right = (probs.argmax(axis=1) == data.val.labels).mean()
    assert last["val_accuracy"] == pytest.approx(right, abs=1e-6)
    own = -np.log(probs[np.arange(len(probs)), data.val.labels]).mean()
    assert last["val_loss"] == pytest.approx(own, rel=1e-4)
    assert last["seconds"] > 0
    assert last["loss"] < history[0]["loss"]
    assert_same(saved["last.keras"], model.get_weights())


def test_best_is_the_epoch_of_the_best_validation_accuracy(data, run):
    model = build()

    def make_worse(row):
        # After two good epochs the learning rate is made so large that the third undoes them.
        if row["epoch"] == 2:
            model.optimizer.learning_rate = 10.0

    config = settings(batch_size=32)
    history, model, saved = start(data, run, config, model=model, log_row=make_worse)
    accuracies = [row["val_accuracy"] for row in history]
    assert accuracies[1] == max(accuracies) > accuracies[2]
    model.set_weights(saved["best.keras"])
    probs = np.asarray(model.predict_on_batch(data.val.images))
    right = (probs.argmax(axis=1) == data.val.labels).mean()
    assert right == pytest.approx(max(accuracies), abs=1e-6)


def test_a_loss_that_diverges_stops_at_once_and_leaves_nothing_false(data, run):
    # As a user would meet it: digits, and a learning rate that is far too large.
    with pytest.raises(
        DivergedError, match=r"epoch 1, batch \d+.*nothing was trained.*--lr"
    ) as caught:
        start(data, run, settings(**SGD, **{"optimizer.learning_rate": 1e38}))
    assert "\n" not in str(caught.value)
    assert not run.snapshot_file.exists()
    assert not run.results_file.exists()
    assert not run.weights("best").exists()
    assert not run.weights("last").exists()


@pytest.mark.parametrize("batch_size", [256, 5000])
def test_the_last_good_epoch_stays_when_a_later_one_diverges(data, run, batch_size):
    # In one batch per epoch the loss is seen before the step that spoils the weights.
    config = settings(batch_size=batch_size, **SGD)
    model = build()
    good = []

    def spoil(row):
        good.append([np.array(array) for array in model.get_weights()])
        model.optimizer.learning_rate = 1e38

    with pytest.raises(DivergedError, match=r"epoch 2.*the state after epoch 1 is kept"):
        start(data, run, config, model=model, log_row=spoil)
    assert len(good) == 1
    assert_same(restored(run, config, 1).get_weights(), good[0])
    (row,) = read_results(run.results_file)
    assert row.pop("phase") == "all"
    assert all(math.isfinite(value) for value in row.values())
    assert not run.weights("last").exists()


def test_weights_spoilt_in_the_only_batch_are_not_kept(data, run):
    config = settings(batch_size=5000, **SGD, **{"optimizer.learning_rate": 1e38})
    with pytest.raises(DivergedError, match="validation loss.*epoch 1.*nothing was trained"):
        start(data, run, config)
    assert not run.snapshot_file.exists()
    assert not run.weights("best").exists()


def test_divergence_through_the_whole_path_is_one_line_and_a_failed_run(tmp_path):
    with pytest.raises(DivergedError, match="diverged.*--lr"):
        convscope.train(
            "cnn-functional",
            data="digits",
            epochs=2,
            precision="float32",
            lr=1e38,
            settings=SGD,
            out=tmp_path / "run",
            progress=Progress(),
        )
    run = Run.open(tmp_path / "run")
    assert run.status == "failed"
    assert not run.snapshot_file.exists()


# So small that no weight changes: the validation loss stands still from the first epoch on.
STILL = {**SGD, "optimizer.learning_rate": 1e-30}


def test_early_stop_stops_and_resume_keeps_it_stopped(data, run):
    config = settings(epochs=10, early_stop_patience=2, **STILL)
    told = Told()
    history, _, saved = start(data, run, config, progress=told)
    assert len(history) == 3
    assert told.lines[-1].startswith("Stopped after epoch 3")
    before = run.snapshot_file.read_bytes()
    kept = run.weights("last").read_bytes()

    for epochs in (10, 50):
        told = Told()
        more = settings(epochs=epochs, early_stop_patience=2, **STILL)
        again, _, saved_again = start(data, run, more, model=build(seed=7), progress=told)
        assert again == history
        assert saved_again == {}
        assert run.weights("last").read_bytes() == kept
        assert any(line.startswith("Stopped after epoch 3") for line in told.lines)
    # Killed before they were written.
    run.weights("last").unlink()
    _, _, saved_again = start(data, run, config, model=build(seed=7))
    assert_same(saved_again["last.keras"], saved["last.keras"])
    assert run.snapshot_file.read_bytes() == before


def test_epochs_chosen_are_those_behind_the_judged_weights():
    accuracies = [("head", 0.5), ("head", 0.7), ("all", 0.6), ("all", 0.8), ("all", 0.8)]
    rows = [{"phase": phase, "val_accuracy": value} for phase, value in accuracies]
    assert chosen_epochs(rows, settings(judge="last")) == {"head": 2, "all": 3}
    assert chosen_epochs(rows, settings(judge="best")) == {"head": 2, "all": 2}
    assert chosen_epochs(rows[:3], settings(judge="best")) == {"head": 2}
    assert best_row(rows, settings()) == 3


def test_early_stop_waits_while_the_loss_falls(data, run):
    told = Told()
    config = settings(epochs=4, early_stop_patience=1)
    history, *_ = start(data, run, config, progress=told)
    losses = [row["val_loss"] for row in history]
    assert losses == sorted(losses, reverse=True)
    assert len(history) == 4
    assert told.lines == []


def test_going_on_gives_the_bits_of_never_having_stopped(data, run, tmp_path):
    whole, _, straight = start(data, run, settings(epochs=3))
    other = Run.create(tmp_path / "other", "other")
    start(data, other, settings(epochs=1))
    # A kill after the snapshot, before the table: the table is made from the snapshot.
    other.results_file.unlink()
    told = Told()
    rows = []
    history, _, resumed = start(
        data, other, settings(epochs=3), model=build(seed=7), progress=told, log_row=rows.append
    )
    assert_same(resumed["last.keras"], straight["last.keras"])
    assert told.lines == ["Resuming after epoch 1"]
    assert [row["epoch"] for row in rows] == [2, 3]
    assert timeless(history) == timeless(whole)
    assert len(read_results(other.results_file)) == 3


def test_progress_counts_every_image_of_every_epoch(data, run):
    tasks = []

    class Count(Told):
        def task(self, label, total, unit):
            tasks.append([label, total, unit, 0, ""])
            import contextlib

            def step(n, note=""):
                tasks[-1][3] += n
                tasks[-1][4] = note

            return contextlib.nullcontext(step)

    start(data, run, settings(epochs=2, batch_size=100), progress=Count())
    n = len(data.train)
    assert n % 100
    assert [task[:4] for task in tasks] == [
        ["epoch 1/2", n, "images", n],
        ["epoch 2/2", n, "images", n],
    ]
    assert "val accuracy" in tasks[0][4]


FILTER = {"filter.share": 0.4, "optimizer.learning_rate": 0.01, "schedule.name": "linear"}


def test_later_epochs_learn_from_the_hardest_images_and_the_rate_still_falls_to_0(data, run):
    shown = []

    def inputs(epoch):
        class Noting:
            """Notes which images are asked for in shuffled order."""

            def __getitem__(self, key):
                if not isinstance(key, slice):
                    shown.append((epoch, key))
                return data.train.images[key]

        return Noting()

    model, told = build(), Told()
    train = Examples(inputs, data.train.labels)
    phase = Phase(model, train, Examples.of(data.val), settings(epochs=5, **FILTER), Saved())
    history = fit(phase, run, log_row=lambda row: None, progress=told)
    n = len(data.train)
    kept = round(0.4 * n)
    seen = [np.concatenate([key for e, key in shown if e == epoch]) for epoch in range(5)]
    assert [len(places) for places in seen] == [n, n, n, kept, kept]
    assert sorted(seen[3]) == sorted(seen[4])
    assert seen[3].tolist() != seen[4].tolist()
    assert len(set(seen[3])) == kept
    assert [line.split(",")[0] for line in told.lines] == [
        f"From here on only the {kept} hardest of 1"
    ]
    rates = [row["learning_rate"] for row in history]
    assert rates == sorted(rates, reverse=True)
    assert 0 <= rates[-1] < 1e-4


@pytest.mark.parametrize("stop", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_going_on_learns_from_the_same_hardest_images(data, run, tmp_path, stop):
    config = settings(epochs=5, **FILTER)
    _, _, straight = start(data, run, config)
    other = Run.create(tmp_path / "other", "other")

    def die(row):
        if row["epoch"] == stop + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(data, other, config, log_row=die)
    _, _, resumed = start(data, other, config, model=build(seed=7))
    assert_same(resumed["last.keras"], straight["last.keras"])


def test_fewer_epochs_after_the_fact_begin_the_filter_at_once(data, run):
    run.record(status="training")

    class Sudden:
        def fitting(self, done, current, lengths_of):
            lengths.append(lengths_of(current))
            return 6 if done == 4 else current

    lengths: list[list[float]] = []
    train, val = Examples.of(data.train), Examples.of(data.val)
    phase = Phase(build(), train, val, settings(epochs=12, **FILTER), Saved())
    history = fit(phase, run, log_row=lambda row: None, progress=Progress(), pace=Sudden())
    assert len(history) == 6
    assert lengths[0] == [1] * 6 + [0.4] * 6
    assert lengths[-1] == [1] * 4 + [0.4] * 2
    assert 0 <= history[-1]["learning_rate"] < 1e-4


def of_any_size(seed=83) -> keras.Model:
    keras.utils.set_random_seed(seed)
    pixels = keras.Input((None, None, 1))
    x = pixels
    for layer in preprocessing_layers(InputSpec(24, 24, 1, "unit")):
        x = layer(x)
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(pixels, keras.layers.Dense(10, activation="softmax")(x))


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_going_on_learns_from_images_of_the_same_size(data, run, tmp_path, monkeypatch, stop):
    sizes, labels = [], []

    def noting(steps, batches, watch, size):
        sizes.append(size)
        return train_epoch(steps, batches, watch, size)

    class Labels(Told):
        def task(self, label, total, unit):
            labels.append(label)
            return super().task(label, total, unit)

    monkeypatch.setattr("convscope.training.fit.train_epoch", noting)
    config = settings(epochs=5, **{"progressive.scale": 0.75})
    _, _, straight = start(data, run, config, model=of_any_size(), progress=Labels())
    assert sizes == [(18, 18), (18, 18), None, None, None]
    assert labels == [f"epoch {n}/5 at 18x18 pixels" for n in (1, 2)] + [
        f"epoch {n}/5" for n in (3, 4, 5)
    ]
    other = Run.create(tmp_path / "other", "other")

    def die(row):
        if row["epoch"] == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(data, other, config, model=of_any_size(), log_row=die)
    del sizes[:]
    _, _, resumed = start(data, other, config, model=of_any_size(seed=7))
    assert sizes == [(18, 18), (18, 18), None, None, None][stop:]
    assert_same(resumed["last.keras"], straight["last.keras"])
    for each in (run, other):
        assert each.state["smaller_images"] == {"size": [18, 18], "epochs": 2}


def test_with_more_epochs_after_the_fact_none_is_smaller_again(data, run, monkeypatch):
    sizes = []

    def noting(steps, batches, watch, size):
        sizes.append(size)
        return train_epoch(steps, batches, watch, size)

    monkeypatch.setattr("convscope.training.fit.train_epoch", noting)
    for epochs in (4, 9):
        config = settings(epochs=epochs, **{"progressive.scale": 0.75})
        start(data, run, config, model=of_any_size())
    assert sizes == [(18, 18), (18, 18), *[None] * 7]
    assert run.smaller_images == (2, "18x18 pixels")


@pytest.mark.parametrize(("measured", "time"), [(0.7, 0.7), (None, 0.5625)])
def test_the_time_of_epochs_of_smaller_images_is_the_measured_one(data, run, measured, time):
    asked = []

    class Asking:
        def fitting(self, done, current, lengths_of):
            asked.append(lengths_of(4))
            return current

    config = settings(epochs=2, **{"progressive.scale": 0.75})
    train, val = Examples.of(data.train), Examples.of(data.val)
    phase = Phase(of_any_size(), train, val, config, Saved(), of_smaller=measured)
    fit(phase, run, log_row=lambda row: None, progress=Progress(), pace=Asking())
    assert asked == [[time, time, 1, 1], [time, 1, 1, 1]]  # then, of these two epochs one was


def in_phases(data, run, epochs=(2, 2), *, model=None, log_row=lambda row: None, **changes):
    """Train one network in two phases; returns (history, model, saved weights of each)."""
    model = model or build()
    saved = []
    for name, n_epochs in zip(("first", "second"), epochs, strict=True):
        saved.append(Saved())
        config = settings(epochs=n_epochs, **(changes if name == "second" else {}))
        train, val = Examples.of(data.train), Examples.of(data.val)
        phase = Phase(model, train, val, config, saved[-1], name)
        history = fit(phase, run, log_row=log_row, progress=Progress())
    return history, model, [each.weights for each in saved]


def timeless(history):
    return [
        {k: v for k, v in row.items() if k not in ("seconds", "images_per_s")} for row in history
    ]


def test_a_phase_goes_on_with_the_weights_and_the_count_of_the_one_before(data, run):
    history, _, saved = in_phases(data, run, **SGD, **{"optimizer.learning_rate": 1e-30})
    assert [(row["epoch"], row["phase"]) for row in history] == [
        (1, "first"),
        (2, "first"),
        (3, "second"),
        (4, "second"),
    ]
    assert read_results(run.results_file) == history
    # The second, at no rate, keeps what the first learnt, and is not the best anew.
    assert_same(saved[1]["last.keras"], saved[0]["last.keras"])
    assert list(saved[1]) == ["last.keras"]
    assert [row["learning_rate"] for row in history] == pytest.approx([1e-3, 1e-3, 0, 0])


@pytest.mark.parametrize(
    ("stopped_after", "ema"),
    [(2, 0.9), *(pytest.param(*each, marks=pytest.mark.slow) for each in ((1, None), (3, 0.9)))],
)
def test_phases_are_gone_on_with_to_the_bit(data, run, tmp_path, stopped_after, ema):
    soft = {"label_smoothing": 0.1, "optimizer.name": "adamw", "optimizer.ema": ema}
    whole, _, straight = in_phases(data, run, **soft)
    other = Run.create(tmp_path / "other", "other")

    def stop(row):
        if row["epoch"] == stopped_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_phases(data, other, log_row=stop, **soft)
    if stopped_after == 3:
        # As the caller does: a phase that is behind is not entered again.
        model, saved = build(seed=7), Saved()
        train, val = Examples.of(data.train), Examples.of(data.val)
        phase = Phase(model, train, val, settings(epochs=2, **soft), saved, "second")
        history = fit(phase, other, log_row=lambda row: None, progress=Progress())
        resumed = saved.weights
    else:
        history, _, (_, resumed) = in_phases(data, other, model=build(seed=7), **soft)
    assert timeless(history) == timeless(whole)
    assert_same(resumed["last.keras"], straight[1]["last.keras"])


def test_a_later_phase_that_diverges_says_which_epoch_of_the_run(data, run):
    with pytest.raises(DivergedError, match=r"epoch 3.*the state after epoch 2 is kept"):
        in_phases(data, run, **SGD, **{"optimizer.learning_rate": 1e38})
    assert len(read_results(run.results_file)) == 2


def test_averages_are_judged_and_saved_but_do_not_leak_into_training(data, tmp_path):
    def learnt(name, **changes):
        own = Run.create(tmp_path / name, name)
        return start(data, own, settings(batch_size=64, **changes))

    _, plain, _ = learnt("plain")
    history, model, saved = learnt("average", **{"optimizer.ema": 0.9})
    assert_same(model.get_weights(), plain.get_weights())
    averages = averaged_weights(model)
    assert_same(saved["last.keras"], averages)
    assert not np.array_equal(averages[0], model.get_weights()[0])
    model.set_weights(averages)
    probs = np.asarray(model.predict_on_batch(data.val.images))
    right = (probs.argmax(axis=1) == data.val.labels).mean()
    assert history[-1]["val_accuracy"] == pytest.approx(right, abs=1e-6)


def test_smooth_labels_train_and_plain_ones_judge(data, run):
    history, model, _ = start(data, run, settings(label_smoothing=0.2))
    probs = np.asarray(model.predict_on_batch(data.val.images))
    own = -np.log(probs[np.arange(len(probs)), data.val.labels]).mean()
    assert history[-1]["val_loss"] == pytest.approx(own, rel=1e-4)
    plain = build()
    plain.compile(keras.optimizers.Adam(0.001), "categorical_crossentropy")
    smooth = np.eye(10)[data.train.labels] * 0.8 + 0.02
    for epoch in range(3):
        order = epoch_order(len(data.train), 83, epoch)
        plain.fit(data.train.images[order], smooth[order], batch_size=256, shuffle=False, verbose=0)
    for mine, theirs in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4)


@pytest.mark.parametrize("style", ["cnn-sequential", "cnn-functional", "cnn-subclassing"])
def test_every_style_can_learn_smooth_labels(data, run, style):
    model = MODELS.get(style)(InputSpec(8, 8, 1), 10)
    history, *_ = start(data, run, settings(epochs=1, label_smoothing=0.1), model=model)
    assert math.isfinite(history[0]["loss"])


@pytest.mark.parametrize(
    ("chosen", "kind", "expected"),
    [
        ({"name": "adam"}, "Adam", {"weight_decay": None}),
        ({"name": "adamw", "weight_decay": 0.01}, "AdamW", {"weight_decay": 0.01}),
        (
            {"name": "sgd", "momentum": 0.9, "nesterov": True},
            "SGD",
            {"momentum": 0.9, "nesterov": True},
        ),
    ],
)
def test_optimizers_are_those_of_the_settings(chosen, kind, expected):
    optimizer = build_optimizer(OptimizerSettings(learning_rate=0.02, **chosen))
    found = optimizer.get_config()
    assert type(optimizer).__name__ == kind
    assert found["learning_rate"] == pytest.approx(0.02)
    assert {key: found[key] for key in expected} == expected


def test_adamw_without_decay_is_what_it_says(data):
    optimizer = build_optimizer(OptimizerSettings(name="adamw", weight_decay=0.0))
    assert not optimizer.get_config()["weight_decay"]


def test_muon_leaves_depthwise_kernels_to_plain_momentum():
    learnt = {}
    for name in ("muon", "sgd"):
        keras.utils.set_random_seed(83)
        layers = keras.layers
        model = keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                layers.Conv2D(4, 3),
                layers.DepthwiseConv2D(3, depth_multiplier=2),
                layers.GlobalAveragePooling2D(),
                layers.Dense(10, activation="softmax"),
            ]
        )
        config = settings(**{"optimizer.name": name, "optimizer.learning_rate": 0.5})
        compile_model(model, config, 64)
        rng = np.random.default_rng(0)
        model.train_on_batch(rng.random((64, 8, 8, 3), dtype="float32"), rng.integers(0, 10, 64))
        learnt[name] = model.get_weights()
    same = [np.allclose(*pair, atol=1e-6) for pair in zip(*learnt.values(), strict=True)]
    assert same == [False, True, True, True, True, True]


def test_a_share_of_the_rate_is_that_of_the_phase(data, run):
    model, saved = build(), Saved()
    still, *others = model.trainable_variables
    before = [v.numpy() for v in model.trainable_variables]
    train, val = Examples.of(data.train), Examples.of(data.val)
    phase = Phase(model, train, val, settings(epochs=1), saved, shares={still.path: 0.0})
    fit(phase, run, log_row=lambda row: None, progress=Progress())
    moved = [
        not np.array_equal(old, v.numpy())
        for old, v in zip(before, model.trainable_variables, strict=True)
    ]
    assert moved == [False, *[True] * len(others)]
