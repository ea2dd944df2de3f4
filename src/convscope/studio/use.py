"""The page of use: images in, answers out; the export, and the commands that do the same."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from convscope.errors import ConvscopeError
from convscope.export import FORMATS
from convscope.paths import numbered
from convscope.run import Run
from convscope.studio import facts
from convscope.studio.jobs import Job
from convscope.studio.looks import (
    card,
    command,
    drop_zone,
    found_run,
    frame,
    heading,
    job_button,
    row,
    run_address,
    say,
)
from convscope.studio.nice import ui
from convscope.studio.sources import Sources, picture_address
from convscope.studio.watch import age, job_view, when_ended
from convscope.studio.workplace import Workplace
from convscope.types import NO_CLASS, said_of
from convscope.wording import command_line, file_size, printable

_N_CLASSES = 3
"""Number of classes in an answer on the page."""

_N_SHOWN = 60
"""Largest number of images whose answers are drawn, and of those that could not be read."""


def show(place: Workplace, sources: Sources, name: str = "") -> None:
    """Draw the page.

    Args:
        place: Workplace.
        sources: Folders whose pictures are shown.
        name: Name of a run; empty for the only one, or to choose one.
    """
    name = name or only_run(place)
    if not name:
        choose(place, "Use", "/use", "use", "Choose the run whose network answers:")
        return
    with frame(f"Use {name}", "/use", place):
        run = found_run(place, name)
        if run is None:
            return
        heading(f"Use {name}", 1)
        _answers(place, sources, run)
        _export_and_elsewhere(place, run)


def only_run(place: Workplace) -> str:
    """Return the name of the run with a trained network, if there is just one; empty otherwise."""
    rows = [facts.row_of(run) for run in place.runs()]
    trained = [each.name for each in rows if each.val is not None]
    return trained[0] if len(trained) == 1 else ""


def choose(place: Workplace, title: str, address: str, page: str, text: str) -> None:
    """Draw a page with links to the runs that have a trained network.

    Args:
        place: Workplace.
        title: Title of the page.
        address: Address of the page.
        page: First part of the addresses of the links.
        text: What to choose.
    """
    with frame(title, address, place):
        heading(title, 1)
        rows = [facts.row_of(run) for run in place.runs()]
        trained = [each for each in rows if each.val is not None]
        say(text if trained else "There is no trained network yet.")
        if not trained:
            ui.link("Choose images and train on them", "/data")
        with ui.element("div"):
            for each in trained:
                with card(), row():
                    ui.link(printable(each.name), run_address(each.name, page))
                    said = f"{each.model} on {each.data}, {100 * (each.val or 0):.1f} %"
                    ui.label(printable(said)).classes("cs-quiet")


def model_of(run: Run) -> Path:
    """Return what answers for a run: its exported file, which starts at once, or the run."""
    exported = run.exports_dir / f"{run.name}.onnx"
    return exported if _is_current(run, exported) else run.path


def _is_current(run: Run, exported: Path) -> bool:
    """Return whether an exported file or folder is there, and of the run as it is now."""
    try:
        return exported.stat().st_mtime >= run.metrics_file.stat().st_mtime
    except OSError:
        return False


def exported_last(place: Workplace, run: Run) -> tuple[str, Path] | None:
    """Return the format and the place of the newest export of a run; None if there is none.

    Args:
        place: Workplace, whose jobs exported.
        run: Run.
    """
    for job in place.jobs.all():
        if job.kind != "export" or job.about.get("run") != run.name or job.status != "done":
            continue
        found, form = job.result(), job.about.get("format")
        if isinstance(found, dict) and form in FORMATS.names():
            path = Path(str(found.get("path")))
            if _is_current(run, path):
                return form, path
    file = model_of(run)
    return None if file == run.path else ("onnx", file)


def usage_of(run: Run, exported: tuple[str, Path] | None) -> list[tuple[str, str]]:
    """Return what does the same without the studio: words for people, then a command or code.

    Args:
        run: Run.
        exported: Format and place of its export; None if there is none.
    """
    form, model = exported or ("onnx", model_of(run))
    usage = FORMATS.get(form)().usage
    if usage is not None:
        return [(f"With the export as {form}:", usage(model)), *usage_of(run, None)]
    code = f"import convscope\n\nfor answer in convscope.predict({str(model)!r}, "
    code += '["photo.jpg"]):\n    print(answer.class_name, answer.probs)'
    shown = [("In a terminal:", f"{command_line('predict', model)} photo.jpg")]
    if model != run.path:
        shown.append(("Answers over HTTP, with a page:", command_line("serve", model)))
    return [*shown, ("In Python:", code)]


def _answers(place: Workplace, sources: Sources, run: Run) -> None:
    drop_zone("Drop, paste or choose images", event="images_dropped", folders=False)
    reject = ui.checkbox(f"Answer '{NO_CLASS}' for images that look like no class")
    reject.set_visibility(may_reject(run))
    shown = ui.element("div")

    def follow(job: Job, folder: Path) -> None:
        shown.clear()
        with shown, card():
            area = ui.element("div")
            with area:
                job_view(job, compact=True)

            def ended() -> None:
                found = job.result()
                if not isinstance(found, dict):
                    return
                area.clear()
                with area:
                    age(job, facts.changed(run), "The run has changed since")
                    _draw(sources, folder, found, model_of(run))

            when_ended(job, ended)
            command(job.command)

    def dropped(event: Any) -> None:
        folder = place.uploads / Path(str(event.args["drop"])).name
        job = place.jobs.submit(
            ("predict", model_of(run), folder, *(["--reject"] * reject.value), "--format", "json"),
            kind="predict",
            title=f"Prediction with {run.name}",
            heavy=False,
            about={"run": run.name, "folder": str(folder)},
            success=(1,),
        )
        follow(job, folder)

    ui.on("images_dropped", dropped)
    before = place.jobs.newest("predict", run=run.name)
    if before is not None and Path(str(before.about.get("folder"))).is_dir():
        follow(before, Path(str(before.about["folder"])))


def may_reject(run: Run) -> bool:
    """Return whether an evaluation chose a threshold for images that look like no class."""
    with contextlib.suppress(ConvscopeError):
        return "rejection" in run.metrics
    return False


def _draw(sources: Sources, folder: Path, found: dict[str, Any], model: Path) -> None:
    """Draw the first answers of those that `predict --format json` printed.

    Args:
        sources: Folders whose pictures are shown.
        folder: Folder of the images.
        found: Output of the command.
        model: What answers, for a command that writes all answers to a file.
    """
    key = sources.add(folder)
    answers, skipped = found.get("predictions", []), found.get("skipped", [])
    with ui.element("div").classes("cs-suspects"):
        for each in answers[:_N_SHOWN]:
            with ui.element("figure"):
                image = Path(str(each["image"]))
                if image.resolve().is_relative_to(folder.resolve()):
                    name = image.resolve().relative_to(folder.resolve()).as_posix()
                    ui.html(
                        f'<img alt="" src="{picture_address(key, name)}">',
                        sanitize=False,
                    )
                ui.label(printable(answer_in(each))).style("font-weight:600; font-size:17px")
                best = sorted(each["probs"].items(), key=lambda pair: -pair[1])[:_N_CLASSES]
                for class_name, prob in best:
                    ui.label(printable(f"{class_name} {100 * prob:.1f} %")).classes("cs-quiet")
                    with ui.element("div").classes("cs-bar").style("margin:0 0 4px"):
                        ui.element("div").style(f"width:{100 * prob:.1f}%")
                ui.label(printable(image.name)).classes("cs-quiet")
    for each in skipped[:_N_SHOWN]:
        say(reason_in(each), "cs-bad")
    if len(answers) > _N_SHOWN or len(skipped) > _N_SHOWN:
        more = sum(max(0, len(each) - _N_SHOWN) for each in (answers, skipped))
        say(f"and {more:,} more. All answers in a table:")
        command(command_line("predict", model, folder, "--out", "answers.csv"))


def answer_in(found: dict[str, Any]) -> str:
    """Return the answer for an image, of what `predict --format json` printed, in words."""
    if "classes" in found:
        return said_of(found["classes"])
    return found.get("class") or NO_CLASS


def reason_in(skipped: dict[str, Any]) -> str:
    """Return why an image could not be read, of what a command printed as JSON.

    It names the file as its owner knows it: the folder of an upload is the studio's.
    """
    image = str(skipped["image"])
    return str(skipped["reason"]).replace(image, Path(image).name)


def _export_and_elsewhere(place: Workplace, run: Run) -> None:
    @ui.refreshable
    def elsewhere() -> None:
        for words, text in usage_of(run, exported_last(place, run)):
            say(words, "cs-quiet")
            command(text)

    _export(place, run, elsewhere.refresh)
    with card():
        heading("The same without the studio")
        elsewhere()


def _export(place: Workplace, run: Run, then: Callable[[], Any]) -> None:
    with card():
        heading("Export")
        say(
            "One file with everything in it, checked to answer as the trained network. It needs "
            "neither Keras nor this studio.",
            "cs-quiet",
        )
        names = FORMATS.names()
        form = ui.select(names, value="onnx", label="Format").props("outlined dense")
        form.style("max-width:220px")
        shown, again = ui.element("div"), ui.element("div")

        def words() -> tuple[object, ...]:
            return ("export", run.path, "--format", form.value, *place_words(run, form.value))

        def preview() -> None:
            again.clear()
            with again:
                command(command_line(*words()))

        def follow(job: Job) -> None:
            shown.clear()
            with shown:
                job_view(job, compact=True)

                def ended() -> None:
                    found = job.result()
                    if isinstance(found, dict) and job.status == "done":
                        with shown:
                            age(job, facts.changed(run), "The run has changed since")
                            _exported(run, found)
                        then()
                    preview()

                when_ended(job, ended)

        def start() -> None:
            follow(
                place.jobs.submit(
                    (*words(), "--json"),
                    kind="export",
                    title=f"Export of {run.name} as {form.value}",
                    heavy=False,
                    about={"run": run.name, "format": form.value},
                )
            )

        with row():
            job_button("Export", start, strong=True)
        form.on_value_change(preview)
        preview()
        before = place.jobs.newest("export", run=run.name)
        if before is not None:
            follow(before)


def place_words(run: Run, form: str) -> tuple[object, ...]:
    """Return the words that name the place of an export; none for the usual one.

    A file is replaced, but a folder is not: others may serve from it.

    Args:
        run: Run.
        form: Name of a format.
    """
    chosen = FORMATS.get(form)()
    usual = run.exports_dir / f"{run.name}{chosen.suffix}"
    if not chosen.is_folder or not usual.exists():
        return ()
    places = numbered(usual, chosen.suffix)
    return ("--out", next(place for place in places if not place.exists()))


def _exported(run: Run, found: dict[str, Any]) -> None:
    path = Path(str(found["path"]))
    size = f", {file_size(round(1e6 * found['size_mb']))}" if found.get("size_mb") else ""
    say(f"{path}{size}")
    agreement = found.get("agreement")
    if isinstance(agreement, int | float):
        say(f"The same answer for {100 * agreement:.1f} % of the validation images.", "cs-good")
    if path.is_file():
        address = f"/download{run_address(run.name, '')[1:]}/{quote(path.name, safe='')}"
        ui.link("Download", address).props("download")
