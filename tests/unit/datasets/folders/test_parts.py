"""Where the classes of a folder are."""

from pathlib import Path

from convscope.datasets.folders.parts import arrange
from convscope.images.find import iter_images


def test_a_class_of_links_without_their_images_is_a_class_still(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "wrapped" / name).mkdir(parents=True)
        (tmp_path / "wrapped" / name / "1.jpg").symlink_to(tmp_path / "gone" / f"{name}.jpg")
    (tmp_path / "wrapped" / "cat" / "2.jpg").touch()
    train = arrange(tmp_path).parts["train"]
    assert train.place == tmp_path / "wrapped"
    assert [path.name for path in train.folders] == ["cat", "dog"]


def test_a_search_for_any_image_stops_at_the_first(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").touch()
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "loop").symlink_to(tmp_path)
    images = iter_images(tmp_path)
    assert next(images) == tmp_path / "1.jpg"
    (tmp_path / "below" / "2.jpg").touch()  # not listed yet
    assert list(images) == [tmp_path / "below" / "2.jpg"]
