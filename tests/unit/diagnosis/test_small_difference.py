"""When a lead over the runs beside it is called what chance may have made."""

import dataclasses
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convscope.datasets.division.splits import COLUMNS
from convscope.diagnosis import Finding
from convscope.diagnosis.case import Case
from convscope.diagnosis.small_difference import small_difference
from convscope.evaluation.predictions import read_predictions, save_predictions
from convscope.planning.plan import run_config
from convscope.recipe import Recipe, RunConfig, dump_config, resolve
from convscope.run import Run
from convscope.studies.comparison.arms import names_of
from convscope.types import Predictions

N_IMAGES = 2000
RIGHT = np.random.default_rng(0).random(N_IMAGES)


def run(
    folder: Path, name: str, rate: float, seed: int, accuracy: float, **settings: Any
) -> tuple[Run, RunConfig]:
    """Write what the trap reads of a run, right on about so many of the test images."""
    config = resolve(Recipe(), {"optimizer.learning_rate": rate, "seed": seed}, settings)
    made = Run(folder / name)
    made.path.mkdir(parents=True)
    made.config_file.write_text(dump_config(config))
    Run.write_json(made.state_file, {"created": name})
    noise = np.random.default_rng(seed + int(1e6 * rate)).normal(0, 0.03, N_IMAGES)
    right = RIGHT + noise < accuracy
    probs = np.where(right[:, None], [0.9, 0.1], [0.1, 0.9]).astype(np.float32)
    ids = np.array([f"{i:05}" for i in range(N_IMAGES)])
    said = Predictions(probs, np.zeros(N_IMAGES, int), ids, "test")
    save_predictions({"test": said}, ["a", "b"], made.predictions_file, about={})
    return made, config


def finding(folder: Path, a: dict[int, float], b: dict[int, float]) -> Finding | None:
    """Ask about the first run of B, beside those of A: accuracies by seed."""
    for seed, accuracy in a.items():
        run(folder, f"a{seed}", 0.001, seed, accuracy)
    made = [run(folder, f"b{seed}", 0.002, seed, accuracy) for seed, accuracy in b.items()]

    def none() -> None:
        raise AssertionError("no network is needed")

    first, config = made[0]
    return small_difference(Case(config, "", first, None, lambda _: none(), none))


def test_a_run_each_that_the_images_tell_apart_may_still_be_luck(tmp_path):
    found = finding(tmp_path, {83: 0.70}, {83: 0.73})
    assert found.symptom == "Not shown to be better than a83."
    assert "one run each: a difference of 3." in found.evidence
    assert "the choice of images alone accounts for up to" in found.evidence
    assert found.evidence.endswith("and another seed for up to 5.")
    *training, compare = [shlex.split(remedy.command) for remedy in found.remedies]
    assert [(words[1], words[-2:]) for words in training] == [("train", ["--seed", "84"])] * 2
    assert {Path(words[3]).parent.name for words in training} == {"a83", "b83"}
    assert [Path(word).name for word in compare[2:]] == ["b83", "a83"]


def test_a_run_each_that_no_seeds_set_so_far_apart_is_no_trap(tmp_path):
    assert finding(tmp_path, {83: 0.70}, {83: 0.80}) is None


def test_runs_that_differ_in_their_seed_alone_count_together(tmp_path):
    few = finding(tmp_path / "few", {83: 0.70, 84: 0.72, 85: 0.68}, {83: 0.72, 84: 0.68, 85: 0.73})
    assert "means over 3 and 3 seeds" in few.evidence
    assert few.remedies[0].command.split()[1] == "compare"
    # The same lead, over seeds that hardly spread.
    near = {83: 0.700, 84: 0.701, 85: 0.699}
    assert finding(tmp_path / "shown", near, {83: 0.73, 84: 0.731, 85: 0.729}) is None


def test_one_run_beside_several_borrows_their_spread(tmp_path):
    wide = {83: 0.70, 84: 0.72, 85: 0.68}
    assert "1 and 3 seeds" in finding(tmp_path / "wide", wide, {90: 0.73}).evidence
    near = {83: 0.700, 84: 0.701, 85: 0.699}
    assert finding(tmp_path / "near", near, {90: 0.73}) is None


@pytest.mark.parametrize("n_others", [0, 1])
def test_other_seeds_of_the_same_way_are_no_other_way(tmp_path, n_others):
    assert finding(tmp_path, {}, {83 + k: 0.7 for k in range(n_others + 1)}) is None


def test_runs_with_other_groups_are_not_compared(tmp_path):
    run(tmp_path, "a83", 0.001, 83, 0.70)
    made, config = run(tmp_path, "b83", 0.002, 83, 0.71)
    said = read_predictions(made.predictions_file)[0]["test"]
    groups = np.array([f"{number // 10}" for number in range(N_IMAGES)])
    grouped = dataclasses.replace(said, groups=groups)
    save_predictions({"test": grouped}, ["a", "b"], made.predictions_file, about={})
    assert small_difference(Case(config, "", made, None, lambda _: None, lambda: None)) is None


@pytest.mark.parametrize(
    ("settings", "digest", "n_seeds"),
    [
        ({"weights": "/elsewhere", "backend": "jax"}, "1", 2),
        ({"data_path": "/new/photos"}, "1", 2),
        ({"data_path": "/new/photos"}, "2", 1),
    ],
    ids=["other tools", "moved images", "other images"],
)
def test_a_configuration_is_the_same_wherever_its_files_are(tmp_path, settings, digest, n_seeds):
    place = {"data": "folder", "data_path": "/old/photos"}
    made, config = run(tmp_path, "first", 0.002, 83, 0.72, **place)
    again, _ = run(tmp_path, "again", 0.002, 84, 0.70, **{**place, **settings})
    other, _ = run(tmp_path, "other", 0.001, 83, 0.71, **place)
    for each, its in ((made, "1"), (again, digest), (other, "1")):
        rows = f"{','.join(COLUMNS)}\n00000,0,a,test,{its}\n"
        each.split_file.write_text(rows)
    found = small_difference(Case(config, "", made, None, None, None))
    counts = "one run each" if n_seeds == 1 else f"means over {n_seeds} and 1 seeds"
    assert counts in found.evidence
    paths = shlex.split(next(r.command for r in found.remedies if "compare" in r.command))[2:]
    assert len(set(names_of([run_config(Run(Path(path))) for path in paths]))) == 2
