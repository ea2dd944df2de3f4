"""Test images are opened seldom and never unseen: each look is written down and said."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convscope
from convscope.api.report import report
from convscope.diagnosis.case import Case
from convscope.ledger import Ledger
from convscope.planning.plan import run_config
from convscope.progress import Progress
from convscope.run import Run
from convscope.storage import cache_dir

# Three batches of the digits that are alike: with a smaller last one, each run is traced twice.
QUICK = {"model": "cnn-sequential", "epochs": 1, "precision": "float32", "batch_size": 383}


class Listener(Progress):
    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)

    @property
    def judged(self):
        return [line for line in self.lines if "evaluated for the" in line]


@pytest.fixture
def photos(tmp_path):
    """Forty images of two classes and two sizes, so that --image-size changes the pixels."""
    rng = np.random.default_rng(0)
    for name in ("left", "right"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(20):
            side = 20 + index % 2
            pixels = rng.integers(0, 255, (side, side, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{index}.png")
    return tmp_path / "photos"


def train(out, listener=None, **options) -> Run:
    return convscope.train(out=out, progress=listener or Progress(), **{**QUICK, **options})


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> tuple[Path, Listener]:
    """A folder with two runs on the same images and their cache; and what they said."""
    folder, listener = tmp_path_factory.mktemp("two"), Listener()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONVSCOPE_CACHE", str(folder / "cache"))
        for number in (1, 2):
            train(folder / f"{number}", listener, data="digits", seed=number)
    return folder, listener


def test_each_training_says_how_often_its_test_images_have_been_judged(two):
    folder, listener = two
    assert listener.judged == [
        "These 360 test images are evaluated for the first time on this machine.",
        "These 360 test images are evaluated for the 2nd time on this machine.",
    ]
    opening = Run(folder / "2").test_openings[0]
    assert (opening["by"], opening["times"]) == ("train", 2)


@pytest.mark.slow
def test_neither_another_split_nor_another_size_is_a_clean_slate(tmp_path, photos):
    listener = Listener()
    train(tmp_path / "a", listener, data=photos, image_size=16)
    train(tmp_path / "b", listener, data=photos, image_size=12)
    assert listener.judged[1:] == [
        "These 8 test images are evaluated for the 2nd time on this machine."
    ]
    for seed in range(1, 4):
        settings = {"split.seed": seed}
        train(tmp_path / f"c{seed}", listener, data=photos, image_size=16, settings=settings)
    assert "for the 3rd time" in " ".join(listener.judged[2:])


def test_sealed_training_opens_nothing(tmp_path):
    run = train(tmp_path / "run", data="digits", test=False)
    assert run.state.get("test_openings") is None
    assert Ledger().looks == []
    # Nor what follows from it: more epochs, a command that the doctor names.
    convscope.train(resume=run.path, epochs=2, progress=Progress())
    assert (run.state["test"], run.state.get("test_openings")) == (False, None)
    case = Case(run_config(run), "c.yaml", run, dict, lambda _: {}, dict)
    remedy = case.again("train longer", {"epochs": 3})
    assert remedy.command == "convscope train --config c.yaml --no-test --epochs 3"
    # Unless that is wished.
    convscope.train(resume=run.path, epochs=3, test=True, progress=Progress())
    assert [opening["by"] for opening in run.state["test_openings"]] == ["train"]
    assert "--no-test" not in case.again("train longer", {"epochs": 4}).command


def copied(two, tmp_path, monkeypatch) -> Path:
    """Return a copy of the folder with two runs, whose cache is the one in use."""
    folder = shutil.copytree(two[0], tmp_path / "two")
    monkeypatch.setenv("CONVSCOPE_CACHE", str(folder / "cache"))
    return folder


def test_looking_at_test_images_is_logged_too(two, tmp_path, monkeypatch):
    listener = Listener()
    run = Run(copied(two, tmp_path, monkeypatch) / "1")
    convscope.gallery(run, n=2, progress=listener)
    assert len(run.state["test_openings"]) == 1, "validation images are no secret"
    convscope.gallery(run, split="test", n=2, progress=listener)
    assert "they have been evaluated 2 times on this machine" in listener.lines[-1]
    report(run, progress=Progress())
    convscope.robustness(
        run, split="test", corruptions=["contrast"], severities=[1], n_images=20, progress=listener
    )
    assert listener.judged == [
        "These 360 test images are evaluated for the 3rd time on this machine."
    ]
    logged = [(o["by"], o.get("shown", False)) for o in run.state["test_openings"]]
    assert logged == [
        ("train", False),
        ("gallery", True),
        ("report", True),
        ("robustness", False),
    ]
    assert [(look["by"], look["kind"]) for look in Ledger().looks] == [
        ("train", "judged"),
        ("train", "judged"),
        ("gallery", "shown"),
        ("report", "shown"),
        ("robustness", "judged"),
    ]
    assert [o["by"] for o in run.test_openings] == ["train", "robustness"]


def test_page_and_card_say_how_often(two, tmp_path, monkeypatch):
    folder = copied(two, tmp_path, monkeypatch)
    first, second = Run(folder / "1"), Run(folder / "2")
    report(first, progress=Progress())
    for file in (first.report_page, first.card_file):
        assert "Its test images were evaluated 2 times on the machine" in file.read_text()
    (cache_dir() / "ledger" / "looks.jsonl").unlink()
    (cache_dir() / "ledger" / "images").rename(cache_dir() / "elsewhere")
    report(second, progress=Progress())
    assert "This was evaluation number 2 of its test images" in second.card_file.read_text()


def test_a_ledger_that_cannot_be_written_stops_no_judging(tmp_path):
    cache_dir().mkdir(exist_ok=True)
    (cache_dir() / "ledger").write_text("in the way")
    listener = Listener()
    run = train(tmp_path / "run", listener, data="digits")
    assert len(run.test_openings) == 1
    assert "times" not in run.test_openings[0]
    assert any("cannot be counted on this machine" in line for line in listener.lines)
    assert json.loads(run.metrics_file.read_text())["test"]["n_images"] == 360
