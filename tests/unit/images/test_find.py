import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from convscope.errors import DataError, ImageError
from convscope.images.decode import decode_image
from convscope.images.find import RESULTS, Skipped, find_images, walk_images
from convscope.run import Run
from convscope.studies.comparison.comparison import Comparison
from convscope.studies.folds import CrossValidation
from convscope.studies.ladder.rungs import Ladder
from convscope.studies.suspects import Suspicions
from convscope.studies.tuning.tuning import Tuning
from convscope.studies.tutorial.study import _Study as Study


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b.png", "a.JPG", "sub/deep/c.webp", ".hidden.png", ".git/d.png", "notes.txt"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "tree"


def names_of(tree: Path, paths: list[Path]) -> list[str]:
    return [path.relative_to(tree).as_posix() for path in paths]


def test_folders_are_walked_in_order_without_hidden_things(tree: Path) -> None:
    skipped = Skipped()
    paths = walk_images(tree, skipped=skipped)
    assert names_of(tree, paths) == ["a.JPG", "b.png", "sub/deep/c.webp"]
    assert names_of(tree, skipped.hidden) == [".git", ".hidden.png"]
    assert names_of(tree, skipped.others) == ["notes.txt"]


def test_loops_pipes_and_dangling_links_do_not_hang(tree: Path) -> None:
    (tree / "sub" / "loop").symlink_to(tree)
    (tree / "self.png").symlink_to(tree / "self.png")
    (tree / "gone.png").symlink_to(tree / "nowhere.png")
    os.mkfifo(tree / "pipe.png")
    skipped = Skipped()
    paths = walk_images(tree, skipped=skipped)
    assert names_of(tree, paths) == [
        "a.JPG", "b.png", "gone.png", "self.png", "sub/deep/c.webp"
    ]  # fmt: skip
    assert names_of(tree, skipped.loops) == ["sub/loop"]
    assert "pipe.png" in names_of(tree, skipped.others)
    with pytest.raises(ImageError, match="gone.png cannot be read"):
        decode_image(tree / "gone.png", channels=3)


def test_find_images_takes_files_folders_and_patterns(tree: Path) -> None:
    assert names_of(tree, find_images([tree / "notes.txt", tree])) == [
        "notes.txt", "a.JPG", "b.png", "sub/deep/c.webp"
    ]  # fmt: skip
    assert names_of(tree, find_images([f"{tree}/**/*.webp", tree / "sub"])) == ["sub/deep/c.webp"]
    assert names_of(tree, find_images([str(tree / "*")])) == ["a.JPG", "b.png"]


def test_find_images_says_what_is_missing(tree: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file or folder .*gone\.png"):
        find_images([tree / "gone.png"])
    with pytest.raises(DataError, match=r"no image in .*\*\.bmp"):
        find_images([str(tree / "*.bmp")])
    with pytest.raises(DataError, match="no image in nothing"):
        find_images([])


@pytest.mark.parametrize("images", [5, [None], np.zeros((2, 4, 4, 3), np.uint8), b"a.png"])
def test_what_is_no_path_is_one_line(images: Any) -> None:
    with pytest.raises(DataError, match=r"^an image is of type \w+; give paths of images"):
        find_images(images)


def test_the_folder_of_any_run_or_study_is_ignored(tmp_path: Path) -> None:
    for kind in (Comparison, CrossValidation, Ladder, Run, Study, Suspicions, Tuning):
        place = kind.state_file.fget(SimpleNamespace(path=tmp_path))
        assert place.name in RESULTS
