"""What a user names for prediction: files, folders and lists."""

import io
from pathlib import Path

import pytest

from convscope.classifier.sources import is_stream, iter_images_of
from convscope.errors import DataError


@pytest.fixture
def photos(tmp_path):
    for name in ("a.png", "b c.jpg", "deep/d.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.txt", "a.png\nb c.jpg\ndeep/d.png\n"),
        ("list.csv", "id,image\n1,a.png\n2,b c.jpg\n3,deep/d.png\n"),
        (
            "list.jsonl",
            '{"file_name": "a.png"}\n{"file_name": "b c.jpg"}\n{"file_name": "deep/d.png"}\n',
        ),
    ],
)
def test_a_list_names_files_relative_to_itself(name, text, photos):
    (photos / name).write_text(text)
    assert is_stream(photos / name)
    expected = [photos / "a.png", photos / "b c.jpg", photos / "deep" / "d.png"]
    assert list(iter_images_of([photos / name])) == expected


def test_sources_come_in_their_order_and_standard_input_is_a_list(photos, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("x.png\n\ny.png\n"))
    found = list(iter_images_of([photos / "deep", "-", photos / "a.png"]))
    assert found == [photos / "deep" / "d.png", Path("x.png"), Path("y.png"), photos / "a.png"]
    assert not is_stream(photos)


def test_a_table_without_a_column_of_files_is_refused(photos):
    (photos / "list.csv").write_text("colour,weight\nred,1\n")
    with pytest.raises(DataError, match="no column called file"):
        list(iter_images_of([photos / "list.csv"]))
