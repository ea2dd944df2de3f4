"""Copies of classified images, in a folder for each class."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from convscope.classifier.bulk.sorting import SortedCopies
from convscope.errors import ConfigError
from convscope.progress import Progress
from convscope.types import ImagePrediction, UnreadableImage

NAMES = ("cat", "dog")
JOB: dict[str, object] = {"model": "0123", "reject": False}


class Told(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def copies(folder: Path, **settings: Any) -> SortedCopies:
    settings = {"progress": Progress(), **settings}
    return SortedCopies(folder, NAMES, settings.pop("job", JOB), **settings)


def photo(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def said(path: Path, cat: float, *, rejected: bool = False) -> ImagePrediction:
    return ImagePrediction(path, {"cat": cat, "dog": 1 - cat}, rejected=rejected)


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file() and path.name != "sorting.json")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.fixture
def answers(tmp_path: Path) -> list[ImagePrediction | UnreadableImage]:
    return [
        said(photo(tmp_path / "new" / "1.jpg", b"one"), 0.9),
        said(photo(tmp_path / "new" / "deeper" / "1.jpg", b"another"), 0.8),
        said(photo(tmp_path / "new" / "again" / "1.jpg", b"one"), 0.9),
        said(photo(tmp_path / "new" / "2.jpg", b"two"), 0.55),
        said(photo(tmp_path / "new" / "3.jpg", b"three"), 0.3),
        UnreadableImage(tmp_path / "new" / "4.jpg", "4.jpg is no image"),
        said(photo(tmp_path / "new" / "5.jpg", b"five"), 0.99, rejected=True),
    ]


TWO = {1: b"one", 2: b"two"}

SORTED = {
    "sorted/cat/1.jpg": b"one",
    "sorted/cat/1-2.jpg": b"another",
    "unsure/cat/2.jpg": b"two",
    "sorted/dog/3.jpg": b"three",
    "none/5.jpg": b"five",
}


def test_each_image_is_copied_once_into_the_folder_of_its_answer(
    tmp_path: Path, answers: list[ImagePrediction | UnreadableImage]
) -> None:
    told = Told()
    before = files(tmp_path / "new")
    sorting = copies(tmp_path / "out", unsure_below=0.6, progress=told)
    assert list(sorting.copying(answers)) == answers
    assert files(tmp_path / "out") == SORTED
    assert files(tmp_path / "new") == before
    out = tmp_path / "out"
    assert told.lines == [
        f"3 images sorted into {out}/sorted, 1 in {out}/unsure, 1 in {out}/none, "
        "1 is a copy of another"
    ]


def test_stopped_work_goes_on_and_repeated_work_copies_nothing_twice(
    tmp_path: Path, answers: list[ImagePrediction | UnreadableImage]
) -> None:
    def stopped() -> Iterator[ImagePrediction | UnreadableImage]:
        yield from answers[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(copies(tmp_path / "out", unsure_below=0.6).copying(stopped()))
    assert len(files(tmp_path / "out")) == 2
    told = Told()
    for _ in range(2):
        list(copies(tmp_path / "out", unsure_below=0.6, progress=told).copying(answers))
        assert files(tmp_path / "out") == SORTED
    assert told.lines[0].endswith(", 3 were there already")
    assert told.lines[1].endswith("/sorted, 6 were there already")


def test_what_a_kill_left_half_copied_is_no_image_that_is_there(tmp_path: Path) -> None:
    out = tmp_path / "out"
    photo(out / ".sorting-abc.part.json", b"{")  # before there was a note
    copies(out)
    photo(out / "sorted" / "cat" / ".1-abcd.part.jpg", b"one")
    photo(out / "sorted" / "cat" / ".DS_Store", b"two")
    new = [said(photo(tmp_path / f"{number}.jpg", text), 0.9) for number, text in TWO.items()]
    list(copies(out).copying(new))
    assert files(out) == {
        "sorted/cat/.DS_Store": b"two",
        "sorted/cat/1.jpg": b"one",
        "sorted/cat/2.jpg": b"two",
    }


def test_an_image_that_was_moved_is_not_copied_again(
    tmp_path: Path, answers: list[ImagePrediction | UnreadableImage]
) -> None:
    out = tmp_path / "out"
    list(copies(out, unsure_below=0.6).copying(answers))
    (out / "unsure" / "cat" / "2.jpg").rename(out / "sorted" / "dog" / "corrected.jpg")
    list(copies(out, unsure_below=0.6).copying(answers))
    moved = {name: content for name, content in SORTED.items() if name != "unsure/cat/2.jpg"}
    assert files(out) == {**moved, "sorted/dog/corrected.jpg": b"two"}


@pytest.mark.parametrize(
    "other", [{"job": {**JOB, "model": "4567"}}, {"unsure_below": 0.7}], ids=str
)
def test_answers_of_another_model_are_not_mixed_in(other: dict[str, Any], tmp_path: Path) -> None:
    copies(tmp_path / "out", unsure_below=0.6)
    with pytest.raises(ConfigError, match="holds images sorted by another model or with ot"):
        copies(tmp_path / "out", **{"unsure_below": 0.6, **other})


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path) -> None:
    photo(tmp_path / "mine" / "cat" / "1.jpg", b"mine")
    with pytest.raises(ConfigError, match="holds other files; choose another folder"):
        copies(tmp_path / "mine")
    assert files(tmp_path / "mine") == {"cat/1.jpg": b"mine"}


def test_classes_whose_names_lead_elsewhere_have_folders_of_their_own(tmp_path: Path) -> None:
    image = photo(tmp_path / "1.jpg", b"one")
    sorting = SortedCopies(tmp_path / "out", ["../a", "b"], JOB, progress=Progress())
    list(sorting.copying([ImagePrediction(image, {"../a": 1.0, "b": 0.0})]))
    assert files(tmp_path / "out") == {"sorted/..-a/1.jpg": b"one"}
    for alike in (["a/b", "a-b"], ["Cat", "cat"], [".", ""]):
        with pytest.raises(ConfigError, match="the classes '.*', '.*' would have the same folder"):
            SortedCopies(tmp_path / "other", ["x", *alike], JOB, progress=Progress())
    assert not (tmp_path / "other").exists()


def test_an_image_in_an_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="photos.zip/1.jpg is no file of its own; unpack arch"):
        list(copies(tmp_path / "out").copying([said(tmp_path / "photos.zip" / "1.jpg", 0.9)]))
