"""The page of data: choose images, see them, check them, and correct their labels."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from convscope.errors import ConvscopeError
from convscope.paths import user_path
from convscope.studio.correct import Doubt, decide, thumb
from convscope.studio.drawing import Curve, chart
from convscope.studio.dropped import show_uploads
from convscope.studio.jobs import Job
from convscope.studio.looks import (
    button,
    card,
    command,
    drop_zone,
    frame,
    heading,
    pill,
    row,
    say,
    svg,
    wall,
)
from convscope.studio.nice import background, ui
from convscope.studio.published import list_published, published, show_published
from convscope.studio.sources import Source, Sources
from convscope.studio.watch import age, job_view, when_ended
from convscope.studio.wish import typed
from convscope.studio.workplace import Workplace
from convscope.wording import command_line, counted, in_utf8, printable

_N_OF_CLASS = 12
_N_CLASSES = 30
_N_OF_FINDING = 8
_N_SUSPECTS = 60
_N_WEAKEST = 5
_NO_ADDRESS = "the name is not UTF-8, so a browser cannot ask for it; rename the folder"
_AS_USUAL: Mapping[str, str] = {}
_ADVICE = {
    "split.group": "Train with each series in one part",
    "split.near_copies": "Train with near copies in one part",
}
"""Links of a finding, by the setting with which a training keeps clear of it."""

_SEVERITIES = {"error": "cs-bad", "warning": "cs-warn", "note": ""}


async def show(place: Workplace, sources: Sources, data: str = "", labels: str = "") -> None:
    """Draw the page.

    Args:
        place: Workplace.
        sources: Folders whose pictures are shown.
        data: Folder, archive or published dataset; empty to choose one.
        labels: Table of labels; empty for none.
    """
    if data in {entry.name for entry in published()}:
        show_published(place, data)
        return
    if data:
        await _shown(place, sources, data, labels)
        return
    with frame("Data", "/data", place):
        heading("Your images", 1)
        say(
            "A folder with a sub-folder of images for each class. It is never written to.",
            "cs-quiet",
        )
        _drop(place)
        _browse()
        list_published()
        _recent(place)
        await show_uploads(place)


def address(data: str, labels: str = "") -> str:
    """Return the address of the page of some data."""
    return "/data?" + urlencode({"data": data} | ({"labels": labels} if labels else {}))


def _drop(place: Workplace) -> None:
    drop_zone("Drop a folder or a zip file here", event="data_dropped", folders=True, kinds="data")

    def dropped(event: Any) -> None:
        found = event.args
        folder = place.uploads / Path(str(found["drop"])).name
        tops = [str(top) for top in found["tops"]]
        # A folder of class folders, or the class folders themselves.
        chosen = folder / Path(tops[0]).name if len(tops) == 1 else folder
        ui.navigate.to(address(str(chosen)))

    ui.on("data_dropped", dropped)


def _browse() -> None:
    """Draw a way to a folder of this machine: typed, or folder by folder."""
    with card():
        heading("Or a folder of this computer")
        field = ui.input("Folder, zip file or list of images").props("outlined dense")
        field.style("max-width:640px")
        problem = say("", "cs-bad").props('role="alert"')

        def go() -> None:
            try:
                path = user_path(typed(field.value), "The folder")
            except ConvscopeError as error:
                problem.set_text(str(error))
                return
            if not path.exists():
                problem.set_text(f"There is no {path}.")
                return
            # Absolute: what is found in it is kept for a studio that is started elsewhere.
            ui.navigate.to(address(str(path.absolute())))

        field.on("keydown.enter", go)
        with row():
            button("Open", go, strong=True)
        at = {"folder": Path.cwd()}

        @ui.refreshable
        def folders() -> None:
            here = at["folder"]
            with row():
                ui.label(printable(str(here))).classes("cs-quiet")
                if here.parent != here:
                    button("Up", lambda: enter(here.parent), icon="arrow_upward")
                if has_address(here):
                    button("Choose this folder", lambda: ui.navigate.to(address(str(here))))
            if not has_address(here):
                say(_NO_ADDRESS, "cs-quiet")
            with ui.element("div").classes("cs-row").style("margin-top:8px"):
                for each in subfolders(here)[:200]:
                    if not has_address(each):
                        ui.label(f"{printable(each.name)}: {_NO_ADDRESS}").classes("cs-quiet")
                        continue
                    ui.button(
                        printable(each.name),
                        on_click=lambda each=each: enter(each),
                        icon="folder",
                        color=None,
                    ).props("flat dense no-caps").classes("cs-small")

        def enter(folder: Path) -> None:
            at["folder"] = folder
            field.set_value(str(folder))
            folders.refresh()

        with ui.expansion("Browse folders"):
            folders()


def has_address(path: Path) -> bool:
    """Return whether a browser can name a path: whether its name is UTF-8."""
    return in_utf8(str(path)) == str(path)


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder that are not hidden, by name; empty if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            found = [
                Path(each) for each in entries if not each.name.startswith(".") and each.is_dir()
            ]
    except OSError:
        return []
    return sorted(found, key=lambda each: each.name.lower())


def _recent(place: Workplace) -> None:
    known: dict[str, None] = {}
    for job in place.jobs.all():
        data = job.about.get("data")
        if isinstance(data, str) and Path(data).exists():
            known.setdefault(data)
    if known:
        with card():
            heading("Recent data")
            for data in list(known)[:8]:
                with ui.element("div").classes("cs-item"):
                    ui.link(printable(data), address(data))


async def _shown(place: Workplace, sources: Sources, data: str, labels: str) -> None:
    name = Path(data).name or data
    with frame(name, "/data", place):
        heading(name, 1)
        say(data, "cs-quiet")
        waiting = ui.spinner()
        source, problem = None, ""
        try:
            source = await background.io_bound(sources.open, data, labels)
        except ConvscopeError as error:
            problem = str(error)
        if waiting.is_deleted:
            return  # the page was left meanwhile
        waiting.delete()
        if source is None:
            say(problem, "cs-bad")
            ui.link("Choose other images", "/data")
            return
        options = ("--labels", labels) if labels else ()
        words = ("--data", data, *options)
        _summary(source, words)
        _classes(source)
        _check(place, source, words)
        if source.layout.labels_of is None:
            _suspects(place, source, words)
            _learning_curve(place, source, words)


def _summary(source: Source, words: tuple[str, ...]) -> None:
    n, n_classes = len(source.layout.names), len(source.by_class)
    with card():
        parts = {part: sum(map(len, of.values())) for part, of in source.layout.parts.items()}
        text = f"{counted(n, 'image')} of {counted(n_classes, 'class', 'classes')}"
        if len(parts) > 1:
            text += ": " + ", ".join(f"{count:,} {part}" for part, count in parts.items())
        ui.label(text).style("font-size:19px; font-weight:600")
        for line in source.layout.remarks:
            say(line, "cs-quiet")
        for problem in source.layout.problems:
            say(problem.message, "cs-bad")
        with row():
            button("Train on them", lambda: ui.navigate.to(training(source)), strong=True)
            ui.link("Other images", "/data")
        command(command_line("data", "show", *words))


def training(source: Source, settings: Mapping[str, str] = _AS_USUAL) -> str:
    """Return the address of the page that trains on images, perhaps as a finding advises."""
    asked = {
        "data": source.data,
        "labels": source.labels,
        "group": settings.get("split.group"),
        "near_copies": settings.get("split.near_copies"),
    }
    return "/train?" + urlencode({key: value for key, value in asked.items() if value})


def _classes(source: Source) -> None:
    by_class = source.by_class
    with card():
        heading("Classes")
        most = max(map(len, by_class.values()), default=1)
        for name, files in list(by_class.items())[:_N_CLASSES]:
            with row():
                heading(name, 3)
                ui.label(f"{len(files):,}").classes("cs-quiet")
                share = 100 * len(files) / most
                ui.html(
                    f'<div class="cs-bar"><div style="width:{share:.0f}%"></div></div>',
                    sanitize=False,
                ).props("aria-hidden=true").style("width:120px")
            step = max(1, len(files) // _N_OF_CLASS)
            chosen = files[::step][:_N_OF_CLASS]
            wall([thumb(source, file) for file in chosen], [Path(f).name for f in chosen])
        if len(by_class) > _N_CLASSES:
            say(f"and {len(by_class) - _N_CLASSES:,} more classes", "cs-quiet")


def _job_card(
    place: Workplace,
    source: Source,
    kind: str,
    title: str,
    of_job: str,
    about: str,
    command_of: Callable[[], tuple[object, ...]],
    draw: Any,
    success: tuple[int, ...] = (),
) -> None:
    """Draw a card with a button that starts a job, the job, and what it found.

    Args:
        place: Workplace.
        source: Images that the job is about.
        kind: Name of the action.
        title: Title of the card, and of its button.
        of_job: Title of the job.
        about: What the job does.
        command_of: Called for the words of the next job's command.
        draw: Called with what the job printed.
        success: Exit codes besides 0 with which it has a result.
    """
    of = {"data": source.data, "labels": source.labels}
    with card():
        heading(title)
        say(about, "cs-quiet")
        shown = ui.element("div")

        def follow(job: Job) -> None:
            shown.clear()
            again.set_text(f"{title} again")
            again.set_enabled(not job.is_active)
            with shown:
                if job.is_active or job.status != "done":
                    job_view(job, compact=True)

            def ended() -> None:
                again.enable()
                if job.status == "done":
                    with shown:
                        age(job, source.changed, "The images have changed since")
                        draw(job.result())

            when_ended(job, ended)

        def start() -> None:
            follow(
                place.jobs.submit(
                    command_of(), kind=kind, title=of_job, about=of, heavy=False, success=success
                )
            )

        with row():
            again = button(title, start)
        before = place.jobs.newest(kind, **of)
        if before is not None:
            follow(before)
        command(command_line(*(word for word in command_of() if word != "--json")))


def _check(place: Workplace, source: Source, words: tuple[str, ...]) -> None:
    def draw(found: Any) -> None:
        if not isinstance(found, dict):
            return
        if not found.get("findings"):
            say(f"{counted(found.get('n_images', 0), 'image')}: nothing found.", "cs-good")
        for finding in found.get("findings", ()):
            with row():
                pill(finding["severity"]).classes(_SEVERITIES.get(finding["severity"], ""))
                ui.label(printable(finding["message"]))
            say(finding["remedy"], "cs-quiet")
            for key, value in finding.get("settings", {}).items():
                if key in _ADVICE:
                    ui.link(_ADVICE[key], training(source, {key: value}))
            groups = [file for group in finding["groups"][:4] for file in group[:4]]
            files = (groups or finding["files"])[:_N_OF_FINDING]
            known = [file for file in files if _is_image(source, file)]
            if known and finding["kind"] != "unreadable":
                wall([thumb(source, file) for file in known], known)
            for line in finding["details"][:_N_OF_FINDING]:
                ui.label(printable(line)).classes("cs-log")

    _job_card(
        place,
        source,
        "check",
        "Check the images",
        f"Check of {source.name}",
        "Broken files, blank images, duplicates, series, the same image in two parts, unusual "
        "sizes.",
        lambda: ("data", "check", *words, "--json"),
        draw,
        success=(1,),
    )


def _is_image(source: Source, file: str) -> bool:
    try:
        return source.file(file).is_file()
    except ConvscopeError:
        return False


def _suspects(place: Workplace, source: Source, words: tuple[str, ...]) -> None:
    def command_of() -> tuple[object, ...]:
        return ("data", "suspects", *words, "--out", folder_of(place, source, "suspects"), "--json")

    def draw(found: Any) -> None:
        if not isinstance(found, dict):
            return
        suspects = found.get("suspects", [])
        say(
            f"{len(suspects):,} of {counted(found.get('n_images', 0), 'label')} "
            f"{'is' if len(suspects) == 1 else 'are'} in doubt, according to networks with "
            f"{100 * found.get('accuracy', 0):.1f} % accuracy on images they were not trained on."
        )
        if suspects:
            doubts = [
                Doubt(each["image_id"], each["class_name"], each["answer"], each["prob"])
                for each in suspects[:_N_SUSPECTS]
            ]
            decide(place, source, doubts, says="Looks like")

    _job_card(
        place,
        source,
        "suspects",
        "Find wrong labels",
        f"Search for wrong labels in {source.name}",
        "Networks that were not trained on an image say what it shows; where they rule out its "
        "label, you decide. Takes a minute for a thousand photos.",
        command_of,
        draw,
    )


def _learning_curve(place: Workplace, source: Source, words: tuple[str, ...]) -> None:
    def command_of() -> tuple[object, ...]:
        folder = folder_of(place, source, "learning-curve")
        return ("data", "learning-curve", *words, "--out", folder, "--json")

    def draw(found: Any) -> None:
        if not isinstance(found, dict):
            return
        points = [(each["n_images"], each["accuracy"]) for each in found["points"]]
        twice = found["expected"]
        now = found["expected_of_all"]
        more = [(each["n_images"], each["accuracy"]) for each in (now, twice)]
        expected = [points[-1], *more]
        said = (
            f"With all {found['n_images']:,} images expect an accuracy of about "
            f"{100 * now['accuracy']:.1f} %, with twice as many {100 * twice['accuracy']:.1f} % "
            f"({100 * twice['low']:.1f} to {100 * twice['high']:.1f} %); with {points[-1][0]:,} it "
            f"was {100 * points[-1][1]:.1f} %."
        )
        say(said)
        curves = [Curve("measured", points), Curve("expected", expected, colour=1, dashed=True)]
        about = f"Accuracy on other images by number of training images. {said}"
        svg(chart(curves, about=about, x="training images", y="accuracy", percent=True))
        weakest = found["classes"][:_N_WEAKEST]
        listed = ", ".join(
            f"{printable(each['class_name'])} {100 * each['recall']:.0f} % "
            f"({100 * each['recall_of_half']:.0f} % with half of the images)"
            for each in weakest
        )
        say(f"Recall of the weakest classes: {listed}.", "cs-quiet")

    _job_card(
        place,
        source,
        "learning-curve",
        "Measure the learning curve",
        f"Learning curve of {source.name}",
        "Would more images help? Accuracy by number of training images, and what twice as many "
        "would give. Takes half a minute for a thousand photos.",
        command_of,
        draw,
    )


def folder_of(place: Workplace, source: Source, kind: str) -> Path:
    """Return the folder for a study of images: that of the last one, if it can go on.

    Args:
        place: Workplace.
        source: Images.
        kind: Name of the action, "suspects" or "learning-curve".
    """
    before = place.jobs.newest(kind, data=source.data, labels=source.labels)
    if before is not None and before.status != "failed" and not before.is_older(source.changed):
        words = before.words
        return Path(words[words.index("--out") + 1])
    # A folder holds the study of one state of the images only.
    return place.new_run(f"{kind}-{source.name}")
