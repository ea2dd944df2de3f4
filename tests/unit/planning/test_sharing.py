from types import SimpleNamespace

import numpy as np
import pytest

from convscope.datasets.division.splits import write_split
from convscope.errors import ConfigError, DataError, TrainingError
from convscope.planning import sharing
from convscope.planning.data import load_for
from convscope.planning.plan import Plan
from convscope.planning.settle import Request, settle_batches
from convscope.planning.sharing import (
    failures_told,
    receive_plan,
    require_trainable,
    send_plan,
)
from convscope.progress import Progress
from convscope.recipe import BackboneSettings, RunConfig
from convscope.run import Run
from convscope.scale.devices import ONE, Devices

ON_JAX = RunConfig(backend="jax", batch_size=126)


@pytest.mark.parametrize(
    ("changes", "devices", "problem"),
    [
        ({"model": "mobilenet_v2"}, Devices(2), "only a head on frozen mobilenet_v2"),
        ({"backend": "tensorflow"}, Devices(2), "and the run has tensorflow"),
        ({"refit": True}, Devices(2, 2), "several processes cannot train once more"),
        ({"batch_size": 128}, Devices(6, 3), "128 images cannot be divided among 6 devices"),
    ],
)
def test_what_several_devices_cannot_train_is_refused(changes, devices, problem):
    config = ON_JAX.model_copy(update=changes)
    with pytest.raises(ConfigError, match=problem):
        require_trainable(config, devices)
    require_trainable(config, ONE)
    require_trainable(ON_JAX, devices)


def test_one_host_can_train_once_more_at_the_end():
    require_trainable(ON_JAX.model_copy(update={"refit": True}), Devices(2))


def test_layers_behind_the_cut_of_a_backbone_are_trained_by_all():
    tuned = {"model": "mobilenet_v2", "backbone": BackboneSettings(cut="before-last")}
    require_trainable(ON_JAX.model_copy(update=tuned), Devices(2, 2))


def test_batches_made_smaller_for_few_images_can_still_be_divided():
    config = RunConfig(batch_size=500, least_steps=5)
    sizes = [
        settle_batches(Request({}, n_devices=n), config, 1149, Progress()).batch_size
        for n in (1, 4, 7)
    ]
    assert sizes == [230, 232, 231]


@pytest.fixture
def transport(carry_from_first) -> list[bytes]:
    return carry_from_first(sharing)


FIRST, OTHER = Devices(2, 2, 0), Devices(2, 2, 1)


def test_another_process_gets_the_plan_and_refuses_other_images(transport, tmp_path):
    config = ON_JAX.model_copy(update={"data": "digits", "precision": "float32"})
    dataset = load_for(config, None, Progress())
    run = Run(tmp_path)
    write_split(dataset, run.split_file)
    send_plan(Plan(config, dataset), run, FIRST)
    plan, theirs = receive_plan(OTHER, None)
    assert plan.config == config
    assert theirs.path == tmp_path
    np.testing.assert_array_equal(plan.dataset.train.images, dataset.train.images)
    # Process 0 has one training image less.
    rows = run.split_file.read_text().splitlines(keepends=True)
    rows.remove(next(row for row in rows if ",train," in row))
    run.split_file.write_text("".join(rows))
    send_plan(Plan(config, dataset), run, FIRST)
    with pytest.raises(DataError, match="images are not those of the run: 1 differ"):
        receive_plan(OTHER, None)


def test_another_process_gets_the_division_before_it_loads(transport, tmp_path, monkeypatch):
    run, given = Run(tmp_path), []
    run.split_file.write_text("id,label\n")
    send_plan(Plan(ON_JAX, None), run, FIRST)
    plan = SimpleNamespace(dataset=None)
    monkeypatch.setattr(sharing, "verify_split", lambda *_: None)
    monkeypatch.setattr(
        sharing, "prepare", lambda *args: given.append(args[-1].read_text()) or plan
    )
    receive_plan(OTHER, None)
    assert given == ["id,label\n"]


def test_the_others_hear_why_the_first_process_cannot_begin(transport):
    with pytest.raises(ConfigError, match="no such thing"), failures_told(FIRST):
        raise ConfigError("no such thing")
    with pytest.raises(TrainingError, match="process 0 could not begin: no such thing"):
        receive_plan(OTHER, None)


def test_a_single_process_tells_nobody(transport):
    with pytest.raises(ConfigError), failures_told(ONE):
        raise ConfigError("no such thing")
    assert transport == []
