"""Secrets of a studio: its token, and the page that leads a browser to it."""

import os
import shutil
import webbrowser
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest

from convscope.studio.server import _show
from convscope.studio.workplace import Workplace


def test_a_token_that_came_with_a_folder_is_not_taken(tmp_path):
    token = Workplace(tmp_path / "runs").token()
    assert Workplace(tmp_path / "runs").token() == token
    shutil.copytree(tmp_path / "runs", tmp_path / "theirs")
    copied = (tmp_path / "theirs" / ".studio" / "token").read_text()
    assert copied.startswith(token)
    assert Workplace(tmp_path / "theirs").token() != token
    # One of an earlier version says nothing of its place.
    (tmp_path / "runs" / ".studio" / "token").write_text(token + "\n")
    assert Workplace(tmp_path / "runs").token() != token


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX system")
def test_the_command_of_the_browser_does_not_have_the_token(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    place = Workplace(tmp_path / "runs of mine")
    for _ in range(2):
        _show(place, 8100, "http://127.0.0.1:8100/?token=secret")
    (first, second) = opened
    assert first == second
    assert "secret" not in first
    page = Path(unquote(urlparse(first).path))
    assert page == place.door(8100)
    assert 'url=http://127.0.0.1:8100/?token=secret"' in page.read_text()
    assert page.stat().st_mode & 0o077 == 0
