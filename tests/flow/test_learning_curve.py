"""The learning curve of a folder of images, on a frozen backbone."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import convscope
from convscope.errors import ConfigError, RunError
from convscope.progress import Progress
from convscope.studies.learning_curve import LearningCurve

QUICK = {"image_size": 32, "weights": "random"}


@pytest.fixture(scope="module")
def colours(tmp_path_factory) -> Path:
    """Three classes that differ in colour, but overlap, and a fourth of other sizes."""
    folder, rng = tmp_path_factory.mktemp("photos") / "colours", np.random.default_rng(0)
    for name, colour, n_images in (
        *(("red", (150, 100, 100), 60), ("green", (100, 150, 100), 60)),
        *(("blue", (100, 100, 150), 60), ("grey", (110, 110, 110), 20)),
    ):
        (folder / name).mkdir(parents=True)
        for index in range(n_images):
            pixels = np.array(colour) + rng.normal(0, 40, 3) + rng.normal(0, 10, (40, 40, 3))
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(
                folder / name / f"{index}.png"
            )
    return folder


def curve_of(folder: Path, out: Path, **options) -> LearningCurve:
    settings = {**QUICK, **options.pop("settings", {})}
    return convscope.learning_curve(
        folder, settings=settings, out=out, progress=Progress(), **{"model": "tiny", **options}
    )


@pytest.fixture(scope="module")
def found(tiny_backbone, colours, tmp_path_factory) -> LearningCurve:
    return curve_of(colours, tmp_path_factory.mktemp("study") / "curve")


def test_accuracy_grows_with_the_number_of_images(found):
    # A fifth is the test part, and a fold of the rest is not learnt: 4/5 of 4/5 of 200.
    assert found.n_images == 160
    sizes = [point.n_images for point in found.points]
    assert sizes == [32, 64, 128]
    assert found.points[-1].accuracy > found.points[0].accuracy + 0.03
    assert all(point.low < point.accuracy < point.high for point in found.points)
    now, twice = found.expected_of_all, found.expected
    assert (now.n_images, twice.n_images) == (160, 320)
    assert found.points[-1].accuracy <= now.accuracy <= twice.accuracy <= twice.high


def test_classes_are_told_the_weakest_first(found):
    names = [each.class_name for each in found.classes]
    assert sorted(names) == ["blue", "green", "grey", "red"]
    recalls = [each.recall for each in found.classes]
    assert recalls == sorted(recalls)
    counts = {each.class_name: each.n_images for each in found.classes}
    assert counts == {"red": 48, "green": 48, "blue": 48, "grey": 16}
    # Each image is judged once: the recalls add up to the accuracy.
    right = sum(each.recall * each.n_images for each in found.classes)
    assert right / 160 == pytest.approx(found.points[-1].accuracy)


def test_tables_hold_what_it_returns(found):
    with found.table_file.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["kind"] for row in rows] == ["measured"] * 3 + ["expected"] * 2
    points = [*found.points, found.expected_of_all, found.expected]
    assert [int(row["n_images"]) for row in rows] == [point.n_images for point in points]
    assert [float(row["high"]) for row in rows] == [point.high for point in points]
    with found.classes_table.open(newline="", encoding="utf-8") as file:
        assert [row["class_name"] for row in csv.DictReader(file)] == [
            each.class_name for each in found.classes
        ]
    with Image.open(found.picture) as picture:
        assert picture.width > 300


def test_again_it_finds_the_same_and_with_more_images_another_in_its_place(
    tiny_backbone, colours, tmp_path
):
    folder, out = tmp_path / "photos", tmp_path / "out"
    shutil.copytree(colours, folder)
    first = curve_of(folder, out)
    assert curve_of(folder, out) == first
    for index in range(50):
        Image.new("RGB", (40, 40), (90, 90, 90 + index)).save(folder / "grey" / f"new{index}.png")
    second = curve_of(folder, out)
    assert second.n_images == 200
    assert second.state_file.exists()
    with second.table_file.open(newline="", encoding="utf-8") as file:
        assert [int(row["n_images"]) for row in csv.DictReader(file)][-1] == 400
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="holds no learning curve; choose another --out"):
        curve_of(folder, tmp_path / "other")


def test_of_many_images_too_each_is_tested_once(tiny_backbone, tmp_path, monkeypatch):
    """A penalty is chosen by one fold of so many; a learning curve is that of all."""
    from convscope.training import logistic

    monkeypatch.setattr(logistic, "_MANY", 100)
    found = convscope.learning_curve(
        "digits",
        model="tiny",
        settings={**QUICK, "split.images": 700},
        out=tmp_path / "out",
        progress=Progress(),
    )
    assert sum(each.n_images for each in found.classes) == found.n_images > 500


def test_images_of_a_group_are_never_both_learnt_from_and_tested_on(tiny_backbone, tmp_path):
    """Labels are drawn for each scene, and scenes have colours of their own."""
    rng, folder = np.random.default_rng(1), tmp_path / "photos"
    folder.mkdir()
    rows = ["file,label,scene"]
    for scene in range(40):
        colour = rng.integers(0, 256, 3)
        for index in range(4):
            pixels = colour + rng.normal(0, 6, (40, 40, 3))
            name = f"{scene}-{index}.png"
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name)
            rows.append(f"{name},{'ab'[scene % 2]},{scene}")
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(rows))
    # A head that had seen the other images of a scene would know its label.
    apart = curve_of(folder, tmp_path / "apart", labels=f"{table}:group=scene")
    mixed = curve_of(folder, tmp_path / "mixed", labels=table)
    assert apart.points[-1].accuracy < 0.6 < 0.7 < mixed.points[-1].accuracy


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"model": "fast-small"}, "--model takes a pretrained one"),
        ({"settings": {"head.logistic": False}}, "head.logistic true"),
        ({"settings": {"augment.flip": True}}, r"leave away augmentation \(augment"),
        ({"settings": {"recipe": "fast"}}, r"'recipe' cannot be .*: the heads are those of recipe"),
        ({"settings": {"split.folds": 3}}, r"'split\.folds' cannot be given with --set here"),
        ({"settings": {"tta.mirror": True}}, r"leave away augmentation .* and views \(tta"),
        ({"settings": {"split.images": 30}}, "are too few for a learning curve"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(tiny_backbone, colours, tmp_path, options, says):
    with pytest.raises(ConfigError, match=says) as caught:
        curve_of(colours, tmp_path / "out", **options)
    assert "\n" not in str(caught.value)


def test_of_images_with_any_number_of_classes_there_is_none(tiny_backbone, tmp_path):
    rows, folder = ["file,label"], tmp_path / "photos"
    folder.mkdir()
    for index, label in enumerate(["a|b", "a", "b"] * 20):
        Image.new("RGB", (8, 8), (index, 0, 0)).save(folder / f"{index}.png")
        rows.append(f"{index}.png,{label}")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    with pytest.raises(ConfigError, match="exactly one class each"):
        curve_of(folder, tmp_path / "out", labels=tmp_path / "t.csv")


def test_of_few_groups_there_is_none(tiny_backbone, colours, tmp_path):
    rows = ["file,label,scene"]
    for path in sorted(colours.rglob("*.png")):
        part = ("train", "test")[int(path.stem) % 5 == 0]
        scene = f"{part}{int(path.stem) % 2}"
        rows.append(f"{path.relative_to(colours).as_posix()},{path.parent.name},{scene}")
    table = tmp_path / "t.csv"
    table.write_text("\n".join(rows))
    with pytest.raises(ConfigError, match="groups, and a learning curve needs 5"):
        curve_of(colours, tmp_path / "out", labels=f"{table}:group=scene")
