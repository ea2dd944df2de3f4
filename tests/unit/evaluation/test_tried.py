"""The table of what was tried before a run's way of training was chosen."""

import pytest

from convscope.errors import RunError
from convscope.evaluation.tried import Tried, read_tried, write_tried

ROWS = [
    Tried("frozen", 0, "a backbone, frozen", 12.5, 0.9, 0.25),
    Tried("fine-tuned", 1, "its last stage, fine-tuned", 60.0, 0.95, 0.125, chosen=True),
    Tried("mirrored", 0, "on mirrored images", 3.0, None, None, "it diverged, twice"),
]


def test_what_was_written_is_read(tmp_path):
    write_tried(ROWS, tmp_path / "tried.csv")
    assert read_tried(tmp_path / "tried.csv") == ROWS
    assert read_tried(tmp_path / "none.csv") == []


@pytest.mark.parametrize("content", ["candidate\nx\n", "candidate,fold,words\nx,y,z\n"])
def test_a_damaged_table_is_named(tmp_path, content):
    file = tmp_path / "tried.csv"
    file.write_text(content)
    with pytest.raises(RunError, match=r"tried\.csv is damaged"):
        read_tried(file)
