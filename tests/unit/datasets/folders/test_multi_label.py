"""Tables that give an image any number of classes."""

from pathlib import Path

import numpy as np
import pytest

from convscope.datasets.folders.contents import read_contents
from convscope.datasets.folders.layout import EVERY
from convscope.errors import ConfigError, DataError

CATS = {"a.jpg": ("cat",), "b.jpg": ("cat", "dog"), "c.jpg": (), "d.jpg": ("dog",)}


def build(root: Path, text: str, name: str = "t.csv", files: str = "abcd") -> Path:
    for letter in files:
        (root / f"{letter}.jpg").touch()
    (root / name).write_text(text.replace(" / ", "\n"), encoding="utf-8")
    return root


@pytest.mark.parametrize(
    "table",
    [
        "file,cat,dog / a,1,0 / b,1,1 / c,0,0 / d,0,1",
        "file,tags,cat,dog / a,x,1,0 / b,y,1,1 / c,z,0,0 / d,z,0,1",
        'file,label / a,"[""cat""]" / b,"[""cat"", ""dog""]" / c,[] / d,"[""dog""]"',
        "file,label / a,['cat'] / b,\"['cat', 'dog', 'cat']\" / c,[] / d,['dog']",
        "file,label / a,cat / b,cat|dog / c, / d,dog",
        'file,label / a,cat / b,"cat, dog" / c, / d,dog',
        "file,label / a,cat / b,cat; dog / c, / d,dog",
        "file,label / a,cat / b,cat dog / c, / d,dog",
        "file,label / a,cat / b,cat / b,dog / c, / d,dog",
    ],
    ids=["flags", "named", "JSON", "Python", "bar", "comma", "semicolon", "space", "rows"],
)
def test_several_classes_are_read_from_a_table(tmp_path: Path, table: str) -> None:
    build(tmp_path, table)
    more = {
        "file,tags": ":classes=cat+dog",
        "file,label / a,cat / b,cat dog": ":separator=space",
        "file,label / a,cat / b,cat / b": ":multi_label=yes",
    }
    named = next((option for start, option in more.items() if table.startswith(start)), "")
    layout = read_contents(tmp_path, f"t.csv{named}")
    assert not layout.problems
    assert layout.labels_of == CATS
    assert layout.class_names == ("cat", "dog")
    assert layout.parts == {"train": {EVERY: ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]}}
    assert layout.names == list(CATS)
    assert layout.remarks[-1] == (
        "an image may have any number of 2 classes: 1 of 4 images have several, 1 none"
    )


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_lists_of_other_kinds_of_tables_are_read(tmp_path: Path, kind: str) -> None:
    import json

    rows = [{"file_name": name, "labels": list(classes)} for name, classes in CATS.items()]
    build(tmp_path, "\n".join(map(json.dumps, rows)), "metadata.jsonl")
    if kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "metadata.parquet")
        (tmp_path / "metadata.jsonl").unlink()
    layout = read_contents(tmp_path)
    assert layout.labels_of == CATS
    assert layout.labels == ""
    with pytest.raises(DataError, match="the column 'labels' of .* holds lists; one text is"):
        read_contents(tmp_path, f"metadata.{kind}:file=labels,label=file_name")


def test_a_class_may_be_in_brackets(tmp_path: Path) -> None:
    build(tmp_path, "file,label / a,cat / b,[other] / c,[other] / d,cat")
    layout = read_contents(tmp_path, "t.csv")
    assert layout.labels_of is None
    assert layout.class_names == ("[other]", "cat")
    for cells in ("a,cat / b,[dog; / c,[] / d,cat", 'a,cat / b,"[dog, cat]" / c,cat / d,cat'):
        build(tmp_path, f"file,label / {cells}")
        with pytest.raises(DataError, match="is no list|cannot be read as a list"):
            read_contents(tmp_path, "t.csv")


def test_numbers_in_lists_are_classes_in_numeric_order(tmp_path: Path) -> None:
    build(tmp_path, 'file,label / a,"[10, 9]" / b,[10] / c,[] / d,[9]')
    layout = read_contents(tmp_path, "t.csv")
    assert layout.class_names == ("9", "10")
    assert layout.labels_of["a.jpg"] == ("10", "9")


@pytest.mark.parametrize(
    "cells",
    [
        ['"Apple, scab"', '"Apple, healthy"', '"Corn, rust"', '"Corn, healthy"'],
        ['"tench, Tinca tinca"', '"goldfish, Carassius auratus"', "cock", "hen"],
        ["a|b", "c|d", "e", "f"],
    ],
)
def test_a_mark_inside_of_a_name_separates_nothing(tmp_path: Path, cells: list[str]) -> None:
    rows = (f"{letter},{cell}" for letter, cell in zip("abcd", cells, strict=True))
    build(tmp_path, "\n".join(["file,label", *rows]))
    layout = read_contents(tmp_path, "t.csv")
    assert layout.labels_of is None
    assert sorted(layout.class_names) == sorted(cell.strip('"') for cell in cells)


def test_a_column_of_parts_and_separators_that_are_named(tmp_path: Path) -> None:
    build(tmp_path, "file,label,split / a,x|y,train / b,x,train / c,y,val / d,x|y,test")
    layout = read_contents(tmp_path, "t.csv")
    assert {part: classes[EVERY] for part, classes in layout.parts.items()} == {
        "train": ["a.jpg", "b.jpg"],
        "val": ["c.jpg"],
        "test": ["d.jpg"],
    }
    assert [problem.kind for problem in layout.problems] == ["constant-class"]  # all have x
    whole = read_contents(tmp_path, "t.csv:separator=none")
    assert whole.class_names == ("x", "x|y", "y")
    assert whole.labels_of is None


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (
            "file,x,y,z / a,1,0,0 / b,1,1,0 / c,0,0,0 / d,0,1,0",
            "no training image of {} has 'z', so there is nothing to learn about that; add images "
            "that have it, or leave it out of the table",
        ),
        ("file,x,y / a,1,0 / b,1,1 / c,1,0 / d,1,1", "every training image of {} has 'x', so"),
        ("file,x,y / a,1,0 / b,1,1 / zzz,1,0 / d,0,1", "1 image that t.csv names not found"),
        ("file,label / a,[] / b,[] / c,[] / d,[]", "t.csv has no row with a label"),
    ],
)
def test_labels_that_cannot_be_learnt_are_refused(tmp_path: Path, table: str, says: str) -> None:
    build(tmp_path, table)
    try:
        (message,) = (problem.message for problem in read_contents(tmp_path, "t.csv").problems)
    except DataError as error:
        message = str(error)
    assert says.format(tmp_path) in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("file,label / a,['x'] / b,y", "t.csv, row 3: the label 'y' is no list, as other cells"),
        ("file,label / a,['x' 'y'] / b,['y']", "cannot be read as a list"),
        ('file,label / a,"[1, ""x""]" / b,[2]', "mixes numbers and names; write all of them as"),
        ("file,label / a,[[1]] / b,[2]", "holds something else than names or whole numbers"),
        ("file,label / a,1|cat / b,1 / c,cat|1", r"mix numbers \('1'\) and names \('cat'\)"),
        ("file,x,y / a,1,1 / b,0,2", "'2' in the column 'y' is neither 0 nor 1"),
    ],
)
def test_cells_that_are_no_labels_are_refused(tmp_path: Path, table: str, says: str) -> None:
    build(tmp_path, table)
    with pytest.raises(DataError, match=says) as error:
        read_contents(tmp_path, "t.csv")
    assert "\n" not in str(error.value)


def test_wrong_options_are_refused(tmp_path: Path) -> None:
    build(tmp_path, "file,label / a,x / b,y")
    for option, says in (
        ("separator=-", "separator=- is none of |, ;, comma, space, none"),
        ("multi_label=maybe", "multi_label=maybe is none of yes, no"),
        ("label=label,classes=x+y", "name label=COLUMN or classes=COLUMN+COLUMN, not both"),
    ):
        with pytest.raises(ConfigError) as error:
            read_contents(tmp_path, f"t.csv:{option}")
        assert says in str(error.value)


def test_the_images_have_a_row_of_flags_each(tmp_path: Path) -> None:
    from PIL import Image

    import convscope
    from convscope.datasets.division.splits import read_split, verify_split, write_split
    from convscope.progress import Progress

    random = np.random.default_rng(0)
    rows = ["file,label"]
    for number in range(40):
        pixels = random.integers(0, 256, (8, 8), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{('x|y', 'x', 'y', '')[number % 4]}")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    data = convscope.load(tmp_path, labels=tmp_path / "t.csv", progress=Progress())
    assert data.multi_label
    assert data.class_names == ("x", "y")
    sizes = {"train": data.train, "val": data.val, "test": data.test}
    for part, size in {"train": 26, "val": 6, "test": 8}.items():
        split = sizes[part]
        assert len(split) == size
        assert split.labels.shape == (size, 2)
        assert split.labels.dtype == np.uint8
        assert abs(split.labels.sum(axis=0) - size / 2).max() <= 1
    for image_id, label in zip(data.train.ids, data.train.labels, strict=True):
        expected = {0: [1, 1], 1: [1, 0], 2: [0, 1], 3: [0, 0]}[int(image_id.split(".")[0]) % 4]
        assert label.tolist() == expected
    write_split(data, tmp_path / "split.csv")
    written = {row["id"]: row for row in read_split(tmp_path / "split.csv")}
    assert (written["0.png"]["label"], written["0.png"]["class_name"]) == ("[0, 1]", '["x", "y"]')
    assert (written["3.png"]["label"], written["3.png"]["class_name"]) == ("[]", "[]")
    verify_split(data, tmp_path / "split.csv", "train")
    data.train.labels[0] = 1 - data.train.labels[0]
    with pytest.raises(DataError, match="1 differ from"):
        verify_split(data, tmp_path / "split.csv", "train")
    report = convscope.check(tmp_path, labels=tmp_path / "t.csv", progress=Progress())
    assert report.counts == {"train": {"x": 20, "y": 20}}
    assert not report.has_errors
