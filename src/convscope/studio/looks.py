"""What all pages of the studio share: the frame, and small parts."""

import base64
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

import numpy as np

from convscope.errors import RunError
from convscope.run import Run
from convscope.studio import facts
from convscope.studio.drawing import N_COLOURS, Curve, chart
from convscope.studio.nice import ui
from convscope.studio.uploads import ARCHIVES, IMAGES, TAKEN
from convscope.studio.workplace import Workplace
from convscope.types import UInt8Array
from convscope.wording import counted, printable

PAGES = (
    ("Data", "/data"),
    ("Train", "/train"),
    ("Runs", "/runs"),
    ("Look inside", "/inside"),
    ("Use", "/use"),
)
"""Pages with their addresses, in the order of the work."""

_KINDS = {
    "finished": "cs-good",
    "done": "cs-good",
    "failed": "cs-bad",
    "damaged": "cs-bad",
    "killed": "cs-bad",
    "training": "cs-warn",
    "running": "cs-warn",
}


_DOUBLE_CLICK_S = 1.0
"""Seconds for which a button that began a job takes no further click."""


@contextmanager
def frame(title: str, address: str, place: Workplace) -> Iterator[None]:
    """Draw the head of a page; its body is the content.

    Args:
        title: Title of the page.
        address: Address among `PAGES` to which it belongs.
        place: Workplace, whose jobs are counted in the head.
    """
    ui.colors(primary="#0b6bcb")
    ui.page_title(f"{printable(title)} · convscope studio")
    ui.add_head_html('<link rel="stylesheet" href="/studio.css">')
    with ui.element("header").classes("cs-head"):
        ui.link("Skip to the content", "#content").classes("cs-skip")
        ui.link("convscope studio", "/").classes("cs-brand")
        with ui.element("nav").props('aria-label="Pages"').classes("cs-row"):
            for name, target in PAGES:
                link = ui.link(name, target)
                if target == address:
                    link.props('aria-current="page"')
        busy = ui.link("", "/train").classes("cs-busy")

        def count() -> None:
            n = len(place.jobs.active())
            busy.set_text(f"{counted(n, 'job')} running or waiting")
            busy.set_visibility(n > 0)

        count()
        ui.timer(3.0, count)
    # NiceGUI has made it the main part of the page already.
    with ui.element("div").classes("cs-main").props("id=content tabindex=-1"):
        yield


def heading(text: str, level: int = 2) -> Any:
    """Draw a heading."""
    return ui.html(escape(printable(text)), sanitize=False, tag=f"h{level}")


def say(text: str, kind: str = "") -> Any:
    """Draw a paragraph; nothing in it is markup."""
    return ui.label(printable(text)).classes(f"cs-p {kind}")


def found_run(place: Workplace, name: str) -> Run | None:
    """Return the run of a name; or None, after saying on the page why there is none."""
    try:
        return place.run(name)
    except RunError as error:
        heading("This run cannot be shown", 1)
        say(str(error), "cs-bad")
        return None


@contextmanager
def card() -> Iterator[Any]:
    """Draw a frame around the body."""
    with ui.element("section").classes("cs-card") as drawn:
        yield drawn


@contextmanager
def row() -> Iterator[Any]:
    """Draw the body side by side."""
    with ui.element("div").classes("cs-row") as drawn:
        yield drawn


def table(rows: Sequence[Sequence[str]], columns: Sequence[str] = ()) -> None:
    """Draw a small table.

    Args:
        rows: Texts of each row.
        columns: Their names; none draws no head.
    """
    with ui.element("div").classes("cs-scroll"), ui.element("table").classes("cs-table"):
        for kind, texts in [("th", columns)] * bool(columns) + [("td", each) for each in rows]:
            with ui.element("tr"):
                for text in texts:
                    with ui.element(kind):
                        ui.label(printable(text))


def pill(status: str) -> Any:
    """Draw a status."""
    return set_pill(ui.label(), status)


def set_pill(drawn: Any, status: str) -> Any:
    """Change a drawn status, and return it."""
    drawn.set_text(status)
    return drawn.classes(replace=f"cs-pill {_KINDS.get(status, '')}")


def button(text: str, action: Callable[..., Any], *, strong: bool = False, icon: str = "") -> Any:
    """Draw a button."""
    drawn = ui.button(text, on_click=action, icon=icon or None, color=None)
    drawn.props("unelevated no-caps").classes("cs-button" if strong else "cs-plain")
    return drawn


def job_button(
    text: str, action: Callable[..., Any], *, strong: bool = False, icon: str = ""
) -> Any:
    """Draw a button that begins a job: a double click begins one job, not two."""

    def begin() -> None:
        drawn.disable()
        ui.timer(_DOUBLE_CLICK_S, drawn.enable, once=True)
        action()

    drawn = button(text, begin, strong=strong, icon=icon)
    return drawn


def command(text: str) -> None:
    """Draw a command line that can be copied."""
    with ui.element("div").classes("cs-command"):
        ui.html(escape(text), sanitize=False, tag="code").props("tabindex=0")
        copy = ui.button(icon="content_copy", color=None).props(
            'flat dense size=sm aria-label="Copy the command"'
        )
        copy.classes("cs-small")

        def take() -> None:
            ui.clipboard.write(text)
            ui.notify("Copied")

        copy.on_click(take)


def svg(drawing: str) -> Any:
    """Draw a picture of `drawing.py`."""
    return ui.html(drawing, sanitize=False).style("width:100%")


def curve_pair(runs: Sequence[Run], ending: Callable[[Sequence[Curve]], str]) -> list[Curve]:
    """Draw accuracy and loss by epoch side by side, and return curves for their key.

    Args:
        runs: Runs in the order of their colours.
        ending: From curves to the end of their description, "Accuracy by epoch ...", for readers
            who cannot see them.
    """
    with ui.element("div").classes("cs-two"):
        for what, title in (("accuracy", "Accuracy"), ("loss", "Loss (nats)")):
            found = facts.curves(runs, what)
            with ui.element("div"):
                heading(title, 3)
                about = f"{title} by epoch{ending(found)}"
                svg(chart(found, about=about, x="epoch", y=title, percent=what == "accuracy"))
    return found


def key_of(curves: Sequence[Curve]) -> None:
    """Draw the names of curves in their colours."""
    spans = "".join(
        '<span class="cs-c{}" style="--stroke:{}px;--gap:{}px">{}</span>'.format(
            curve.colour % N_COLOURS,
            *curve.dash,
            escape(printable(curve.name)),
        )
        for curve in curves
    )
    ui.html(spans, sanitize=False).classes("cs-key")


def run_address(name: str, page: str = "run") -> str:
    """Return the address of a run's page."""
    return f"/{page}/{quote(name, safe='', errors='surrogateescape')}"


def picture(image: UInt8Array) -> str:
    """Return an image as an address with the scheme `data:`.

    Args:
        image: Shape (height, width, 1 or 3).
    """
    from PIL import Image

    small = max(image.shape[:2]) <= 64
    drawn = Image.fromarray(np.squeeze(image) if image.shape[2] == 1 else image)
    drawn.thumbnail((256, 256))
    kept = io.BytesIO()
    drawn.save(kept, "PNG" if small else "JPEG", **({} if small else {"quality": 85}))
    kind = "png" if small else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(kept.getvalue()).decode('ascii')}"


def wall(sources: Sequence[str], captions: Sequence[str], *, pixels: bool = False) -> Any:
    """Draw images with captions, in as many columns as there is room for.

    Args:
        sources: Addresses of the images.
        captions: Caption of each, also read to people who cannot see it.
        pixels: Whether the images are so small that their pixels shall be seen.
    """
    kind = ' class="cs-pixels"' if pixels else ""
    figures = "".join(
        f'<figure><img{kind} loading="lazy" src="{escape(source)}" '
        f'alt="{escape(printable(text))}"><figcaption>{escape(printable(text))}</figcaption>'
        "</figure>"
        for source, text in zip(sources, captions, strict=True)
    )
    return ui.html(figures, sanitize=False).classes("cs-wall")


def drop_zone(text: str, *, event: str, folders: bool = False, kinds: str = "images") -> Any:
    """Draw a place for files; `drop.js` sends them, and then the page the event.

    Args:
        text: What to do, for people.
        event: Name of the event; its arguments are {"drop", "tops", "n", "paths"}.
        folders: Whether a folder can be chosen too.
        kinds: "images", or "data" for archives and tables too.
    """
    ui.add_head_html('<script src="/drop.js" defer></script>')
    if folders:
        # A browser looks at the last ending only.
        archives = ",".join(sorted({PurePath(f"a{ending}").suffix for ending in ARCHIVES}))
        choose = (
            '<label class="cs-link">choose a folder<input type="file" webkitdirectory '
            'class="cs-hidden"></label> or <label class="cs-link">a zip file'
            f'<input type="file" accept="{archives}" class="cs-hidden"></label>'
        )
    else:
        choose = (
            '<label class="cs-link">choose files<input type="file" multiple '
            f'accept="image/*,{",".join(IMAGES)}" class="cs-hidden"></label> or '
            '<button type="button" class="cs-link" data-camera>take a photo</button>'
        )
    drawn = ui.html(
        f'<div class="cs-drop" data-drop="{escape(event)}" data-kinds="{escape(kinds)}" '
        f'data-takes="{" ".join(IMAGES if kinds == "images" else TAKEN)}">'
        f'<div style="font-size:18px">{escape(text)}</div><div>or {choose}</div>'
        '<div data-said role="status"></div></div>',
        sanitize=False,
    )
    return drawn.style("width:100%")
