"""The phases in which a classifier on a backbone learns: what learns, how fast, from what."""

import numpy as np
import pytest

import convscope
from convscope import backend
from convscope.models.head import feature_statistics
from convscope.progress import Progress
from convscope.recipe import resolve
from convscope.recipes import RECIPES
from convscope.run import Run
from convscope.training import transfer as module
from convscope.training.fit import Phase
from convscope.training.transfer import (
    _keep_the_better,
    _noting_best,
    _tuned_loss,
    train_transfer,
)
from convscope.types import InputSpec


@pytest.fixture(autouse=True, scope="module")
def set_up(tiny):
    backend.configure()


@pytest.fixture
def phases(monkeypatch, tmp_path):
    """Calls `train_transfer` with settings and returns its phases, which are not trained."""
    data = convscope.load("digits", progress=Progress())

    def planned(**settings) -> list[Phase]:
        found: list[Phase] = []

        def noting(phase, run, **options):
            found.append(phase)
            return []

        monkeypatch.setattr(module, "fit", noting)
        config = resolve(RECIPES.get("finetune")(), {"model": "tiny"}, settings)
        run = Run.create(tmp_path / "run", "run")
        spec = InputSpec(32, 32, 1, "unit")
        train_transfer(config, spec, data, None, run, log_row=lambda row: None, progress=Progress())
        return found

    return planned


def layer_of(path: str) -> str:
    return path.split("/")[-2]


def test_each_stage_learns_slower_than_the_next_by_the_layer_decay(phases):
    head, whole = phases(**{"backbone.cut": "stage2", "optimizer.layer_decay": 0.5})
    assert not head.shares
    shares = {layer_of(path): share for path, share in whole.shares.items()}
    assert shares == {
        "conv5": 0.5,
        "conv4": 0.25,
        "conv3": 0.125,
        "conv2": 0.0625,
        "conv1": 0.03125,
    }
    # By the names of the variables that learn; those of the head have the whole rate.
    learning = [variable.path for variable in whole.model.trainable_variables]
    assert {layer_of(path) for path in learning if path in whole.shares} == {
        *("conv3", "conv4", "conv5"),
    }
    assert {layer_of(path) for path in learning if path not in whole.shares} == {"probs"}


def test_the_head_above_layers_that_learn_sees_standardised_features(phases):
    head, whole = phases(**{"backbone.cut": "before-last"})
    pooled = np.concatenate([head.train.inputs(epoch) for epoch in (0, 1)])
    assert not np.array_equal(*np.split(pooled, 2))  # two views; the first one is measured
    mean, variance = feature_statistics(head.train.inputs(0))
    for phase in (head, whole):
        found = phase.model.get_layer("standardise").get_weights()
        np.testing.assert_allclose(found, [mean, variance], rtol=1e-6)
    assert np.abs(mean).max() > 0.01
    assert variance.max() < 0.5  # not the 0 and 1 that the layer begins with


def test_a_head_alone_has_one_phase_and_no_shares(phases):
    (head,) = phases(**{"backbone.cut": "end"})
    assert head.name == "head"
    assert not head.shares
    mean, variance = feature_statistics(head.train.inputs(0))
    found = head.model.get_layer("standardise").get_weights()
    np.testing.assert_allclose(found, [mean, variance], rtol=1e-6)


def tuned_run(folder, **weights):
    """A run after fine-tuning whose files of weights say what they are."""
    run = Run.create(folder / "run", "run")
    run.record(frozen_loss=1.0)
    run.weights("last").parent.mkdir(exist_ok=True)
    for name, content in weights.items():
        run.weights(name).write_text(content)
    return run


@pytest.mark.parametrize(("tuned", "kept"), [(1.5, "frozen"), (0.5, "tuned")])
def test_fine_tuning_that_did_not_help_is_undone_in_whichever_weights_are_evaluated(
    tmp_path, tuned, kept
):
    run = tuned_run(tmp_path, frozen="frozen", last="tuned", best="tuned")
    _keep_the_better(tuned, run, Progress())
    assert {run.weights(name).read_text() for name in ("last", "best")} == {kept}
    assert run.state["rolled_back"] == (kept == "frozen")


def test_a_best_epoch_of_the_head_alone_stays_the_best(tmp_path):
    run = tuned_run(tmp_path, frozen="head's last", last="tuned", best="head's best")
    _keep_the_better(None, run, Progress())
    assert run.weights("best").read_text() == "head's best"
    assert run.weights("last").read_text() == "head's last"
    assert run.state["rolled_back"]


def test_what_fine_tuning_gained_is_that_of_the_epoch_that_is_evaluated(monkeypatch, tmp_path):
    import keras

    run = Run.create(tmp_path / "run", "run")
    part = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    part.compile("sgd", "mse")
    saved = []
    monkeypatch.setattr(module, "_validation_loss", lambda model, val: float(model(val)[0, 0]))

    def save(weights, path):
        part.set_weights(weights)
        saved.append(path)

    save_and_note = _noting_best(save, part, np.ones((1, 2)), run)
    for name, loss in (("best", 0.5), ("best", 0.25), ("last", 2.0)):
        save_and_note([np.full((2, 1), loss / 2)], run.weights(name))
    assert saved == [run.weights(name) for name in ("best", "best", "last")]
    unrecorded = Run.create(tmp_path / "other", "other")
    unrecorded.record(frozen_loss=1.0)
    # The model of the phase is that of its last epoch.
    for judge, where, loss in (
        ("best", run, 0.25),
        ("last", run, 2.0),
        ("best", unrecorded, 2.0),
    ):
        config = resolve(RECIPES.get("finetune")(), {"judge": judge})
        phase = Phase(part, None, np.ones((1, 2)), config, save)
        assert _tuned_loss(phase, where) == loss
