"""Every trap: found where it was laid, quiet where it was not, its remedy a command that exists."""

import json
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
import yaml
from PIL import Image

import convscope
from convscope.cli._main import app
from convscope.datasets.checks.near_copies import near_copies_across
from convscope.diagnosis import TRAPS, Diagnosis, leaks
from convscope.evaluation.predictions import read_predictions, save_predictions
from convscope.models.backbones import BACKBONES
from convscope.progress import Progress
from convscope.run import Run
from convscope.training.results import read_results, write_results
from convscope.types import Predictions


def doctor(path: Path) -> Diagnosis:
    return convscope.doctor(path, progress=Progress())


@pytest.fixture(autouse=True, scope="module")
def one_search_for_copies() -> Iterator[None]:
    """Runs on the same images have the same near copies, which take most of a diagnosis."""
    known = {}

    def search(parts):
        images = tuple((name, *part.hashes) for name, part in parts.items())
        if images not in known:
            known[images] = near_copies_across(parts)
        return known[images]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leaks, "near_copies_across", search)
        yield


@pytest.fixture(scope="module")
def healthy(tmp_path_factory) -> Path:
    """A run that does what it should: trained until it got no better, judged once."""
    out = tmp_path_factory.mktemp("healthy") / "run"
    settings = {"augment.crop": 0.125, "schedule.name": "cosine"}
    convscope.train(
        "cnn-functional",
        data="digits",
        epochs=12,
        lr=3e-3,
        settings=settings,
        precision="float32",
        out=out,
        progress=Progress(),
    )
    return out


@pytest.fixture(scope="module")
def frozen(tmp_path_factory, tiny_backbone) -> Path:
    """A frozen backbone, whose weights file is one of random weights."""
    folder = tmp_path_factory.mktemp("frozen")
    backbone = BACKBONES.get(tiny_backbone)
    keras.utils.set_random_seed(1)
    weights = folder / "trunk.weights.h5"
    backbone.build((64, 64, 3)).save_weights(weights)
    convscope.train(
        tiny_backbone,
        data="digits",
        recipe="tutorial-transfer",
        epochs=1,
        weights=weights,
        out=folder / "run",
        progress=Progress(),
    )
    return folder / "run"


def change_config(run: Path, **changes: object) -> None:
    file = run / "config.yaml"
    config = yaml.safe_load(file.read_text())
    for key, value in changes.items():
        group, _, name = key.partition("__")
        if name:
            config[group][name] = value
        else:
            config[group] = value
    file.write_text(yaml.safe_dump(config))


def change_results(run: Path, **columns: list[float]) -> None:
    """Replace columns of results.csv, and keep as many rows as they are long."""
    file = run / "results.csv"
    rows = read_results(file)[: len(next(iter(columns.values())))]
    for index, row in enumerate(rows):
        row.update({name: values[index] for name, values in columns.items()})
    write_results(rows, file)


def change_predictions(run: Path, change: Callable[[Predictions], Predictions]) -> None:
    file = run / "predictions.parquet"
    said, about = read_predictions(file)
    about.pop("classes")
    changed = {name: change(each) for name, each in said.items()}
    save_predictions(changed, Run(run).class_names, file, about=about)


def change_state(run: Path, **changes: object) -> None:
    Run(run).record(**changes)


def over_fitting(run: Path) -> None:
    change_results(
        run,
        loss=[1.0, 0.5, 0.2, 0.1, 0.05],
        accuracy=[0.6, 0.8, 0.9, 0.97, 0.99],
        val_loss=[1.0, 0.7, 0.6, 0.8, 1.1],
        val_accuracy=[0.6, 0.7, 0.75, 0.74, 0.73],
    )


def under_fitting(run: Path) -> None:
    change_config(run, schedule__name="constant")
    losses = [2.0, 1.8, 1.6, 1.4, 1.2, 1.0, 0.9, 0.8]
    accuracies = [0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65]
    change_results(run, loss=losses, val_loss=losses, accuracy=accuracies, val_accuracy=accuracies)


def diverged(run: Path) -> None:
    reason = "the loss is nan in epoch 3, batch 7: training diverged; start anew with a lower --lr"
    change_state(run, status="failed", failure={"kind": "DivergedError", "reason": reason})


def dead(run: Path, share: float = 0.95) -> None:
    network = keras.saving.load_model(run / "weights/last.keras")
    layer = next(
        each
        for each in network.layers
        if getattr(each, "activation", None) is keras.activations.relu
    )
    kernel, bias = layer.get_weights()
    bias[: int(share * len(bias))] = -1e3
    layer.set_weights([kernel, bias])
    network.save(run / "weights/last.keras")


def too_sure(run: Path) -> None:
    """Probabilities of which no temperature makes sense: sure, and right in half of all cases."""
    rng = np.random.default_rng(1)

    def change(said: Predictions) -> Predictions:
        probs = np.full_like(said.probs, 1e-4)
        off = rng.random(len(said.labels)) < 0.5
        guess = np.where(off, (said.labels + 1) % 10, said.labels)
        probs[np.arange(len(guess)), guess] = 1 - 9e-4
        return Predictions(probs, said.labels, said.ids, said.split)

    change_predictions(run, change)


def always_one_class(run: Path) -> None:
    def change(said: Predictions) -> Predictions:
        probs = np.full_like(said.probs, 0.09)
        probs[:, 3] = 0.19
        return Predictions(probs, said.labels, said.ids, said.split)

    change_predictions(run, change)


def wrong_labels(run: Path) -> None:
    def change(said: Predictions) -> Predictions:
        labels = said.labels.copy()
        labels[::10] = (labels[::10] + 3) % 10
        return Predictions(said.probs, labels, said.ids, said.split)

    change_predictions(run, change)


def easier_test(run: Path) -> None:
    def change(said: Predictions) -> Predictions:
        probs = np.full_like(said.probs, 0.01)
        guess = said.labels.copy()
        if said.split == "val":
            guess[::3] = (guess[::3] + 1) % 10
        probs[np.arange(len(guess)), guess] = 0.91
        return Predictions(probs, said.labels, said.ids, said.split)

    change_predictions(run, change)


def opened_twice(run: Path) -> None:
    (opening,) = Run(run).state["test_openings"]
    change_state(run, test_openings=[opening, {**opening, "by": "evaluate"}])


def worse_runs_beside(run: Path) -> None:
    for number, lead in ((1, 0.05), (2, 0.08)):
        other = run.parent / f"other{number}"
        shutil.copytree(run, other)
        change_metrics(other, test=-lead, val=0.01)


def change_metrics(run: Path, **changes: float) -> None:
    metrics = Run(run).metrics
    for part, change in changes.items():
        metrics[part]["accuracy"] += change
    Run.write_json(Run(run).metrics_file, metrics)


def a_like_run_beside(run: Path) -> None:
    other = run.parent / "other"
    shutil.copytree(run, other)
    change_config(other, optimizer__learning_rate=2e-3)

    def change(said: Predictions) -> Predictions:
        probs = said.probs.copy()
        right = np.flatnonzero(probs.argmax(axis=1) == said.labels)[:2]
        probs[right] = np.roll(probs[right], 1, axis=1)
        return Predictions(probs, said.labels, said.ids, said.split)

    change_predictions(other, change)


def other_scaling(run: Path) -> None:
    change_config(run, backbone__scaling="unit")


def as_it_is(run: Path) -> None:
    """The tutorial's way is the trap."""


def changed_statistics(run: Path) -> None:
    network = keras.saving.load_model(run / "weights/last.keras")
    nested = [each for each in network.layers if isinstance(each, keras.Model)]
    trunk = max(nested, key=lambda each: len(each.weights))
    layer = next(each for each in trunk.layers if isinstance(each, keras.layers.BatchNormalization))
    layer.set_weights(
        [*layer.get_weights()[:2], layer.get_weights()[2] + 1, layer.get_weights()[3]]
    )
    network.save(run / "weights/last.keras")


IN_A_RUN = {
    "at-chance": always_one_class,
    "best-of-many": worse_runs_beside,
    "calibration": too_sure,
    "dead-units": dead,
    "label-errors": wrong_labels,
    "learning-rate": diverged,
    "over-fitting": over_fitting,
    "small-difference": a_like_run_beside,
    "test-openings": opened_twice,
    "under-fitting": under_fitting,
    "val-unlike-test": easier_test,
}


def jump(run: Path) -> None:
    """Results as of a head that was not done when the last stage joined in."""
    rows = [read_results(run / "results.csv")[0] for _ in range(3)]
    for row, (phase, loss) in zip(
        rows,
        [("head", 0.71), ("after stage4", 4.5), ("after stage4", 0.9)],
        strict=True,
    ):
        row |= {"phase": phase, "val_loss": loss, "val_accuracy": 0.6 if phase == "head" else 0.4}
    write_results(rows, run / "results.csv")


WITH_A_BACKBONE = {
    "fine-tuning": jump,
    "frozen-batchnorm": changed_statistics,
    "scaling": other_scaling,
    "small-input": as_it_is,
}


def folder_with_leak(path: Path) -> Path:
    rng = np.random.default_rng(5)
    for part, n in (("train", 20), ("val", 5), ("test", 5)):
        for name in ("left", "right"):
            (path / part / name).mkdir(parents=True)
            for index in range(n):
                pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(path / part / name / f"{index}.png")
    shutil.copy(path / "train/left/3.png", path / "test/left/copy.png")
    return path


def folder_unbalanced(path: Path) -> Path:
    rng = np.random.default_rng(5)
    for part, counts in (("train", (60, 6)), ("val", (5, 5)), ("test", (5, 5))):
        for name, n in zip(("many", "few"), counts, strict=True):
            (path / part / name).mkdir(parents=True)
            for index in range(n):
                pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(path / part / name / f"{index}.png")
    return path


def folder_contradicting_itself(path: Path) -> Path:
    folder_with_leak(path)
    (path / "test/left/copy.png").unlink()
    for index in range(3):
        shutil.copy(path / f"train/left/{index}.png", path / f"train/right/again-{index}.png")
    return path


IN_A_FOLDER = {
    "class-imbalance": folder_unbalanced,
    "contradictions": folder_contradicting_itself,
    "leaks": folder_with_leak,
}


def test_every_trap_is_laid_somewhere_here():
    laid = [*IN_A_RUN, *WITH_A_BACKBONE, *IN_A_FOLDER]
    assert sorted(laid) == TRAPS.names()


def test_a_healthy_run_is_called_healthy(healthy):
    found = doctor(healthy)
    assert found.alarms == []
    assert found.unknown == {}
    assert len(found.quiet) + len(found.findings) == len(TRAPS.names())


def check_words(found: Diagnosis, name: str) -> None:
    finding = found.findings[name]
    assert finding.symptom.endswith(".")
    assert any(character.isdigit() for character in finding.evidence) or name == "scaling"
    # No command undoes a look at test images; the evidence says what to do.
    assert finding.remedies or name in ("best-of-many", "test-openings")
    commands = {command.name for command in app.registered_commands}
    commands |= {group.name for group in app.registered_groups}
    for remedy in finding.remedies:
        program, command, *_ = shlex.split(remedy.command)
        assert program == "convscope"
        assert command in commands


@pytest.mark.parametrize("name", IN_A_RUN)
def test_a_trap_in_a_run_is_found_and_no_other(name, healthy, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(healthy, run)
    IN_A_RUN[name](run)
    found = doctor(run)
    assert name in found.findings
    check_words(found, name)
    # What was done shows from two sides: the stored temperature no longer fits.
    sides = {
        "at-chance": {"calibration"},
        "calibration": {"label-errors"},
        "dead-units": {"calibration"},
        "label-errors": {"calibration"},
        "val-unlike-test": {"calibration"},
    }
    others = set(found.alarms) - {name} - sides.get(name, set())
    assert others == set()


def test_a_layer_of_which_half_is_dead_is_a_note(healthy, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(healthy, run)
    dead(run, 0.6)
    found = doctor(run)
    assert found.findings["dead-units"].sure == "note"
    assert "dead-units" not in found.alarms


@pytest.mark.parametrize("name", WITH_A_BACKBONE)
def test_a_trap_of_a_backbone_is_found(name, frozen, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(frozen, run)
    WITH_A_BACKBONE[name](run)
    found = doctor(run)
    assert name in found.findings
    check_words(found, name)
    assert found.findings[name].sure == "certain"


def test_the_statistics_of_a_frozen_backbone_are_found_unchanged(frozen):
    assert "frozen-batchnorm" in doctor(frozen).quiet


@pytest.mark.parametrize("name", IN_A_FOLDER)
def test_a_trap_in_the_data_is_found_before_there_is_a_run(name, tmp_path):
    folder = IN_A_FOLDER[name](tmp_path / "images")
    config = tmp_path / "config.yaml"
    place = json.dumps(str(folder))
    settings = f"data: folder\ndata_path: {place}\nimage_size: 16\n"
    config.write_text(f"{settings}model: cnn-sequential\n")
    found = doctor(config)
    assert found.alarms == [name]
    # A backbone that cannot be built for such images is no obstacle.
    config.write_text(f"{settings}model: efficientnet_lite0\n")
    assert set(doctor(config).alarms) == {name, "small-input"}
    check_words(found, name)
    assert "over-fitting" in found.unknown


@pytest.mark.parametrize(("lr", "verdict"), [(3.0, "too high"), (1e-6, "too low"), (1e-3, "")])
def test_rates_are_tried_if_asked_for(lr, verdict, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(f"data: digits\nmodel: cnn-functional\noptimizer: {{learning_rate: {lr}}}\n")
    found = convscope.doctor(config, try_rates=True, progress=Progress())
    if not verdict:
        assert "learning-rate" in found.quiet
        return
    finding = found.findings["learning-rate"]
    assert finding.symptom == f"The learning rate is {verdict}."
    better = finding.remedies[0].settings["optimizer.learning_rate"]
    assert 1e-5 < better < 0.1
    check_words(found, "learning-rate")


def test_the_remedies_of_the_tutorials_way_are_one_command(frozen):
    found = doctor(frozen)
    assert {"scaling", "small-input"} <= set(found.alarms)
    assert "--image-size 160" in found.together
    assert "--set backbone.scaling=own" in found.together
