"""A folder with a class of two images and with copies: trained, judged and reported honestly."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import convscope
from convscope.api.report import report
from convscope.cli._main import main
from convscope.progress import Progress
from convscope.run import Run

UNKNOWN = "no validation and no test image of class 'owl'; its score is unknown"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Sixty images in pairs of copies, and two owls."""
    root = tmp_path_factory.mktemp("small") / "birds"
    rng = np.random.default_rng(0)
    for label, (name, count) in enumerate({"eagle": 15, "finch": 15, "owl": 2}.items()):
        (root / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 90, (12, 12, 3), dtype=np.uint8)
            pixels[:, 4 * label : 4 * label + 3] = 230
            Image.fromarray(pixels).save(root / name / f"{number}.png")
            if name != "owl":
                # Other bytes, the same pixels.
                Image.fromarray(pixels).save(root / name / f"{number} copy.bmp")
    return root


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory) -> tuple[Run, str, str]:
    out = tmp_path_factory.mktemp("small-runs") / "run"
    arguments = ["--data", folder, "--model", "cnn-sequential", "--epochs", 2]
    arguments += ["--precision", "float32", "--out", out]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONVSCOPE_CACHE", str(tmp_path_factory.mktemp("small-cache")))
        code, printed, told = command(patch, "train", *arguments)
    assert code == 0
    return Run(out), printed, told


def command(patch, *arguments) -> tuple[int, str, str]:
    import contextlib
    import io

    patch.setattr(sys, "argv", ["convscope", *map(str, arguments)])
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as stopped,
    ):
        main()
    return int(stopped.value.code or 0), out.getvalue(), err.getvalue()


def test_it_is_said_at_the_split_and_in_the_summary(trained):
    _, printed, told = trained
    assert f"birds: {UNKNOWN}" in told
    assert "birds: 30 images are copies of another; copies are kept together in one part" in told
    assert UNKNOWN in printed.splitlines()
    assert "owl (F1" not in printed


def test_no_copy_of_a_test_image_was_learnt(trained):
    run, _, _ = trained
    rows = [line.split(",") for line in run.split_file.read_text().splitlines()[1:]]
    parts: dict[str, set[str]] = {"train": set(), "val": set(), "test": set()}
    for _, _, _, part, digest in rows:
        parts[part].add(digest)
    assert sum(map(len, parts.values())) == len({digest for *_, digest in rows}) == 32
    assert min(map(len, parts.values())) > 2


def test_the_metrics_know_no_score_of_it(trained):
    metrics = trained[0].metrics
    for part in ("val", "test"):
        assert metrics[part]["missing_classes"] == ["owl"]
        assert metrics[part]["balanced_accuracy"] is None
        assert metrics[part]["per_class"]["owl"]["f1"] is None


def test_the_page_and_the_card_say_so(trained):
    run, _, _ = trained
    page = report(run, progress=Progress()).read_text(encoding="utf-8")
    card = run.card_file.read_text(encoding="utf-8")
    line = UNKNOWN[0].upper() + UNKNOWN[1:]
    assert line.replace("'", "&#39;") in page
    assert line in card
    assert "owl (F1" not in card
    row = next(each for each in card.splitlines() if each.startswith("| owl"))
    assert row.count("unknown") == 3


def test_every_class_is_listed_and_that_one_is_not_known(trained):
    run, _, _ = trained
    with pytest.MonkeyPatch.context() as patch:
        code, printed, _ = command(patch, "evaluate", run.path)
    assert code == 0
    row = next(line for line in printed.splitlines() if line.startswith("owl"))
    assert row.split() == ["owl", *["unknown"] * 3, "0"]


def test_a_run_of_an_earlier_version_keeps_its_split_and_goes_on(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("CONVSCOPE_CACHE", str(tmp_path / "cache"))
    run = convscope.train(
        "cnn-sequential",
        data=folder,
        precision="float32",
        epochs=1,
        settings={"split.version": 1},
        out=tmp_path / "run",
        progress=Progress(),
    )
    before = run.split_file.read_text()
    settings = yaml.safe_load(run.config_file.read_text())
    # As it was written when there was no such choice.
    del settings["split"]["version"], settings["split"]["fold_as"]
    run.config_file.write_text(yaml.safe_dump({**settings, "format": 2}))
    longer = convscope.train(out=run.path, epochs=2, resume=True, progress=Progress())
    assert longer.split_file.read_text() == before
    assert len(longer.results_file.read_text().splitlines()) == 1 + 2
    convscope.evaluate(run, fresh=True, progress=Progress())
    again = yaml.safe_load(run.config_file.read_text())
    assert (again["format"], again["split"]["version"]) == (3, 1)
    # Its copies lie on both sides, as they did; a new run's do not.
    digests = {part: set() for part in ("train", "val", "test")}
    for line in before.splitlines()[1:]:
        digests[line.split(",")[3]].add(line.split(",")[4])
    assert digests["train"] & digests["test"]
    shutil.rmtree(run.path)
