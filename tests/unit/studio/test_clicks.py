"""What pages show and do when they are used, on NiceGUI's simulated user: no browser, no server."""

import asyncio
import importlib.util

import pytest

from convscope.studio.uploads import Uploads
from convscope.studio.workplace import Workplace

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("nicegui") is None,
    reason="needs NiceGUI: pip install 'convscope[studio]'",
)


@pytest.fixture
def visit(monkeypatch):
    """Return a function that draws a page and lets a person, a coroutine function, use it."""

    def visited(draw, person) -> None:
        async def whole() -> None:
            from nicegui.testing import user_simulation

            async with user_simulation(root=draw) as user:
                await user.open("/")
                await person(user)

        asyncio.run(whole())

    return visited


def test_a_drop_that_is_not_whole_is_listed_but_no_data(tmp_path, visit):
    from convscope.studio.dropped import show_uploads

    place = Workplace(tmp_path / "runs")
    files = Uploads(place.uploads)
    drop = files.begin()
    (place.uploads / drop / "v1.0").mkdir()

    async def listed() -> None:
        await show_uploads(place)

    async def broken(user) -> None:
        await user.should_see("incomplete: not all files have been sent")
        assert not user.find("v1.0").elements.pop().props.get("href")

    async def whole(user) -> None:
        await user.should_see("v1.0")
        await user.should_not_see("incomplete")
        assert drop in user.find("v1.0").elements.pop().props["href"]

    visit(listed, broken)
    files.end(drop)
    visit(listed, whole)
