"""Wrong labels that were put among right ones are found."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convscope
from convscope.errors import ConfigError, RunError
from convscope.progress import Progress
from convscope.studies.executor import LocalExecutor
from convscope.studies.suspects import Suspicions

OPTIONS = {
    "folds": 2,
    "settings": {"image_size": 8, "epochs": 8, "precision": "float32"},
    "progress": Progress(),
}


@pytest.fixture(scope="module")
def mislabelled(tmp_path_factory) -> tuple[Path, set[str]]:
    """A thousand digits in a folder, 40 of them under a wrong name."""
    folder, rng = tmp_path_factory.mktemp("digits") / "digits", np.random.default_rng(2)
    train = convscope.load("digits", progress=Progress()).train
    n_images = 1000
    wrong = set(rng.choice(n_images, 40, replace=False).tolist())
    names = set()
    for index, image, label in zip(range(n_images), train.images, train.labels, strict=False):
        given = (label + rng.integers(1, 10)) % 10 if index in wrong else label
        place = folder / str(given)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.squeeze()).save(place / f"{index}.png")
        if index in wrong:
            names.add(f"{given}/{index}.png")
    return folder, names


@pytest.fixture(scope="module")
def searched(mislabelled, tmp_path_factory) -> tuple[Suspicions, set[str], Path]:
    folder, wrong = mislabelled
    out = tmp_path_factory.mktemp("search") / "suspects"
    # In this process: one for each fold would take longer than the training.
    here = LocalExecutor(own_process=False)
    return convscope.suspects(folder, out=out, executor=here, **OPTIONS), wrong, folder


def test_most_wrong_labels_are_found_and_few_right_ones_doubted(searched):
    found, wrong, _ = searched
    # A fifth of the folder's images was set aside for the test, and is not looked at.
    with found.table_file.open() as file:
        doubted = {row["image_id"] for row in csv.DictReader(file)}
    assert doubted == {each.image_id for each in found.suspects}
    hits = doubted & wrong
    assert len(hits) >= 0.5 * len(wrong)
    assert len(hits) >= 0.7 * len(doubted)
    assert {each.image_id for each in found.suspects[:10]} <= wrong
    assert found.picture.exists()
    assert found.accuracy > 0.9


def test_again_nothing_is_trained_and_the_same_is_found(searched):
    found, _, folder = searched
    before = [path.stat().st_mtime_ns for path in sorted(found.path.glob("folds/*/weights/*"))]
    again = convscope.suspects(folder, out=found.path, **OPTIONS)
    assert again == found
    after = [path.stat().st_mtime_ns for path in sorted(found.path.glob("folds/*/weights/*"))]
    assert after == before


def test_what_cannot_be_is_refused(searched, mislabelled, tmp_path):
    found, _, folder = searched
    with pytest.raises(RunError, match=r"wrong labels with .*split\.folds 2, not 4"):
        convscope.suspects(folder, out=found.path, **{**OPTIONS, "folds": 4})
    for key, why in (
        ("fold", "each fold is held out in turn"),
        ("fold_as", "each fold is held out in turn"),
        ("folds", "there is the option --folds"),
    ):
        for settings in ({f"split.{key}": 1}, {"split": {key: 1}}):
            with pytest.raises(ConfigError, match=rf"^'split\.{key}' cannot be .*: {why}$"):
                convscope.suspects(folder, **{**OPTIONS, "settings": settings})


def test_after_a_correction_the_search_has_a_folder_of_its_own(
    mislabelled, tiny_backbone, tmp_path, monkeypatch
):
    folder, wrong = mislabelled
    shutil.copytree(folder, tmp_path / "digits")
    monkeypatch.chdir(tmp_path)

    def searched_in() -> Path:
        options = {"folds": 2, "settings": {"weights": "random"}, "progress": Progress()}
        found = convscope.suspects("digits/", model=tiny_backbone, recipe="logistic", **options)
        assert found.table_file.exists()
        return found.path

    first = searched_in()
    assert first == Path("runs/suspects-digits-tiny")
    table = (first / "suspects.csv").read_text()
    assert searched_in() == first
    name = min(wrong)
    (tmp_path / "digits" / name).rename(tmp_path / "digits/0" / "corrected.png")
    assert searched_in() == Path("runs/suspects-digits-tiny-2")
    assert (first / "suspects.csv").read_text() == table


def test_a_place_to_train_is_refused_for_heads_on_a_frozen_backbone(tiny_backbone, tmp_path):
    with pytest.raises(ConfigError, match="--ray and --threads have no effect here: tiny is froz"):
        convscope.suspects(
            "digits",
            model=tiny_backbone,
            recipe="logistic",
            settings={"weights": "random"},
            out=tmp_path / "out",
            executor=LocalExecutor(2),
            progress=Progress(),
        )
    assert not (tmp_path / "out").exists()


def test_validation_images_of_a_folder_are_checked_too(mislabelled, tmp_path):
    folder, _ = mislabelled
    for name in "12":
        for part in ("train", "val"):
            place = tmp_path / "parts" / part / name
            place.mkdir(parents=True)
            for path in sorted((folder / name).iterdir())[:40]:
                shutil.copy(path, place)
    found = convscope.suspects(
        tmp_path / "parts",
        out=tmp_path / "out",
        executor=LocalExecutor(own_process=False),
        # The kind of network does not matter here, and this one begins sooner.
        model="cnn-functional",
        **{**OPTIONS, "settings": {"image_size": 8, "epochs": 1, "precision": "float32"}},
    )
    n_files = sum(1 for path in (tmp_path / "parts").rglob("*.png"))
    # A fifth is set aside for the test; of each pair of copies, only one or both.
    assert 0.7 * n_files < found.n_images < 0.9 * n_files
    table = [path.read_text() for path in found.path.glob("folds/*/split.csv")]
    assert len(table) == 2
    for text in table:
        parts = {tuple(line.split(",")[i] for i in (0, 3)) for line in text.splitlines()[1:]}
        assert any(name.startswith("val/") and part == "train" for name, part in parts)
        assert any(name.startswith("train/") and part == "val" for name, part in parts)
