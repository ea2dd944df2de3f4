"""The data of settings, loaded once for many runs."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convscope.datasets.division.splits import write_split
from convscope.errors import DataError
from convscope.planning.data import load_for, load_of_run, load_once
from convscope.progress import Progress
from convscope.recipe import RunConfig


class Listening(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def test_what_is_said_of_images_is_said_once_for_all_folds(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 10, 8, 8, 3), dtype=np.uint8)
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        for number, image in enumerate(pixels[label]):
            Image.fromarray(image).save(tmp_path / name / f"{number}.png")
        Image.fromarray(pixels[label, 0]).save(tmp_path / name / "copy.png")
    config = RunConfig(data="folder", data_path=str(tmp_path), image_size=8)
    listening = Listening()
    load = load_once(None, listening)
    parts = []
    for fold in (0, 1):
        if fold:
            # What was read for the first is divided anew.
            shutil.rmtree(tmp_path)
        split = config.split.model_copy(update={"folds": 2, "fold": fold})
        val = load(config.model_copy(update={"split": split})).val
        assert val is not None
        parts.append(set(val.ids))
    assert parts[0] & parts[1] == set()
    assert len([line for line in listening.lines if "cop" in line]) == 1, listening.lines


def test_frames_in_training_and_validation_are_said_once_with_what_keeps_them_together(
    tmp_path: Path,
) -> None:
    chance = np.random.default_rng(0)
    for clip in range(40):
        wide = Image.fromarray(chance.integers(0, 256, (6, 9, 3), dtype=np.uint8))
        wide = wide.resize((72, 48), Image.Resampling.BICUBIC)
        place = tmp_path / ("cat", "dog")[clip % 2]
        place.mkdir(exist_ok=True)
        for frame in range(8):
            view = wide.crop((2 * frame, 0, 2 * frame + 48, 48))
            view.save(place / f"clip{clip}-{frame}.png")
    config = RunConfig(data="folder", data_path=str(tmp_path), image_size=32)
    for group, n_said in ((None, 1), ("(.*[^0-9])[0-9]+[.]", 0)):
        listening = Listening()
        load = load_once(None, listening)
        for seed in (1, 2):
            split = config.split.model_copy(update={"seed": seed, "group": group})
            load(config.model_copy(update={"split": split}))
        said = [line for line in listening.lines if "neighbours by name" in line]
        assert len(said) == n_said
        assert all(
            "--set split.group='(.*[^0-9])[0-9]+[.]', which keeps each" in line for line in said
        )


def test_near_copies_in_training_and_validation_are_said_with_what_keeps_them_together(
    tmp_path: Path,
) -> None:
    chance = np.random.default_rng(0)
    numbers = chance.permutation(240)
    for thing in range(60):
        wide = Image.fromarray(chance.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        place = tmp_path / ("cat", "dog")[thing % 2]
        place.mkdir(exist_ok=True)
        for shot in range(4):
            view = wide.resize((80, 80), Image.Resampling.BICUBIC).crop((shot, 0, shot + 72, 72))
            # A name that tells nothing: what is beside it shows something else.
            view.save(place / f"{numbers[4 * thing + shot]:03d}.png")
    config = RunConfig(data="folder", data_path=str(tmp_path), image_size=72)
    for near_copies, n_said in ((False, 1), (True, 0)):
        listening = Listening()
        load = load_once(None, listening)
        split = config.split.model_copy(update={"near_copies": near_copies})
        dataset = load(config.model_copy(update={"split": split}))
        said = [line for line in listening.lines if "nearly the same as a training image" in line]
        assert len(said) == n_said, listening.lines
        assert all("train with --set split.near_copies=true, which" in line for line in said)
    assert "folder: 240 images have near copies, and are in a group with them" in (
        line.replace(tmp_path.name, "folder") for line in listening.lines
    )
    # A run of another size has the same parts.
    smaller = load(config.model_copy(update={"split": split, "image_size": 24}))
    assert smaller.train.ids.tolist() == dataset.train.ids.tolist()


def test_the_address_that_a_run_names_is_said_before_it_is_opened() -> None:
    pytest.importorskip("fsspec")
    config, listening = RunConfig(data="shards", data_path="memory://nobody/here"), Listening()
    for _ in range(2):
        with pytest.raises(DataError, match="there is no sharded set at memory://nobody/here"):
            load_of_run(config, None, None, None, None, listening)
    assert listening.lines == ["Images of the run: memory://nobody/here"]


def test_groups_of_a_run_are_those_that_it_recorded_and_its_pattern_is_not_run(tmp_path) -> None:
    rng = np.random.default_rng(0)
    photos, split_file = tmp_path / "photos", tmp_path / "split.csv"
    for name in ("cat", "dog"):
        (photos / name).mkdir(parents=True)
        for number in range(12):
            image = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            image.save(photos / name / f"video{number // 3}-{number}.png")
    config = RunConfig(data="folder", data_path=str(photos), image_size=8)
    split = config.split.model_copy(update={"group": "(.*)-"})
    before = load_for(config.model_copy(update={"split": split}), None, Progress())
    write_split(before, split_file)
    # It would be refused, since it matches no name; one of another person may match for hours.
    theirs = config.model_copy(update={"split": split.model_copy(update={"group": "none"})})
    again = load_of_run(theirs, split_file, None, None, None, Progress())
    for name, part in before.parts.items():
        assert part.ids.tolist() == again.parts[name].ids.tolist()
        assert part.groups is not None
        assert part.groups.tolist() == again.parts[name].groups.tolist()
    split_file.unlink()
    with pytest.raises(DataError, match=r"split\.csv is missing or damaged"):
        load_of_run(theirs, split_file, None, None, None, Progress())
