"""Tables of the Markdown pages are whole: a bar in a cell, unless escaped, begins another cell."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for folder in (".", "docs", "docs/site", "deploy", "benchmarks")
    for page in (ROOT / folder).glob("*.md")
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_each_row_has_as_many_cells_as_its_head(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for table in re.findall(r"(?:^\|.*\n)+", text, re.M):
        head, *rows = table.splitlines()
        assert [row for row in rows if n_bars(row) != n_bars(head)] == []


def n_bars(row: str) -> int:
    return len(re.findall(r"(?<!\\)\|", row))
