"""What --data and --labels stand for."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convscope
from convscope.datasets.source import data_settings, moved, settled_labels, words_of
from convscope.errors import ConfigError, DataError, UnknownNameError
from convscope.progress import Progress
from convscope.recipe import RunConfig


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder `photos/pictures` of images, with tables in it, above it and elsewhere."""
    root = tmp_path / "photos" / "pictures"
    root.mkdir(parents=True)
    for name in ("a.jpg", "b.jpg"):
        (root / name).touch()
    (tmp_path / "elsewhere").mkdir()
    for place in (root, root.parent, tmp_path / "elsewhere"):
        (place / "labels.csv").write_text("file,label\na,x\nb,y\n")
    monkeypatch.chdir(tmp_path)
    return root


def test_names_and_folders() -> None:
    assert data_settings("digits") == {"data": "digits", "data_path": None, "labels": None}
    here = str(Path.cwd().resolve())
    assert data_settings(".") == {"data": "folder", "data_path": here}
    with pytest.raises(UnknownNameError, match="did you mean 'digits'"):
        data_settings("digit")
    with pytest.raises(ConfigError, match="digits has its own labels"):
        data_settings("digits", "labels.csv")


def test_what_is_no_path_is_refused_in_one_line(photos: Path) -> None:
    with pytest.raises(ConfigError, match=r"^labels is of type dict; give the path of a table"):
        data_settings(photos, {"a.jpg": "x"})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^data is of type list; give the name of a dataset"):
        data_settings([photos])  # type: ignore[arg-type]
    # And so where the images of a run have moved.
    with pytest.raises(ConfigError, match=r"^data is of type list"):
        moved(RunConfig(), [], None)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, -3, 32.5, 5000, "small"])
def test_a_size_that_is_none_is_refused_before_images_are_read(photos: Path, size: object) -> None:
    with pytest.raises(ConfigError, match=r"^image_size: "):
        convscope.load(photos, image_size=size, progress=Progress())  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^image_size: "):
        convscope.write_shards(photos, "out", image_size=size)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [8.0, np.int64(8), "8"])
def test_a_size_is_a_whole_number_of_any_kind(tmp_path: Path, size: object) -> None:
    rng = np.random.default_rng(7)
    for name in ("ant", "bee"):
        (tmp_path / name).mkdir()
        for number in range(6):
            pixels = rng.integers(0, 256, (9, 12, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    dataset = convscope.load(tmp_path, image_size=size, progress=Progress())  # type: ignore[arg-type]
    assert dataset.image_shape == (8, 8, 3)


def test_a_table_near_the_images_is_kept_relative_to_them(photos: Path, tmp_path: Path) -> None:
    def kept(labels: str | Path) -> str:
        return data_settings(photos, labels)["labels"]

    assert kept("photos/pictures/labels.csv") == "labels.csv"
    assert kept(photos / "labels.csv") == "labels.csv"
    assert kept("photos/labels.csv:label=kind") == "../labels.csv:label=kind"
    assert kept("elsewhere/labels.csv") == str(tmp_path / "elsewhere" / "labels.csv")
    # a name alone, which is not in the current folder, is one in the folder of the images
    assert kept("labels.csv:file=img,label=kind") == "labels.csv:file=img,label=kind"
    (tmp_path / "labels.csv").touch()
    assert kept("labels.csv") == "../../labels.csv"
    with pytest.raises(DataError, match="there is no table none.csv"):
        data_settings(photos, "none.csv")


def test_a_table_that_is_a_link_keeps_its_own_place(photos: Path, tmp_path: Path) -> None:
    blob = tmp_path / "blob"
    blob.write_text("file,label\na,x\nb,y\n")
    (photos / "metadata.csv").symlink_to(blob)
    assert data_settings(photos, photos / "metadata.csv")["labels"] == "metadata.csv"


def test_an_archive_that_is_a_link_is_known_by_its_own_name(photos: Path, tmp_path: Path) -> None:
    blob, link = tmp_path / "blob", tmp_path / "link.zip"
    with zipfile.ZipFile(blob, "w") as packed:
        for name in ("x/1.png", "y/2.png", "labels.csv"):
            packed.writestr(name, b"")
    link.symlink_to(blob)
    assert data_settings(link) == {"data": "folder", "data_path": str(link)}
    settings = data_settings(link, link / "labels.csv")
    assert (settings["data_path"], settings["labels"]) == (str(link), "labels.csv")


def test_a_name_that_looks_like_columns_is_taken_literally(photos: Path) -> None:
    (photos / "t.csv:file=1").write_text("file,label\na,x\n")
    with pytest.raises(DataError, match="there is no table"):
        data_settings(photos, photos / "t.csv:file=2")
    assert data_settings(photos, photos / "t.csv:file=1")["labels"] == "t.csv:file=1"


def test_a_list_of_files_is_the_table_of_the_folder_that_holds_them(
    photos: Path, tmp_path: Path
) -> None:
    for name in ("list.csv", "list.tsv", "list.txt"):
        mark = {"csv": ",", "tsv": "\t", "txt": " "}[name[-3:]]
        text = f"photos/pictures/a.jpg{mark}x\nphotos/pictures/b.jpg{mark}y\n"
        (tmp_path / name).write_text(text)
        wanted = {"data": "folder", "data_path": str(photos), "labels": f"../../{name}"}
        assert data_settings(name) == wanted
        assert data_settings(tmp_path / name) == wanted
    (tmp_path / "list.csv").write_text("img,kind\nphotos/pictures/a.jpg,x\nphotos/b.jpg,y\n")
    assert data_settings("list.csv:file=img,label=kind") == {
        "data": "folder",
        "data_path": str(tmp_path / "photos"),
        "labels": "../list.csv:file=img,label=kind",
    }
    with pytest.raises(ConfigError, match="is a list of images with their labels"):
        data_settings("list.csv", "photos/labels.csv")


def test_commands_name_the_table_so_that_they_work_anywhere(photos: Path) -> None:
    place = data_settings(photos, "photos/labels.csv:label=label")
    table = f"{photos.parent / 'labels.csv'}:label=label"
    assert words_of(place) == ("--data", str(photos), "--labels", table)
    assert words_of({**place, "labels": None}) == ("--data", str(photos))
    assert words_of(data_settings("digits")) == ("--data", "digits")


def test_settings_may_name_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert settled_labels("~/labels.csv:label=x") == f"{tmp_path}/labels.csv:label=x"
    assert settled_labels(f"..{os.sep}labels.csv") == "../labels.csv"
