"""The search for the best classifier of a folder, with a real pretrained backbone."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from killing import at_rename, train_until_killed
from PIL import Image, ImageDraw

import convscope
from convscope.classifier.keras_model import spec_of
from convscope.errors import ConfigError, RunError
from convscope.evaluation.calibration import fit_temperature
from convscope.evaluation.predictions import read_predictions
from convscope.housekeeping.runs import runs_without_result
from convscope.planning.plan import run_config
from convscope.progress import Progress
from convscope.run import Run
from convscope.studies.executor import LocalExecutor

SMALL = {"image_size": 64, "precision": "float32", "seed": 3}
QUICK = {**SMALL, "recipe": "auto", "image_size": 32, "model": "tiny", "weights": "random"}
"""Settings where any backbone shows it."""


def make_arrows(root: Path, n_images: int) -> Path:
    """Arrows to the left and to the right on noise: in a mirror, the one becomes the other."""
    rng = np.random.default_rng(0)
    for name in ("left", "right"):
        (root / name).mkdir(parents=True)
        for index in range(n_images):
            image = Image.fromarray(rng.integers(100, 140, (96, 128, 3)).astype(np.uint8))
            side = int(rng.integers(40, 60))
            # As often on each side: by its place a mirrored arrow could be told from the others.
            x, y = rng.integers(15, (128 - 15 - side, 96 - 15 - side))
            tip, back = (x + side, x) if name == "right" else (x, x + side)
            corners = [(back, y), (tip, y + side // 2), (back, y + side)]
            colour = tuple(int(part) for part in rng.integers(180, 256, 3))
            ImageDraw.Draw(image).polygon([tuple(map(int, xy)) for xy in corners], fill=colour)
            image.save(root / name / f"{index}.png")
    return root


@pytest.fixture(scope="module")
def arrows(tmp_path_factory) -> Path:
    return make_arrows(tmp_path_factory.mktemp("photos") / "arrows", 30)


def tried_in(run: Run) -> list[dict[str, str]]:
    with run.tried_file.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def quick(arrows, tmp_path_factory) -> Run:
    """A search with time for its first candidate only."""
    out = tmp_path_factory.mktemp("runs") / "quick"
    return convscope.train(data=arrows, minutes=0.05, out=out, progress=Progress(), **SMALL)


def test_with_little_time_it_ends_in_a_run_on_the_frozen_backbone(quick, arrows):
    config = run_config(quick)
    assert (config.recipe, config.model) == ("logistic", "efficientnet_lite0")
    assert quick.status == "finished"
    (row,) = tried_in(quick)
    assert (row["candidate"], row["chosen"]) == ("frozen", "yes")
    # The validation images are few, so the run learnt from them at last.
    assert config.refit
    assert quick.metrics["weights"] == "refit"
    assert quick.metrics["val"]["accuracy"] == float(row["accuracy"])
    assert len(quick.test_openings) == 1


@pytest.mark.usefixtures("tiny_backbone")
def test_a_file_of_settings_holds_for_every_candidate(arrows, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "recipe: auto\naugment: {flip: false}\nsplit: {val_fraction: 0.3}\nimage_size: 32\n"
        "model: tiny\nweights: random\nprecision: float32\nseed: 3\n"
    )
    run = convscope.train(
        data=arrows, minutes=0.4, out=tmp_path / "run", config=file, test=False, progress=Progress()
    )
    config = run_config(run)
    assert (config.augment.flip, config.split.val_fraction, config.split.folds) == (
        False,
        0.3,
        None,
    )
    assert "mirrored" not in {row["candidate"] for row in tried_in(run)}


@pytest.mark.usefixtures("tiny_backbone")
def test_the_settings_of_another_run_leave_the_search_its_choices(quick, arrows, tmp_path):
    out = tmp_path / "run"
    again = convscope.train(
        data=arrows,
        recipe="auto",
        model="tiny",
        weights="random",
        minutes=0.05,
        out=out,
        config=quick.config_file,
        test=False,
        progress=Progress(),
    )
    assert run_config(again).image_size == 64
    assert [row["candidate"] for row in tried_in(again)] == ["frozen"]


@pytest.mark.usefixtures("tiny_backbone")
def test_auto_on_small_images_searches_on_a_backbone_that_is_named(tmp_path):
    run = convscope.train(
        data="digits",
        minutes=0.05,
        out=tmp_path / "run",
        refit=False,
        test=False,
        progress=Progress(),
        **QUICK,
    )
    assert run_config(run).model == "tiny"
    assert run.tried_file.exists()


def test_the_temperature_is_that_of_heads_of_the_folds(quick):
    found = read_predictions(quick.out_of_fold_file)[0]["out_of_fold"]
    with quick.split_file.open(newline="", encoding="utf-8") as file:
        learnt = {row["id"].removeprefix("./"): row for row in csv.DictReader(file)}
    learnt = {name: row for name, row in learnt.items() if row["split"] != "test"}
    # Each image that the refit learnt, once, with its own label.
    assert sorted(found.ids) == sorted(learnt)
    assert [int(learnt[name]["label"]) for name in found.ids] == found.labels.tolist()
    # What to expect is told from all of them.
    assert quick.metrics["folds"]["n_images"] == len(found.ids)
    assert quick.metrics["folds"]["accuracy"] == pytest.approx(found.right.mean())
    expected = fit_temperature(found.probs, found.labels)
    assert spec_of(quick, "refit").temperature == pytest.approx(expected, abs=1e-4)
    of_val = read_predictions(quick.predictions_file)[0]["val"]
    assert fit_temperature(of_val.probs, of_val.labels) != pytest.approx(expected, abs=1e-3)


@pytest.mark.usefixtures("tiny_backbone")
def test_over_views_of_an_image_the_temperature_is_that_of_their_mean(arrows, tmp_path):
    run = convscope.train(
        data=arrows,
        minutes=0.05,
        out=tmp_path / "run",
        settings={"tta.mirror": True, "tta.turn": True},
        test=False,
        progress=Progress(),
        **QUICK,
    )
    assert run.metrics["weights"] == "refit"
    # What the folds say is of each image as it is.
    assert not run.out_of_fold_file.exists()
    assert "folds" not in run.metrics
    said = read_predictions(run.predictions_file)[0]["val"]
    fitted = fit_temperature(said.probs, said.labels)
    assert spec_of(run, "refit").temperature == pytest.approx(fitted, abs=1e-4)


@pytest.mark.usefixtures("tiny_backbone")
def test_groups_stay_together_through_a_search_and_its_numbers(arrows, tmp_path):
    rows = ["file,label,scene"]
    for path in sorted(arrows.rglob("*.png")):
        name, label = path.relative_to(arrows).as_posix(), path.parent.name
        rows.append(f"{name},{label},{label}{int(path.stem) // 3}")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    labels, out = f"{tmp_path / 't.csv'}:group=scene", tmp_path / "run"
    run = convscope.train(
        data=arrows, labels=labels, minutes=0.05, out=out, progress=Progress(), **QUICK
    )
    with run.split_file.open(newline="", encoding="utf-8") as file:
        parts = {(row["group"], row["split"]) for row in csv.DictReader(file)}
    assert len(parts) == 20
    n_groups = {name: run.metrics[name]["n_groups"] for name in ("val", "test", "folds")}
    assert n_groups["val"] + n_groups["test"] < n_groups["folds"] + n_groups["test"] == 20
    (found, _) = read_predictions(run.out_of_fold_file)
    learnt = {group for group, part in parts if part != "test"}
    assert set(found["out_of_fold"].groups) == learnt


def test_nothing_of_the_search_is_left_but_its_table(quick):
    assert not quick.search_dir.exists()
    assert not quick.search_file.exists()
    assert quick.foreign_names() == set()


def test_what_it_returns_can_be_used(quick, arrows):
    (said,) = convscope.predict(quick, [arrows / "left/0.png"], progress=Progress())
    assert said.class_name in ("left", "right")


# As in a script that is started again.
@pytest.mark.parametrize("options", [{}, {"recipe": "auto", "minutes": 3}], ids=["alone", "whole"])
def test_resumed_it_is_not_trained_again_and_opens_no_test_images(quick, options):
    before = quick.test_openings, quick.weights_sha256("last"), quick.weights_sha256("refit")
    again = convscope.train(resume=quick.path, progress=Progress(), **options)
    assert before == (
        again.test_openings,
        again.weights_sha256("last"),
        again.weights_sha256("refit"),
    )


def test_its_command_repeated_after_its_end_finds_it_finished(arrows, tmp_path):
    file = tmp_path / "mine.yaml"
    # A head that learns each image as it is has neither of the two.
    file.write_text("recipe: auto\naugment: {turn: true}\nfit: pad\n")
    options = {
        "data": arrows,
        "config": file,
        "settings": {"augment.flip": True},
        "minutes": 0.05,
        "out": tmp_path / "run",
        "resume": True,
        "test": False,
        "executor": LocalExecutor(2),
        **SMALL,
    }
    run = convscope.train(progress=Progress(), **options)
    assert not run_config(run).augment.flip
    weights = run.weights_sha256("refit")
    again = convscope.train(progress=Progress(), **options)
    assert (again.status, again.weights_sha256("refit")) == ("finished", weights)
    with pytest.raises(ConfigError, match="the run has seed 3, not 4"):
        convscope.train(progress=Progress(), **{**options, "seed": 4})


def test_its_page_lists_what_was_tried(quick):
    page = convscope.report(quick, progress=Progress()).read_text()
    assert "What was tried" in page
    assert re.search(r"efficientnet_lite0 at 64 px, frozen</t[hd]>.*?chosen</td>", page, re.S)
    assert "seed 3, logistic regression, then once more on validation images too" in page
    assert "1 epochs" not in page


def test_a_folder_that_holds_a_search_is_not_taken_for_another(arrows, tmp_path):
    (tmp_path / "search.json").write_text(json.dumps({"format": 1}))
    with pytest.raises(RunError, match="continue it with: convscope train --resume"):
        convscope.train(data=arrows, out=tmp_path, progress=Progress(), **SMALL)
    with pytest.raises(RunError, match=r"search\.json is damaged"):
        convscope.train(out=tmp_path, resume=True, progress=Progress())


@pytest.mark.slow
@pytest.mark.parametrize(
    "patch",
    [
        at_rename("search.json", nth=2, when="after"),
        at_rename("snapshot.npz", nth=3, when="after"),
        at_rename("tried.csv", when="after"),
    ],
    ids=["between", "in-training", "at-the-end"],
)
def test_killed_it_goes_on_with_what_is_left(arrows, tmp_path, patch):
    out = tmp_path / "run"
    options = {"data": str(arrows), "minutes": 3, **SMALL, "image_size": 128}
    train_until_killed(out, options, patch)
    before = json.loads((out / "search.json").read_text())["tried"]
    assert Run(out).status == "killed"
    assert runs_without_result(out.parent) == []
    run = convscope.train(out=out, resume=True, progress=Progress())
    rows = tried_in(run)
    assert [row["candidate"] for row in rows[: len(before)]] == [row["candidate"] for row in before]
    assert [float(row["seconds"]) for row in rows[: len(before)]] == [
        row["seconds"] for row in before
    ]
    assert run.status == "finished"
    assert not run.search_dir.exists()
    # Arrows that are mirrored are of the other class.
    config = run_config(run)
    assert not config.augment.flip
    assert {"mirrored images raise the held-out loss"} == {
        row["note"] for row in rows if row["candidate"] == "mirrored"
    }


@pytest.mark.slow
def test_small_images_are_learnt_from_scratch_too_and_both_are_compared(tmp_path):
    run = convscope.train(
        data="digits", recipe="auto", minutes=4, out=tmp_path / "run", progress=Progress()
    )
    rows = {row["candidate"]: row for row in tried_in(run)}
    assert float(rows["frozen"]["accuracy"]) > 0.95
    assert float(rows["from-scratch"]["accuracy"]) > 0.95
    losses = [float(rows[name]["loss"]) for name in ("from-scratch", "frozen")]
    # Digits are no photos.
    assert losses[0] < losses[1]
    assert rows["from-scratch"]["chosen"] == "yes"
    config = run_config(run)
    assert (config.recipe, config.image_size, config.refit) == ("fast", None, True)
    assert run.metrics["test"]["accuracy"] > 0.97
