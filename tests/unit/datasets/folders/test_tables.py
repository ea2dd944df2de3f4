"""Tables from files of each kind, and from damaged ones."""

import builtins
import datetime
import random
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from convscope import parquet as limits
from convscope.datasets.folders import tables
from convscope.datasets.folders.columns import LabelTable, read_labels
from convscope.datasets.folders.tables import open_table
from convscope.errors import DataError, MissingExtraError, UnknownNameError


def rows_of(path: Path, columns: str = "") -> list[tuple[str, str]]:
    labels = read_labels(path, LabelTable.parse(f"{path}{columns}"))
    return [(row.file, " ".join(row.labels)) for row in labels.rows]


def test_a_list_has_a_label_after_a_blank_or_in_the_path(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("my cat/1 b.jpg 0\n\n  dog/2.jpg 1 \r\ndog/3.jpg  10\n")
    assert rows_of(path) == [("my cat/1 b.jpg", "0"), ("dog/2.jpg", "1"), ("dog/3.jpg", "10")]
    path.write_text("apple pie/1005649.jpg\napple pie/22.JPG\n")
    files = ["apple pie/1005649.jpg", "apple pie/22.JPG"]
    assert rows_of(path) == [(file, "apple pie") for file in files]
    path.write_text("pie/1005649\nsoup/22\n")
    assert rows_of(path) == [("pie/1005649", "pie"), ("soup/22", "soup")]
    path.write_text("a.jpg\tbig cat\nb.jpg\tdog\n")
    assert rows_of(path) == [("a.jpg", "big cat"), ("b.jpg", "dog")]
    for table in ("a.jpg,big cat\nb.jpg,dog\n", "filename;label\na.jpg;big cat\nb.jpg;dog\n"):
        for mark in ",;":
            path.write_text(table.replace(",", mark).replace(";", mark))
            assert rows_of(path) == [("a.jpg", "big cat"), ("b.jpg", "dog")]
    for names in (["one, two.jpg", "b.jpg"], ["fish,chips/1005649", "soup/22"]):
        path.write_text("\n".join(names))
        assert [file for file, _ in rows_of(path)] == names


def test_columns_between_blanks(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("images/1.png  1.0   mono\nimages/2.png  0.3333   poly\n")
    assert rows_of(path, ":label=2") == [("images/1.png", "1.0"), ("images/2.png", "0.3333")]
    assert rows_of(path, ":label=3") == [("images/1.png", "mono"), ("images/2.png", "poly")]
    with pytest.raises(
        DataError, match=r"the classes: --labels labels.csv:label=COLUMN .it has '2', '3'"
    ):
        rows_of(path)


def test_parquet_columns_of_text_and_numbers(tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    columns = {
        "image": ["a.jpg", "b.jpg", "c.jpg"],
        "label": pa.array([2.0, None, 10.0]),
        "pixels": [[1, 2], [3], []],
        "kind": pa.array(["x", "y", "x"]).dictionary_encode(),
    }
    parquet.write_table(pa.table(columns), path)
    assert rows_of(path) == [("a.jpg", "2"), ("b.jpg", ""), ("c.jpg", "10")]
    assert rows_of(path, ":label=kind") == [("a.jpg", "x"), ("b.jpg", "y"), ("c.jpg", "x")]
    with pytest.raises(DataError, match="the column 'pixels' of .* holds lists"):
        rows_of(path, ":file=pixels,label=kind")
    read = [number for number, _ in open_table(path).rows(["kind"])]
    assert read == [2, 3, 4], "as a spreadsheet counts them"


def test_parquet_columns_of_other_kinds_may_be_there(tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    columns = {
        "taken": pa.array([datetime.date(2024, 5, 1), None]),
        "at": pa.array([datetime.datetime(2024, 5, 1), None]),
        "price": pa.array([Decimal("1.50"), None]),
        "bytes": pa.array([b"x", None]),
        "key": pa.array([b"xy", None], pa.binary(2)),
        "image": pa.array(["a.jpg", "b.jpg"], pa.large_string()),
        "label": pa.array(["x", "y"]).dictionary_encode(),
    }
    parquet.write_table(pa.table(columns), path)
    assert rows_of(path) == [("a.jpg", "x"), ("b.jpg", "y")]
    for name in list(columns)[:5]:
        with pytest.raises(DataError, match=f"the column '{name}' of .* holds neither text nor"):
            rows_of(path, f":label={name}")


@pytest.mark.parametrize("cell", ["a.jpg", '"a.jpg"'])
def test_the_mark_between_columns_is_beside_the_name_of_an_image(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(f"{cell},cat|dog|owl\nb.jpg,cat\n")
    assert rows_of(path) == [("a.jpg", "cat|dog|owl"), ("b.jpg", "cat")]


def test_fields_of_json_lines_may_be_missing_in_the_first(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text(
        '{"file_name": "a.jpg"}\n{"file_name": "b.jpg", "label": "cat"}\n'
        '{"label": "dog", "file_name": "c.jpg", "tags": [1]}\n'
    )
    assert open_table(path).names == ("file_name", "label", "tags")
    assert rows_of(path) == [("a.jpg", ""), ("b.jpg", "cat"), ("c.jpg", "dog")]


@pytest.mark.parametrize(
    ("name", "text", "numbers"),
    [
        ("t.csv", "\nfile,label\na.png,x\n\n  \nb.png,y\n", [3, 6]),
        ("t.csv", 'file,label\n"a.png","a\n\nb"\n\nb.png,y\n', [2, 4]),
        ("t.tsv", "\nfile\tlabel\na.png\tx\n\n\t\nb.png\ty\n", [3, 6]),
        ("t.txt", "\na.png x\n\n\nb.png y\n", [2, 5]),
        ("t.jsonl", '\n{"file": "a.png"}\n\n \n{"file": "b.png"}\n', [2, 5]),
    ],
)
def test_blank_lines_are_counted_as_a_spreadsheet_does(
    name: str, text: str, numbers: list[int], tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    rows = list(open_table(tmp_path / name).rows(["file"]))
    assert rows == list(zip(numbers, [["a.png"], ["b.png"]], strict=True))


def test_an_error_names_the_row_that_a_spreadsheet_shows(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("file,label\n\n\na.png,x,y\n")
    with pytest.raises(DataError, match="row 4 has 3 cells in 2 columns"):
        open_table(tmp_path / "t.csv")


def test_parquet_needs_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "labels.parquet"
    path.touch()
    whole = builtins.__import__

    def without(name: str, *args: object, **options: object) -> object:
        if name.partition(".")[0] == "pyarrow":
            raise ImportError(name)
        return whole(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match="pip install pyarrow$"):
        open_table(path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_text_as_excel_saves_it(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("file\tlabel\r\né.jpg\tThé\r\n", encoding=encoding)
    assert rows_of(path) == [("é.jpg", "Thé")]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("t.csv", "file,label\na,caf\xe9\n".encode("latin-1"), "is not UTF-8; save it as"),
        ("t.csv", b'file,label\n"' + b"a" * 200_000, "cannot be read as a table"),
        ("t.parquet", b"PAR1 no", "cannot be read as a table"),
        ("t.jsonl", b'{"file": "a", "label": 1}\n[1]\n', "line 2 holds no object"),
        ("t.jsonl", b"\n", "is empty"),
        ("t.jsonl", b'{"file": "a", "label": 1}\n{"file"\n', "cannot be read as a table"),
        ("t.jsonl", b"[" * 100_000, "cannot be read as a table"),
        ("t.txt", b"\n", "is empty"),
    ],
)
def test_damaged_tables_are_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=says) as error:
        rows_of(path)
    assert "\n" not in str(error.value)


def test_large_tables_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.csv"
    path.write_text("file,label\na,x\nb,y\n")
    monkeypatch.setattr(tables, "MAX_ROWS", 1)
    with pytest.raises(DataError, match="more than 1 rows"):
        rows_of(path)
    parquet.write_table(pa.table({"file": ["a", "b"], "label": [1, 2]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="more than 1 rows"):
        rows_of(tmp_path / "t.parquet")
    monkeypatch.setattr(tables, "MAX_BYTES", 10)
    with pytest.raises(DataError, match="larger than 10 bytes"):
        rows_of(path)


@pytest.mark.parametrize("kind", ["string", "large_string", "binary", "large_binary", "list"])
def test_a_long_text_in_every_row_of_a_small_file_is_not_unpacked(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, long = tmp_path / "t.parquet", ["x" * 10_000] * 2000
    if kind == "list":
        columns = {"file": ["a.png"] * 2000, "label": [[text] for text in long]}
    else:
        columns = {"file": pa.array(long).cast(getattr(pa, kind)()), "label": ["a"] * 2000}
    parquet.write_table(pa.table(columns), path, compression="zstd")
    assert path.stat().st_size < 10_000
    largest, counted = [], limits._n_bytes

    def watched(array: Any) -> int:
        largest.append(array.nbytes)
        return counted(array)

    monkeypatch.setattr(limits, "_n_bytes", watched)
    monkeypatch.setattr(limits, "MAX_UNPACKED", 10_000_000)
    with pytest.raises(
        DataError, match="its column .* unpacks to more than 10,000,000 bytes"
    ) as error:
        list(open_table(path).rows(["file", "label"], "label"))
    assert "\n" not in str(error.value)
    assert max(largest) < 100_000, "the text is in memory once"


def test_a_column_is_limited_by_what_the_file_states(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.parquet"
    columns = {"file": [f"{n}.png" for n in range(99)], "label": [["x", "y"]] * 99}
    parquet.write_table(pa.table(columns), path)
    assert len(list(open_table(path).rows(["file", "label"], "label"))) == 99
    monkeypatch.setattr(limits, "MAX_VALUES", 150)
    with pytest.raises(DataError, match="its column 'label' .* or 150 values"):
        list(open_table(path).rows(["file", "label"], "label"))
    monkeypatch.setattr(limits, "MAX_UNPACKED", 400)
    with pytest.raises(DataError, match="its column 'file' .* more than 400 bytes"):
        open_table(path)


def test_texts_of_other_rows_are_not_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch comes with the texts of a million rows, in which each row took its time."""
    names = [f"{n}.png" for n in range(9000)]
    parquet.write_table(pa.table({"file": names}), tmp_path / "t.parquet")
    seen, cells_of = [], tables._column
    monkeypatch.setattr(tables, "_column", lambda *given: seen.append(given[2]) or cells_of(*given))
    assert [cells[0] for _, cells in open_table(tmp_path / "t.parquet").rows(["file"])] == names
    assert all(len(column.dictionary) <= len(column) for column in seen)


def test_tables_with_flipped_bytes_give_rows_or_one_line(tmp_path: Path) -> None:
    rng, lines = random.Random(0), []
    table = pa.table({"file": [f"{n}.jpg" for n in range(50)], "label": ["x", "y"] * 25})
    parquet.write_table(table, tmp_path / "t.parquet")
    (tmp_path / "t.csv").write_text("file,label\n" + "a.jpg,x\n" * 20)
    (tmp_path / "t.jsonl").write_text('{"file": "a.jpg", "label": [1, 2]}\n' * 20)
    for name in ("t.parquet", "t.csv", "t.jsonl"):
        whole = (tmp_path / name).read_bytes()
        for _ in range(60):
            spoilt = bytearray(whole)
            for _ in range(rng.randrange(1, 6)):
                spoilt[rng.randrange(len(spoilt))] = rng.randrange(256)
            (tmp_path / name).write_bytes(spoilt[: rng.randrange(1, len(spoilt) + 1)])
            try:
                rows_of(tmp_path / name)
            except DataError as error:
                lines.append(str(error))
    assert len(lines) > 30
    assert not any("\n" in line for line in lines)


@pytest.mark.parametrize(("line", "mark"), [("sep=;", ";"), ("sep=\t", "\t"), ("sep=,", ",")])
def test_the_delimiter_may_be_named_in_a_line_of_its_own(tmp_path: Path, line, mark) -> None:
    rows = (line, f"file{mark}label", f'a.png{mark}"x,;\ty"', f"b.png{mark}z")
    (tmp_path / "t.csv").write_text("\r\n".join(rows), encoding="utf-8-sig")
    assert rows_of(tmp_path / "t.csv") == [("a.png", "x,;\ty"), ("b.png", "z")]


@pytest.mark.parametrize(
    ("named", "said"),
    [
        (":fil=img,label=kind", "unknown word of --labels 'fil'; did you mean 'file'?"),
        (":label=kind,kolom=x", "unknown word of --labels 'kolom'; choose one of: classes, file,"),
    ],
)
def test_a_misspelled_word_for_a_column_is_named(named, said) -> None:
    with pytest.raises(UnknownNameError, match=re.escape(said)):
        LabelTable.parse(f"t.csv{named}")
