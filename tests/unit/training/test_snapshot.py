import errno
import os

import keras
import numpy as np
import pytest

from convscope.errors import RunError, StorageError
from convscope.scale.devices import ONE, Devices
from convscope.training import snapshot as module
from convscope.training.batches import Batches, epoch_order
from convscope.training.objective import build_state
from convscope.training.passes import steps_on_one_device, train_epoch
from convscope.training.snapshot import (
    load_snapshot,
    read_history,
    save_snapshot,
    shared_snapshot,
)
from convscope.types import Split

# A known limit, so strict: it has to be noticed when it goes away.
on_own_generators = pytest.mark.xfail(
    keras.config.backend() == "torch",
    reason="on torch, dropout without a seed draws from torch's generator, not in the snapshot",
    strict=True,
)

RNG = np.random.default_rng(0)
IMAGES = Split(
    RNG.integers(0, 256, (96, 6, 6, 1), dtype=np.uint8),
    RNG.integers(0, 3, 96),
    np.arange(96).astype(str),
)


def network(*, width=16, optimizer=None, seed=0) -> keras.Model:
    """A compiled network with two kinds of random layers and moving statistics."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.GaussianNoise(0.1),
            keras.layers.Flatten(),
            keras.layers.Dense(width, activation="relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile(
        optimizer or keras.optimizers.Adam(0.01),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    build_state(model, 3, flags=False)
    return model


def train(model: keras.Model, epochs: range) -> None:
    steps = steps_on_one_device(model)
    for epoch in epochs:
        order = epoch_order(len(IMAGES), 1, epoch)
        batches = Batches(IMAGES.images, IMAGES.labels, 32, order)
        train_epoch(steps, batches)


def values(model: keras.Model) -> list[np.ndarray]:
    found = [*model.variables, *model.optimizer.variables]
    return [keras.ops.convert_to_numpy(variable) for variable in found]


def assert_same(one: keras.Model, other: keras.Model) -> None:
    for mine, theirs in zip(values(one), values(other), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@on_own_generators
def test_a_resumed_network_with_dropout_ends_with_the_same_weights(tmp_path):
    path = tmp_path / "snapshot.npz"
    uninterrupted = network()
    train(uninterrupted, range(4))

    first = network()
    train(first, range(2))
    rows = [{"epoch": 1, "phase": "head"}, {"epoch": 2, "phase": "all"}]
    save_snapshot(first, rows, path)
    # Another seed: all that counts has to come out of the file.
    resumed = network(seed=99)
    history = load_snapshot(resumed, path)
    assert history == rows == read_history(path)
    assert_same(resumed, first)
    train(resumed, range(len(history), 4))
    assert_same(resumed, uninterrupted)


def test_several_processes_begin_a_phase_as_the_first_stands(tmp_path, carry_from_first):
    """The first may have trained the phase before alone."""
    carry_from_first(module)
    path = tmp_path / "snapshot.npz"
    rows = [{"epoch": 1, "phase": "head"}]
    save_snapshot(network(width=8), rows, path)  # of another part of the network
    first, other = network(), network(seed=99)
    train(first, range(1))
    for devices, model in ((Devices(2, 2, 0), first), (Devices(2, 2, 1), other)):
        content = shared_snapshot(model, path, devices, "all")
        assert read_history(content) == rows
        load_snapshot(model, content)
    assert_same(first, other)
    # In the phase itself the file says how far it has come.
    save_snapshot(first, [*rows, {"epoch": 2, "phase": "all"}], path)
    train(first, range(1, 2))
    assert shared_snapshot(first, path, Devices(2, 2, 0), "all") == path.read_bytes()
    assert shared_snapshot(first, path, ONE, "all") == path
    assert shared_snapshot(first, tmp_path / "none.npz", ONE, "all") is None


@on_own_generators
def test_it_takes_the_states_of_random_layers_to_do_that(tmp_path):
    # Without them the test above would pass only by luck: they are part of what is saved.
    model = network()
    seeds = [variable for variable in model.variables if "seed" in variable.path]
    assert len(seeds) == 2
    before = [keras.ops.convert_to_numpy(variable).copy() for variable in seeds]
    train(model, range(1))
    after = [keras.ops.convert_to_numpy(variable) for variable in seeds]
    assert all((a != b).any() for a, b in zip(before, after, strict=True))
    assert not {id(variable) for variable in seeds} & {id(weight) for weight in model.weights}


@pytest.mark.parametrize("kind", ["SGD", "AdamW"])
def test_every_optimizer_comes_back_whole(tmp_path, kind):
    def build() -> keras.Model:
        extra = {"momentum": 0.9} if kind == "SGD" else {"weight_decay": 0.01}
        return network(optimizer=getattr(keras.optimizers, kind)(0.01, **extra))

    model = build()
    train(model, range(1))
    save_snapshot(model, [{"epoch": 1}], tmp_path / "snapshot.npz")
    again = build()
    load_snapshot(again, tmp_path / "snapshot.npz")
    assert_same(again, model)
    assert int(again.optimizer.iterations) == 3


def test_history_keeps_every_digit(tmp_path):
    model = network()
    rows = [{"epoch": 1, "loss": 0.1 + 0.2, "accuracy": 1 / 3, "note": "ä", "phase": "all"}]
    save_snapshot(model, rows, tmp_path / "snapshot.npz")
    assert load_snapshot(model, tmp_path / "snapshot.npz") == rows
    assert read_history(tmp_path / "snapshot.npz") == rows
    assert os.listdir(tmp_path) == ["snapshot.npz"]


def test_a_snapshot_from_before_there_were_phases_is_read(tmp_path):
    model = network()
    save_snapshot(model, [{"epoch": 1}], tmp_path / "snapshot.npz")
    assert read_history(tmp_path / "snapshot.npz") == [{"epoch": 1, "phase": "all"}]
    assert load_snapshot(model, tmp_path / "snapshot.npz") == [{"epoch": 1, "phase": "all"}]


@pytest.mark.parametrize(
    "other",
    [
        lambda: network(width=8),
        lambda: network(optimizer=keras.optimizers.SGD(0.01)),
        lambda: network(optimizer=keras.optimizers.SGD(0.01, momentum=0.9)),
    ],
    ids=["width", "optimizer", "momentum"],
)
def test_another_model_or_optimizer_is_refused_and_left_as_it_was(tmp_path, other):
    save_snapshot(network(), [], tmp_path / "snapshot.npz")
    model = other()
    before = values(model)
    with pytest.raises(RunError, match="another model or optimizer"):
        load_snapshot(model, tmp_path / "snapshot.npz")
    for mine, theirs in zip(values(model), before, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("damage", ["empty", "half", "flipped", "text", "absent", "no-history"])
def test_a_damaged_snapshot_is_refused(tmp_path, damage):
    path = tmp_path / "snapshot.npz"
    model = network()
    save_snapshot(model, [], path)
    content = bytearray(path.read_bytes())
    match damage:
        case "empty":
            path.write_bytes(b"")
        case "half":
            path.write_bytes(content[: len(content) // 2])
        case "flipped":
            # In the values of the largest array, which the zip's checksum covers.
            place = content.index(keras.ops.convert_to_numpy(model.variables[1]).tobytes()[:16])
            content[place] ^= 0xFF
            path.write_bytes(content)
        case "text":
            path.write_text("no snapshot")
        case "absent":
            path.unlink()
        case "no-history":
            np.savez(path, **{"00000": np.zeros(3)})
    before = values(model)
    with pytest.raises(RunError, match=r"snapshot\.npz is damaged") as caught:
        load_snapshot(model, path)
    assert "\n" not in str(caught.value)
    if damage != "flipped":  # That is in values, which the history does not need.
        with pytest.raises(RunError, match=r"snapshot\.npz is damaged"):
            read_history(path)
    for mine, theirs in zip(values(model), before, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_snapshot_cannot_run_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "pwned"),))

    path = tmp_path / "snapshot.npz"
    np.savez(path, allow_pickle=True, **{"history.json": np.array([Evil()], dtype=object)})
    with pytest.raises(RunError, match="damaged"):
        load_snapshot(network(), path)
    assert not (tmp_path / "pwned").exists()


def test_it_holds_plain_arrays_and_the_history(tmp_path):
    model = network()
    train(model, range(1))
    save_snapshot(model, [{"epoch": 1}], tmp_path / "snapshot.npz")
    with np.load(tmp_path / "snapshot.npz", allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    # One for each variable and nothing else: older NumPy saves its own options as arrays.
    assert bytes(arrays.pop("history.json")) == b'[{"epoch": 1}]'
    assert sorted(arrays) == [f"{index:05d}" for index in range(len(values(model)))]
    for name, value in zip(sorted(arrays), values(model), strict=True):
        np.testing.assert_array_equal(arrays[name], value)
        assert arrays[name].dtype == value.dtype


def test_a_failed_write_keeps_the_snapshot_before(tmp_path, monkeypatch):
    path = tmp_path / "snapshot.npz"
    model = network()
    save_snapshot(model, [{"epoch": 1}], path)
    before = path.read_bytes()
    savez = np.savez

    def full(target, **arrays):
        savez(target, **arrays)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    train(model, range(1))
    with pytest.raises(StorageError, match="no space left"):
        save_snapshot(model, [{"epoch": 1}, {"epoch": 2}], path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["snapshot.npz"]


def test_a_damaged_file_is_refused_wherever_the_damage_is(tmp_path):
    path = tmp_path / "snapshot.npz"
    model = network()
    save_snapshot(model, [{"epoch": 1}], path)
    content = path.read_bytes()
    whole = values(model)
    messages = []
    rng = np.random.default_rng(0)
    # The directory at the end of the zip steers how all of it is read: every byte of it.
    places = [*range(len(content) - 300, len(content)), *rng.integers(0, len(content), 100)]
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            assert load_snapshot(model, path) == [{"epoch": 1, "phase": "all"}]
        except RunError as error:
            messages.append(str(error))
        else:
            # One of the bytes that say nothing (dates, attributes): never other values.
            for value, expected in zip(values(model), whole, strict=True):
                np.testing.assert_array_equal(value, expected)
    assert len(messages) > len(places) / 2
    assert not [message for message in messages if "\n" in message]


def test_a_single_array_is_no_snapshot(tmp_path):
    path = tmp_path / "snapshot.npz"
    with path.open("wb") as stream:
        np.save(stream, np.zeros(3))
    with pytest.raises(RunError, match="damaged"):
        load_snapshot(network(), path)
