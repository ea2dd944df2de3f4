"""Datasets that are known by name: their list on the page of data, and a page of each."""

from typing import Any
from urllib.parse import quote, urlencode

from convscope.datasets import DATASETS, takes_place
from convscope.registry import Entry
from convscope.studio.jobs import Job
from convscope.studio.looks import (
    button,
    card,
    command,
    frame,
    heading,
    row,
    say,
)
from convscope.studio.nice import ui
from convscope.studio.watch import job_view, when_ended
from convscope.studio.workplace import Workplace
from convscope.wording import command_line, printable


def published() -> list[Entry[Any]]:
    """Return the datasets that are known by name, without those that are a path."""
    return [entry for entry in DATASETS.entries() if not takes_place(entry.name)]


def list_published() -> None:
    """Draw the list of datasets."""
    with card():
        heading("Or a built-in dataset")
        for entry in published():
            with ui.element("div").classes("cs-item"):
                ui.link(entry.name, "/data?" + urlencode({"data": entry.name}))
                ui.label(printable(entry.description)).classes("cs-quiet")


def facts_of(entry: Entry[Any]) -> str:
    """Return the numbers of a dataset in a line.

    Examples:
        >>> facts_of(DATASETS.entry("digits"))
        '1,797 images of 10 classes, 8 x 8 pixels, licence CC BY 4.0, nothing to download'
    """
    info = entry.info
    parts = []
    if info.get("n_train") and info.get("n_classes"):
        n = info["n_train"] + (info.get("n_test") or 0)
        parts.append(f"{n:,} images of {info['n_classes']:,} classes")
    if info.get("image_shape"):
        height, width = info["image_shape"][:2]
        parts.append(f"{width} x {height} pixels")
    if info.get("licence"):
        parts.append(f"licence {info['licence']}")
    if "download_mb" in info:
        size = info["download_mb"]
        parts.append(f"{size:,.0f} MB to download once" if size else "nothing to download")
    return ", ".join(parts)


def show_published(place: Workplace, name: str) -> None:
    """Draw the page of a dataset.

    Args:
        place: Workplace.
        name: Registered name.
    """
    entry = DATASETS.entry(name)
    with frame(name, "/data", place):
        heading(name, 1)
        say(entry.description)
        say(facts_of(entry), "cs-quiet")
        with card():
            heading("Images")
            shown = ui.element("div")

            def follow(job: Job) -> None:
                shown.clear()
                look.set_enabled(not job.is_active)
                with shown:
                    if job.is_active or job.status != "done":
                        job_view(job, compact=True)

                def ended() -> None:
                    look.enable()
                    if job.status == "done":
                        with shown:
                            _picture(job, name)

                when_ended(job, ended)

            picture = place.own / "pictures" / f"dataset-{name}.png"
            words = ("data", "show", "--data", name, "--out", picture)

            def start() -> None:
                picture.parent.mkdir(parents=True, exist_ok=True)
                follow(
                    place.jobs.submit(
                        words,
                        kind="dataset",
                        title=f"Images of {name}",
                        heavy=False,
                        about={"dataset": name},
                    )
                )

            with row():
                look = button("Show some of them", start)
                target = "/train?" + urlencode({"data": name})
                button("Train on them", lambda: ui.navigate.to(target), strong=True)
                ui.link("Other images", "/data")
            before = place.jobs.newest("dataset", dataset=name)
            if before is not None:
                follow(before)
            command(command_line("data", "show", "--data", name))


def _picture(job: Job, name: str) -> None:
    text = f"Some training images of {name}, each with its class"
    ui.html(
        f'<img src="/picture/{quote(job.name)}.png" style="max-width:100%" alt="{text}">',
        sanitize=False,
    )
