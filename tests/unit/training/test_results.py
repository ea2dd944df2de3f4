import csv
import os
from types import SimpleNamespace

import pytest

from convscope.errors import RunError, StorageError
from convscope.recipe import resolve
from convscope.recipes import RECIPES
from convscope.training.results import (
    COLUMNS,
    add_result,
    n_rows,
    read_results,
    row_of,
    write_results,
)

ROWS = [
    {key: (epoch if key == "epoch" else (index + 0.1) / 3) for index, key in enumerate(COLUMNS)}
    | {"phase": "head" if epoch < 3 else "after block_12, all"}
    for epoch in (1, 2, 3)
]


def test_what_was_written_is_read_back_to_the_last_digit(tmp_path):
    path = tmp_path / "results.csv"
    write_results(ROWS, path)
    assert read_results(path) == ROWS
    write_results(ROWS[:1], path)
    assert read_results(path) == ROWS[:1]
    assert os.listdir(tmp_path) == ["results.csv"]


def test_a_table_that_grows_row_by_row_is_the_one_written_at_once(tmp_path):
    path, whole = tmp_path / "results.csv", tmp_path / "whole.csv"
    write_results(ROWS, whole)
    for n_epochs in (1, 2, 3):
        add_result(ROWS[:n_epochs], path)
        assert read_results(path) == ROWS[:n_epochs]
    assert path.read_bytes() == whole.read_bytes()
    # One that lacks rows, or holds others, is written anew.
    for content in (b"", b"epoch\n1\n", whole.read_bytes() * 2):
        path.write_bytes(content)
        add_result(ROWS, path)
        assert path.read_bytes() == whole.read_bytes()


def test_it_is_csv_with_a_header_for_any_tool(tmp_path):
    write_results(ROWS, tmp_path / "results.csv")
    with (tmp_path / "results.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert tuple(header) == COLUMNS
    assert [row[0] for row in rows] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("recipe", "settings", "rows"),
    [
        ("tutorial", {"model": "cnn-sequential", "epochs": 3}, 3),
        ("probe", {"model": "mobilenet_v2", "epochs": 3}, 3),
        ("logistic", {"model": "mobilenet_v2"}, 1),
        ("finetune", {"model": "mobilenet_v2", "epochs": 3, "backbone.head_epochs": 2}, 5),
        ("finetune-photos", {"model": "mobilenet_v2", "epochs": 3}, 4),
    ],
)
def test_phases_before_the_epochs_have_rows_of_their_own(recipe, settings, rows):
    assert n_rows(resolve(RECIPES.get(recipe)(), settings)) == rows


def test_no_epochs_yet_is_an_empty_table(tmp_path):
    write_results([], tmp_path / "results.csv")
    assert read_results(tmp_path / "results.csv") == []


def test_a_table_from_before_there_were_phases_is_read(tmp_path):
    path = tmp_path / "results.csv"
    write_results(ROWS, path)
    # By Python's own reader and writer, as a table of that time was written.
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row[:-1] for row in csv.reader(file)]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    assert read_results(path) == [{**row, "phase": "all"} for row in ROWS]


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"epoch,loss\n1,0.5\n",
        ",".join(COLUMNS).encode() + b"\n1,0.5\n",
        ",".join(COLUMNS).encode() + b"\n1,a,b,c,d,e,f,g,all\n",
        b"\xff\xfe\x00\x01\n\x00",
    ],
    ids=["absent", "columns", "short", "text", "binary"],
)
def test_a_missing_or_damaged_table_is_one_clear_line(tmp_path, content):
    path = tmp_path / "results.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RunError, match=r"results\.csv is missing or damaged") as caught:
        read_results(path)
    assert "\n" not in str(caught.value)


def test_an_unknown_column_is_not_dropped_in_silence(tmp_path):
    path = tmp_path / "results.csv"
    write_results(ROWS[:1], path)
    with pytest.raises(ValueError, match="surprise"):
        write_results([{**ROWS[0], "surprise": 1.0}], path)
    assert read_results(path) == ROWS[:1]


def test_a_place_that_cannot_be_written_to_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError):
        write_results(ROWS, tmp_path / "file" / "results.csv")


def test_a_row_has_all_columns_in_their_order():
    learnt, judged = (
        SimpleNamespace(loss=0.5, accuracy=0.8),
        SimpleNamespace(loss=0.6, accuracy=0.7),
    )
    row = row_of(
        3, learnt, judged, learning_rate=0.1, seconds=4.00049, n_images=1_000, phase="head"
    )
    assert tuple(row) == COLUMNS
    assert list(row.values()) == [3, 0.5, 0.8, 0.6, 0.7, 0.1, 4.0, 250.0, "head"]
