"""The page that looks inside: why a network answers as it does, for any image."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

from convscope.run import Run
from convscope.studio.jobs import Job
from convscope.studio.looks import (
    card,
    drop_zone,
    found_run,
    frame,
    heading,
    run_address,
    say,
)
from convscope.studio.nice import ui
from convscope.studio.use import choose, only_run, reason_in
from convscope.studio.watch import job_view, when_ended
from convscope.studio.workplace import Workplace
from convscope.wording import printable

_N_BEFORE = 30


def show(place: Workplace, name: str = "") -> None:
    """Draw the page.

    Args:
        place: Workplace.
        name: Name of a run; empty for the only one, or to choose one.
    """
    name = name or only_run(place)
    if not name:
        choose(place, "Look inside", "/inside", "inside", "Choose the run to look into:")
        return
    with frame(f"Inside {name}", "/inside", place):
        run = found_run(place, name)
        if run is None:
            return
        heading(f"Inside {name}", 1)
        say(
            "For an image: the answer, the parts of the image that speak for it, and what each "
            "layer makes of it.",
            "cs-quiet",
        )
        drop_zone("Drop, paste or choose an image", event="explain_dropped")
        shown = ui.element("div")

        def follow(job: Job) -> None:
            shown.clear()
            with shown, card():
                job_view(job)

                def ended() -> None:
                    found = job.result()
                    if isinstance(found, dict):
                        with shown:
                            _pages(run, found)

                when_ended(job, ended)

        def dropped(event: Any) -> None:
            folder = place.uploads / Path(str(event.args["drop"])).name
            follow(
                place.jobs.submit(
                    ("explain", run.path, folder, "--json"),
                    kind="explain",
                    title=f"Explanation by {run.name}",
                    heavy=False,
                    about={"run": run.name},
                    success=(1,),
                )
            )

        ui.on("explain_dropped", dropped)
        before = place.jobs.newest("explain", run=run.name)
        if before is not None and before.is_active:
            follow(before)
        _before(run)


def _pages(run: Run, found: dict[str, Any]) -> None:
    """Draw the pages that `explain --json` names."""
    for each in found.get("explanations", ()):
        pages = {"Why this answer": each.get("page"), "Play with the network": each.get("explorer")}
        known = {title: Path(str(path)).name for title, path in pages.items() if path}
        with ui.tabs().props("no-caps align=left") as tabs:
            for title in known:
                ui.tab(title)
        with ui.tab_panels(tabs, value=next(iter(known))).classes("cs-panels"):
            for title, name in known.items():
                with ui.tab_panel(title):
                    page(run, name)
    for each in found.get("skipped", ()):
        say(reason_in(each), "cs-bad")


def page(run: Run, name: str) -> None:
    """Draw a page of the run's explanations in a frame of its own."""
    address = f"/files{run_address(run.name, '')[1:]}/{run.explanations_dir.name}/{quote(name)}"
    ui.link("On a page of its own", address, new_tab=True)
    ui.element("iframe").classes("cs-frame").props(
        f'src="{address}" title="What the network sees" sandbox="allow-scripts"'
    )


def _before(run: Run) -> None:
    folder = run.explanations_dir
    if not folder.is_dir() or folder.is_symlink():
        return
    pages = sorted(folder.glob("*.html"), key=lambda each: -each.stat().st_mtime)[:_N_BEFORE]
    if not pages:
        return
    with card():
        heading("Earlier explanations")
        for each in pages:
            address = f"/files{run_address(run.name, '')[1:]}/{folder.name}/{quote(each.name)}"
            with ui.element("div"):
                ui.link(printable(each.stem), address, new_tab=True)
