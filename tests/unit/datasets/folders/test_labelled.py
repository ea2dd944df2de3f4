"""Labels in a table beside the images."""

import os
from pathlib import Path

import pytest

from convscope.datasets.folder import ignored
from convscope.datasets.folders.contents import read_contents
from convscope.datasets.folders.layout import Layout
from convscope.errors import DataError, NoClassesError


def build(root: Path, files: str, **tables: str) -> Path:
    """Make empty files, since only names count here, and tables: `labels_csv` is labels.csv."""
    for name in files.split():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    for name, text in tables.items():
        path = root / ".".join(name.replace("__", "/").rsplit("_", 1))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace(" / ", "\n"), encoding="utf-8")
    return root


def classes_of(layout: Layout, part: str = "train") -> dict[str, list[str]]:
    assert not layout.problems, layout.problems[0].message
    return {name: files for name, files in layout.parts[part].items() if files}


@pytest.mark.parametrize(
    "table",
    [
        "file,label / a.jpg,cat / b/c.jpg,dog",
        "\ufeffFileName;Class / a.jpg;cat / b/c.jpg;dog",
        "Image ID,Category / a,cat / b/c,dog",
        "id,breed / a,cat / c,dog",
        "Image,Id / a.jpg,cat / c.jpg,dog",
        ",image,target / 0,./a.jpg,cat / 1,b\\c.jpg,dog",
        "a.jpg,cat / b/c.jpg,dog",
        'path,species,label / a.JPG,x," cat" / "b/c.JPG",y,dog',
        "image_name,cat,dog / a,1,0 / c,0,1",
        "image,cat,dog / a,1.0,0.0 / c,0.0,1.0",
        "image,cat,dog,split / a,True,False,train / c,False,True,train",
    ],
)
def test_columns_are_found_by_their_usual_names(tmp_path: Path, table: str) -> None:
    build(tmp_path, "a.jpg b/c.jpg", labels_csv=table)
    layout = read_contents(tmp_path, "labels.csv")
    assert classes_of(layout) == {"cat": ["a.jpg"], "dog": ["b/c.jpg"]}
    assert len(layout.remarks) == 1
    assert not layout.divided


def test_a_column_of_groups_is_named(tmp_path: Path) -> None:
    # With the groups named, the column that is left holds the classes.
    rows = "img,who,kind / a.jpg,7,cat / b.jpg,,dog / c.jpg,7,dog / a.jpg,7,cat"
    build(tmp_path, "a.jpg b.jpg c.jpg", t_csv=rows)
    layout = read_contents(tmp_path, "t.csv:group=who")
    assert classes_of(layout) == {"cat": ["a.jpg"], "dog": ["b.jpg", "c.jpg"]}
    assert layout.group_of == {"a.jpg": "7", "b.jpg": "", "c.jpg": "7"}
    assert layout.remarks[0].endswith("classes in 'kind', groups in 'who'")
    assert read_contents(tmp_path, "t.csv:label=kind").group_of is None
    build(tmp_path, "", t_csv=rows.replace("a.jpg,7,cat / b", "a.jpg,8,cat / b"))
    (problem,) = read_contents(tmp_path, "t.csv:group=who").problems
    assert problem.kind == "labels-contradict"
    assert "'cat 8' in row 2 and 'cat 7' in row 5" in problem.message
    with pytest.raises(DataError, match=r"no column called 'patient'; its columns: 'img', 'who'"):
        read_contents(tmp_path, "t.csv:label=kind,group=patient")


def test_columns_can_be_named(tmp_path: Path) -> None:
    build(tmp_path, "a.jpg b.jpg", t_csv="id,label,img,kind / 1,x,a.jpg,cat / 2,x,b.jpg,dog")
    layout = read_contents(tmp_path, "t.csv:file=img,label=kind")
    assert classes_of(layout) == {"cat": ["a.jpg"], "dog": ["b.jpg"]}
    assert layout.remarks == ["labels from t.csv: files in 'img', classes in 'kind'"]
    with pytest.raises(DataError, match=r"no column called 'sort'; its columns: 'id', 'label',"):
        read_contents(tmp_path, "t.csv:label=sort")


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("file,size,age / a.jpg,x,1", "no column called label, class, category or target"),
        ("size,label / 1,x", "no column called file, image, path or id"),
        ("file,label,label / a.jpg,x,y", "two columns called 'label'"),
        ("file,label / a.jpg,cat, big", "row 2 has 3 cells in 2 columns; put cells that contain"),
        ("file,cat,dog / a.jpg,1,0 / b.jpg,2,0", "'2' in the column 'cat' is neither 0 nor 1"),
        ("id,file,cat,dog / 1,a.jpg,1,0 / 2,b.jpg,0,1", r"label=COLUMN\) .* \(:classes=COLUMN"),
        ("file,label / a.jpg, / b.jpg,", "has no row with a label"),
        ("file,label / x/y.jpg,cat", r"none of 1 image that t.csv names is in .* \(first: 'x/y"),
        ("", "is empty"),
    ],
)
def test_tables_that_are_not_clear_are_refused(tmp_path: Path, table: str, says: str) -> None:
    build(tmp_path, "a.jpg b.jpg", t_csv=table)
    with pytest.raises(DataError, match=says) as error:
        read_contents(tmp_path, "t.csv")
    assert "\n" not in str(error.value)


def test_numbers_are_in_numeric_order(tmp_path: Path) -> None:
    build(tmp_path, "a.jpg b.jpg c.jpg", t_csv="file,label / a,10 / b,9 / c,-1")
    assert read_contents(tmp_path, "t.csv").class_names == ("-1", "9", "10")
    # pandas writes whole numbers beside an empty cell so
    build(tmp_path, "a.jpg b.jpg c.jpg", t_csv="file,label / a,10.0 / b,9.0 / c,")
    assert read_contents(tmp_path, "t.csv").class_names == ("9", "10")
    build(tmp_path, "", t_csv="file,label / a,10 / b,9 / c,x")
    assert read_contents(tmp_path, "t.csv").class_names == ("10", "9", "x")


def test_the_column_of_parts_is_honoured(tmp_path: Path) -> None:
    table = "file,label,split / a,x,train / b,y,Training / c,x,valid / d,y,validation / e,x,test"
    build(tmp_path, "a.jpg b.jpg c.jpg d.jpg e.jpg", t_csv=table)
    layout = read_contents(tmp_path, "t.csv")
    assert list(layout.parts) == ["train", "val", "test"]
    assert classes_of(layout) == {"x": ["a.jpg"], "y": ["b.jpg"]}
    assert classes_of(layout, "val") == {"x": ["c.jpg"], "y": ["d.jpg"]}
    assert classes_of(layout, "test") == {"x": ["e.jpg"]}
    for part in ("", "holdout", "flowers_test"):
        (tmp_path / "t.csv").write_text(f"file,label,split\na,x,train\nb,y,{part}\n")
        with pytest.raises(DataError, match=f"row 3: the part of 'b' is '{part}'; write train"):
            read_contents(tmp_path, "t.csv")
    (tmp_path / "t.csv").write_text("file,label,split\na,x,val\nb,y,test\n")
    with pytest.raises(
        DataError, match="is in the part train; at least one training row is needed"
    ):
        read_contents(tmp_path, "t.csv")


@pytest.mark.parametrize("name", ["set", "Dataset", "data set", "data_split"])
def test_a_column_that_may_be_of_parts_is_if_its_cells_are(tmp_path: Path, name: str) -> None:
    rows = f"file,label,{name} / a,x,train / b,y,Train / c,y,test"
    build(tmp_path, "a.jpg b.jpg c.jpg", t_csv=rows)
    layout = read_contents(tmp_path, "t.csv")
    assert layout.parts == {
        "train": {"x": ["a.jpg"], "y": ["b.jpg"]},
        "test": {"x": [], "y": ["c.jpg"]},
    }
    build(tmp_path, "", t_csv=rows.replace("test", "the test of May"))
    assert list(read_contents(tmp_path, "t.csv").parts) == ["train"]


@pytest.mark.parametrize(
    ("head", "cells", "note"),
    [
        (
            "use",
            ("train", "valid", "test"),
            "the column 'use' holds train, valid and test and is not used; to divide by it: "
            "--labels t.csv:split=use",
        ),
        ("use", ("test", "test", "test"), "the column 'use' holds test and is not used"),
        ("is_valid", ("True", "False", "False"), "the column 'is_valid' is not used"),
        ("isTest", ("0", "1", "0"), "the column 'isTest' is not used"),
        ("use", ("train", "test", "no"), None),
        ("use", ("train", "", "test"), None),
        ("island", ("True", "False", "False"), None),
    ],
)
def test_an_unused_column_that_seems_to_say_the_parts_has_a_line(
    tmp_path: Path, head: str, cells: tuple[str, ...], note: str | None
) -> None:
    rows = zip("abc", "xyy", cells, strict=True)
    table = " / ".join([f"file,label,{head}", *map(",".join, rows)])
    build(tmp_path, "a.jpg b.jpg c.jpg", t_csv=table)
    layout = read_contents(tmp_path, "t.csv")
    assert list(layout.parts) == ["train"]
    lines = [line for line in layout.remarks if "is not used" in line]
    assert len(lines) == (note is not None)
    assert note is None or lines[0].startswith(note)


def test_a_column_that_names_no_part_is_not_used_unless_it_is_named(tmp_path: Path) -> None:
    build(tmp_path, "a.jpg b.jpg", t_csv="file,label,split / a,x,0 / b,y,1")
    layout = read_contents(tmp_path, "t.csv")
    assert not layout.divided
    assert "the column of parts is not used: '0' and the like" in layout.remarks[1]
    with pytest.raises(DataError, match="the part of 'a' is '0'; write train, val or test"):
        read_contents(tmp_path, "t.csv:split=split")


def test_a_class_that_only_other_parts_have_cannot_be_learnt(tmp_path: Path) -> None:
    table = "file,label,split / a,x,train / b,y,train / c,z,test"
    build(tmp_path, "a.jpg b.jpg c.jpg", t_csv=table)
    (problem,) = read_contents(tmp_path, "t.csv").problems
    assert problem.kind == "classes-differ"
    assert "no image to learn from of 'z' (first: test has 'c.jpg')" in problem.message


def test_folders_of_parts_are_honoured_where_all_images_are_in_them(tmp_path: Path) -> None:
    table = "file,label / train/a.jpg,x / train/b.jpg,y / test/a.jpg,x"
    build(tmp_path, "train/a.jpg train/b.jpg test/a.jpg", t_csv=table)
    layout = read_contents(tmp_path, "t.csv")
    assert classes_of(layout, "test") == {"x": ["test/a.jpg"]}
    build(tmp_path, "c.jpg", t_csv=f"{table} / c.jpg,y")
    layout = read_contents(tmp_path, "t.csv")
    assert list(layout.parts) == ["train"]
    assert layout.remarks[-1] == (
        "'test/', 'train/' are not taken for parts, since 1 image with a label is in none of them "
        "(first: 'c.jpg'); move what is outside into one, or name a column of the parts: "
        "--labels TABLE:split=COLUMN"
    )


def test_paths_are_relative_to_the_folder_or_to_the_table(tmp_path: Path) -> None:
    root = build(tmp_path / "pictures", "a.jpg deep/b.jpg deep/c.jpg")
    build(tmp_path, "", t_csv="file,label / pictures/a.jpg,x / pictures/deep/b.jpg,y")
    assert classes_of(read_contents(root, "../t.csv")) == {"x": ["a.jpg"], "y": ["deep/b.jpg"]}
    build(root, "", deep__t_csv="file,label / ../a.jpg,x / b.jpg,y / deep/c.jpg,x")
    layout = read_contents(root, "deep/t.csv")
    assert classes_of(layout) == {"x": ["a.jpg", "deep/c.jpg"], "y": ["deep/b.jpg"]}
    # a table somewhere else, written for the folder's parent
    build(tmp_path, "", other__t_csv="file,label / pictures/a.jpg,x / pictures/deep/b.jpg,y")
    elsewhere = read_contents(root, str(tmp_path / "other" / "t.csv"))
    assert classes_of(elsewhere) == {"x": ["a.jpg"], "y": ["deep/b.jpg"]}


@pytest.mark.parametrize(
    "path", ["/etc/a.jpg", "C:\\photos\\a.jpg", "\\\\server\\a.jpg", "../a.jpg", "x/../../a.jpg"]
)
def test_paths_that_leave_the_folder_are_refused_by_name(tmp_path: Path, path: str) -> None:
    build(tmp_path, "a.jpg secret/a.jpg")
    root = build(tmp_path / "pictures", "a.jpg b.jpg", t_csv=f"file,label / b,y / {path},x")
    with pytest.raises(DataError, match=r"t\.csv, row 3: .* (is an absolute path|leads out of)"):
        read_contents(root, "t.csv")


def test_names_that_fit_multi_label_images_are_refused(tmp_path: Path) -> None:
    build(tmp_path, "x/a.jpg y/a.jpg b.jpg b.png c.jpg d.jpg c.JPG", t_csv="file,label / d,x / c,y")
    kinds = {problem.kind for problem in read_contents(tmp_path, "t.csv").problems}
    assert kinds == {"unclear-file", "single-class"}
    for name, both in (("a", "'x/a.jpg', 'y/a.jpg'"), ("b", "'b.jpg', 'b.png'")):
        (tmp_path / "t.csv").write_text(f"file,label\nd,x\n{name},y\nc.jpg,y\n")
        (problem,) = read_contents(tmp_path, "t.csv").problems
        assert f"'{name}' may be {both}); write their paths in full" in problem.message
    (tmp_path / "t.csv").write_text("file,label\nd,x\nc.JPG,y\n")
    assert classes_of(read_contents(tmp_path, "t.csv"))["y"] == ["c.JPG"]


def test_a_folder_in_a_path_is_never_dropped(tmp_path: Path) -> None:
    build(tmp_path, "dog/1.jpg cat/2.jpg", t_csv="file,label / cat/1.jpg,cat / cat/2.jpg,dog")
    layout = read_contents(tmp_path, "t.csv")
    assert "cat/1.jpg" in next(p.message for p in layout.problems if p.kind == "files-missing")


def test_each_kind_of_row_that_is_not_used_has_a_line(tmp_path: Path) -> None:
    images = [f"{number}.jpg" for number in range(20)]
    rows = [f"{name},{'xy'[number % 2]}" for number, name in enumerate(images)]
    rows += ["gone.jpg,x", "18.jpg,", "0.jpg,x"]
    build(tmp_path, " ".join([*images, "more.jpg", "notes.pdf"]), t_csv="file,label")
    (tmp_path / "t.csv").write_text("\n".join(["file,label", *rows]))
    layout = read_contents(tmp_path, "t.csv")
    assert sum(map(len, classes_of(layout).values())) == 20
    assert ignored(layout)[1:] == [
        "left out 1 image that t.csv names not found (first: t.csv, row 22, 'gone.jpg')",
        "left out 1 row of t.csv without a label (first: t.csv, row 23, '18.jpg')",
        "1 row of t.csv repeats another",
        "ignored 1 image without a label in t.csv: 'more.jpg'",
        "ignored 1 file not of images (.pdf 1)",
    ]


def test_many_missing_images_are_refused(tmp_path: Path) -> None:
    build(tmp_path, "a.jpg b.jpg", t_csv="file,label / a,x / b,y / c,x / d,x")
    (problem,) = read_contents(tmp_path, "t.csv").problems
    assert problem.kind == "files-missing"
    assert problem.message.startswith("2 images that t.csv names not found (first: t.csv, row 4, ")
    assert problem.places == ("c", "d")


def test_contradictions_are_refused(tmp_path: Path) -> None:
    build(tmp_path, "a.jpg b.jpg", t_csv="file,label / a,x / b,y / a.jpg,y / a,x")
    (problem,) = read_contents(tmp_path, "t.csv").problems
    assert problem.kind == "labels-contradict"
    assert "(first: 'a.jpg' is 'x' in row 2 and 'y' in row 4)" in problem.message
    build(tmp_path, "", t_csv="file,label,split / a,x,train / b,y,train / a,x,test")
    (problem,) = read_contents(tmp_path, "t.csv").problems
    assert "(first: 'a' is 'x train' in row 2 and 'x test' in row 4)" in problem.message


def test_several_classes_of_few_images_may_be_mistakes(tmp_path: Path) -> None:
    rows = [f"f{n},1,0" for n in range(60)] + ["b,1,1", "c,0,1"]
    files = " ".join(f"{row.split(',')[0]}.jpg" for row in rows)
    build(tmp_path, files, t_csv=" / ".join(["file,x,y", *rows]))
    (problem,) = read_contents(tmp_path, "t.csv").problems
    assert problem.kind == "several-labels"
    assert "1 row of t.csv with several classes (first: t.csv, row 62, 'b' is 'x', 'y')" in (
        problem.message
    )
    assert problem.message.endswith("--labels t.csv:multi_label=yes")
    assert read_contents(tmp_path, "t.csv:multi_label=yes").labels_of["b.jpg"] == ("x", "y")
    assert read_contents(tmp_path, "t.csv:multi_label=no").problems


def test_a_single_class_and_odd_names_are_refused(tmp_path: Path) -> None:
    build(tmp_path, "a.jpg b.jpg", t_csv="file,label / a,x / b,x")
    assert [p.kind for p in read_contents(tmp_path, "t.csv").problems] == ["single-class"]
    build(tmp_path, "", t_csv="file,label / a,x\x1b[2J / b,y")
    (problem,) = read_contents(tmp_path, "t.csv").problems
    assert problem.kind == "odd-name"
    assert "\x1b" not in problem.message
    build(tmp_path, "", t_csv="file,label / a,Tea / b,tea")
    assert read_contents(tmp_path, "t.csv").look_alikes == [["Tea", "tea"]]
    build(tmp_path, "", t_csv="file,label / a,-1 / b,1")
    assert not read_contents(tmp_path, "t.csv").look_alikes


def test_tables_beside_class_folders_are_taken_only_if_named(tmp_path: Path) -> None:
    build(tmp_path, "cat/1.jpg dog/2.jpg", labels_csv="file,label / 1,old / 2,new")
    assert read_contents(tmp_path).class_names == ("cat", "dog")
    assert read_contents(tmp_path, "labels.csv").class_names == ("new", "old")


@pytest.mark.parametrize(
    ("files", "tables", "option"),
    [
        ("a.jpg b.jpg", {"labels_csv": "file,label / a,x / b,y"}, "photos/labels.csv"),
        ("images/a.jpg images/b.jpg", {"train_csv": "id,kind / a,x / b,y"}, "photos/train.csv"),
        ("train/a.jpg train/b.jpg", {"train_csv": "id,kind / a,x / b,y"}, "photos/train.csv"),
        (
            "train/a.jpg train/b.jpg valid/c.jpg",
            {
                "train___classes_csv": "filename,x,y / a.jpg,0,1 / b.jpg,1,0",
                "valid___classes_csv": "filename,x,y / c.jpg,0,1",
            },
            "_classes.csv",
        ),
    ],
)
def test_a_folder_without_classes_names_the_table_that_matches(
    tmp_path: Path, files: str, tables: dict[str, str], option: str
) -> None:
    root = build(tmp_path / "photos", files, **tables)
    option = option.replace("photos", str(root))
    with pytest.raises(NoClassesError, match=r"has labels of \d images: --labels ") as error:
        read_contents(root)
    assert str(error.value).endswith(f"--labels {option})")
    assert read_contents(root, option).class_names == ("x", "y")


def test_no_table_is_suggested_if_two_match_or_none(tmp_path: Path) -> None:
    root = build(tmp_path / "photos", "a.jpg b.jpg", sizes_csv="file,label / c,1 / d,2")
    with pytest.raises(NoClassesError, match="with --labels TABLE$"):
        read_contents(root)
    build(root, "", one_csv="file,label / a,x / b,y", two_csv="file,label / a,y / b,x")
    with pytest.raises(NoClassesError, match="with --labels TABLE$"):
        read_contents(root)


@pytest.mark.parametrize(
    ("files", "tables"),
    [
        ("a.jpg b.jpg", {"metadata_csv": "file_name,label / a.jpg,0 / b.jpg,1"}),
        ("in/a.jpg in/b.jpg", {"metadata_csv": "file_name,label / in/a.jpg,0 / in/b.jpg,1"}),
        (
            "a.jpg b.jpg",
            {"metadata_jsonl": '{"file_name": "a.jpg", "label": 0, "boxes": []} / '
             '{"label": 1, "file_name": "b.jpg"}'},
        ),
    ],
)  # fmt: skip
def test_the_standard_of_hugging_face_is_read_without_being_named(
    tmp_path: Path, files: str, tables: dict[str, str]
) -> None:
    layout = read_contents(build(tmp_path, files, **tables))
    assert {name: len(files) for name, files in classes_of(layout).items()} == {"0": 1, "1": 1}
    assert "labels from metadata." in layout.remarks[0]


def test_the_standard_table_may_be_in_each_part(tmp_path: Path) -> None:
    build(
        tmp_path,
        "data/train/1.jpg data/train/2.jpg data/test/1.jpg",
        data__train__metadata_csv="file_name,label / 1.jpg,x / 2.jpg,y",
        data__test__metadata_csv="file_name,label / 1.jpg,y",
    )
    layout = read_contents(tmp_path)
    assert classes_of(layout) == {"x": ["data/train/1.jpg"], "y": ["data/train/2.jpg"]}
    assert classes_of(layout, "test") == {"y": ["data/test/1.jpg"]}


def test_captions_beside_class_folders_are_no_labels(tmp_path: Path) -> None:
    table = "file_name,text / cat/1.jpg,a cat / dog/2.jpg,a dog / dog/3.jpg,another"
    build(tmp_path, "cat/1.jpg dog/2.jpg dog/3.jpg", metadata_csv=table)
    assert read_contents(tmp_path).class_names == ("cat", "dog")


def test_class_folders_and_a_standard_table_have_to_agree(tmp_path: Path) -> None:
    table = "file_name,label / cat/1.jpg,0 / dog/2.jpg,1"
    build(tmp_path, "cat/1.jpg cat/3.jpg dog/2.jpg", metadata_csv=table)
    assert read_contents(tmp_path).class_names == ("cat", "dog")
    build(tmp_path, "", metadata_csv=f"{table} / cat/3.jpg,1")
    with pytest.raises(DataError, match="has class folders, and other classes in metadata.csv"):
        read_contents(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX system")
def test_only_regular_files_are_tables(tmp_path: Path) -> None:
    build(tmp_path, "a.jpg labels.xlsx")
    os.mkfifo(tmp_path / "pipe.csv")
    for name, says in (("pipe.csv", "is no file"), ("labels.xlsx", "save it as .csv")):
        with pytest.raises(DataError, match=says):
            read_contents(tmp_path, name)
    with pytest.raises(DataError, match="there is no table none.csv"):
        read_contents(tmp_path, "none.csv")
