"""What the form of a training begins with, and the command for it."""

import itertools
import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from convscope.recipe import parse_setting, read_run_config
from convscope.run import Run
from convscope.studio.wish import AUTO, Wish, as_before, placed, typed
from convscope.studio.workplace import Workplace

OLD_RUN = Path(__file__).parents[2] / "data" / "run-of-version-0.1"


@pytest.fixture
def place(tmp_path):
    shutil.copytree(OLD_RUN, tmp_path / "runs" / "old")
    return Workplace(tmp_path / "runs")


def begun_by(place: Workplace, name: str, *words: str) -> None:
    """Write the folder of a job of the studio that trained the run "old"."""
    folder = place.own / "jobs" / name
    folder.mkdir(parents=True)
    order = {"words": ["train", *words], "kind": "train", "run": str(place.root / "old")}
    (folder / "job.json").write_text(json.dumps(order))


def test_a_training_like_another_has_all_of_its_settings(place):
    config = read_run_config(place.root / "old" / "config.yaml")
    wish = as_before(place, "old")
    wish.data, wish.labels = "photos", "new.csv"
    assert (wish.recipe, wish.model) == (config.recipe, config.model)
    assert wish.epochs == config.epochs
    assert not wish.sealed
    file = place.root / "old" / "config.yaml"
    assert wish.words(Path("o")) == [
        *("train", "--data", "photos", "--labels", "new.csv", "--config", str(file)),
        *("--epochs", str(config.epochs), "--out", "o"),
    ]
    assert place.new_run(wish.stem()).name == "old-2"
    # Those of another recipe are its own.
    wish.recipe = "fast"
    assert wish.words(Path("o"))[5:9] == ["--recipe", "fast", "--model", config.model]
    assert not wish.is_like


def test_a_search_begins_with_its_time(place):
    begun_by(place, "20260101-0-train", "--data", "x", "--minutes", "12", "--no-test")
    begun_by(place, "20260102-0-train", "--resume", "old")
    Run(place.root / "old").metrics_file.write_text('{"val": {"accuracy": 0.5}}')
    wish = as_before(place, "old")
    assert (wish.recipe, wish.minutes, wish.sealed) == (AUTO, 12, True)
    assert "--config" not in wish.words(Path("o"))


def test_a_search_of_the_command_line_is_known_by_its_table(place):
    Run(place.root / "old").tried_file.write_text("candidate\n")
    assert as_before(place, "old").recipe == AUTO


def test_where_a_run_cannot_be_read_the_form_is_the_usual_one(place):
    assert as_before(place, "../old") == as_before(place, "none") == Wish()
    (place.root / "old" / "config.yaml").write_text(yaml.safe_dump({"nonsense": 1}))
    assert as_before(place, "old") == Wish()


def test_a_search_without_a_time_is_not_begun_with_another_one():
    wish = Wish("digits", minutes=None)
    assert wish.problem() == "Give the minutes that the search may take."
    assert "--minutes" not in wish.words(Path("o"))
    wish.recipe = "fast"
    assert wish.problem() == ""


def test_all_data_that_train_takes_may_be_wanted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "photos" / name).touch()
    (tmp_path / "list.csv").write_text("img,kind\nphotos/a.png,x\nphotos/b.png,y\n")
    table = str(tmp_path / "list.csv:file=img,label=kind")
    for data in ("digits", "photos", str(tmp_path / "photos"), table, "s3://bucket/photos"):
        assert Wish(data, recipe="fast").problem() == ""
    assert Wish("photos", labels=table, recipe="fast").problem() == ""
    for data in ("nothing", "./nothing", str(tmp_path / "nothing.zip")):
        problem = Wish(data, recipe="fast").problem()
        assert re.search("unknown dataset|There is no folder, archive or dataset", problem)
    assert "there is no table none.csv" in Wish("photos", labels="none.csv").problem()
    assert "digits has its own labels" in Wish("digits", labels=table).problem()


def test_blanks_around_a_name_are_no_part_of_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert typed(" digits ") == "digits"
    (tmp_path / "photos ").mkdir()
    assert typed("photos ") == "photos "
    assert typed(None) == ""


def test_groups_of_images_are_a_setting_of_every_training():
    for wish in (Wish("photos", group="(.*)/"), Wish("photos", group="(.*)/", recipe="fast")):
        words = wish.words(Path("o"))
        assert words[words.index("--set") + 1] == "split.group=(.*)/"
    assert "--set" not in Wish("photos").words(Path("o"))


def test_near_copies_in_one_part_are_a_setting_of_every_training_and_can_be_undone(place):
    for recipe in ("auto", "fast"):
        assert set_in(Wish("photos", near_copies=True, recipe=recipe)) == {
            "split.near_copies": True
        }
    file = place.root / "old" / "config.yaml"
    settings = yaml.safe_load(file.read_text())
    settings["split"]["near_copies"] = True
    file.write_text(yaml.safe_dump(settings))
    wish = as_before(place, "old")
    assert set_in(wish) == {"split.near_copies": True}
    wish.near_copies = False
    assert set_in(wish) == {"split.near_copies": False}


def in_groups(place: Workplace, **more: object) -> None:
    """Give the run "old" groups, and further settings."""
    file = place.root / "old" / "config.yaml"
    settings = yaml.safe_load(file.read_text())
    settings["split"]["group"] = "(.*)/"
    file.write_text(yaml.safe_dump({**settings, **more}))


def test_what_was_emptied_is_undone_in_a_training_like_another(place):
    in_groups(place, data="folder", data_path="photos", labels="labels.csv")
    wish = as_before(place, "old")
    wish.data, wish.labels = "photos", "labels.csv"
    assert set_in(wish) == {"split.group": "(.*)/"}
    wish.group = ""
    assert set_in(wish) == {"split.group": None}
    wish.labels = ""
    assert set_in(wish) == {"split.group": None, "labels": None}
    # The settings of that run do not count any more.
    wish.recipe = "fast"
    assert set_in(wish) == {}


def test_a_pattern_that_yaml_takes_for_a_list_is_quoted():
    assert set_in(Wish("photos", group="[^_]*_")) == {"split.group": "[^_]*_"}


def set_in(wish: Wish) -> dict[str, object]:
    """Return what the command of a wish sets with --set, as it is read."""
    pairs = itertools.pairwise(wish.words(Path("o")))
    return dict(parse_setting(word) for option, word in pairs if option == "--set")


def test_a_training_after_another_keeps_its_groups(place):
    in_groups(place)
    assert as_before(place, "old").group == "(.*)/"
    begun_by(place, "20260101-0-train", "--data", "x", "--minutes", "12")
    again = as_before(place, "old")
    assert (again.recipe, again.group) == (AUTO, "(.*)/")


def test_what_is_typed_means_the_same_in_another_folder(tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    (tmp_path / "digits").mkdir()
    (tmp_path / "a b.csv").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLACE", str(tmp_path))
    photos, table = str(tmp_path / "photos"), str(tmp_path / "a b.csv")
    assert placed(" photos ") == placed("$PLACE/photos") == placed(photos) == photos
    assert (placed("a b.csv"), placed("a b.csv:label=x")) == (table, f"{table}:label=x")
    # Datasets, addresses, a table in the folder of the images, and what is not there.
    for given in ("digits", "s3://bucket/birds", "labels.csv:label=x", "$NONE/x", "x:separator=?"):
        assert placed(given) == given
    assert placed(None) == placed(" ") == ""
