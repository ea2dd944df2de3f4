"""How a page shows wide pictures."""

import re

import pytest

from convscope.report.page import Page, Picture, Section, write_page


@pytest.mark.parametrize(
    ("width", "kind"),
    [(440, ""), (614, "wide"), (900, "wide"), (1296, "wide whole")],
)
def test_a_picture_wider_than_a_screen_scrolls_in_place_of_shrinking(width, kind, tmp_path):
    picture = Picture("data:image/png;base64,", "alt", "caption", width)
    page = Page("title", "about", "verdict", [Section("heading", [picture])])
    write_page(page, tmp_path / "page.html")
    (tag,) = re.findall("<figure(.*)>", (tmp_path / "page.html").read_text("utf-8"))
    assert f'style="--width: {width}px; max-width: {width}px"' in tag
    assert re.findall('class="([^"]*)" tabindex="0"', tag) == ([kind] if kind else [])
