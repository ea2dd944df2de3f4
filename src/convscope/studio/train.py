"""The page of training: what is at work, with its curves, and a new training."""

from pathlib import Path
from typing import Any

from convscope.errors import ConvscopeError
from convscope.models import MODELS
from convscope.recipes import RECIPES
from convscope.run import Run
from convscope.studio import facts
from convscope.studio.jobs import Job
from convscope.studio.looks import (
    card,
    command,
    curve_pair,
    frame,
    heading,
    job_button,
    key_of,
    row,
    run_address,
    say,
    table,
)
from convscope.studio.nice import ui
from convscope.studio.resume import can_resume, resume_button
from convscope.studio.watch import job_view
from convscope.studio.wish import AUTO, Wish, as_before, placed, typed
from convscope.studio.workplace import Workplace
from convscope.wording import command_line

_N_ENDED = 6
"""Number of ended jobs of a kind that are listed."""

_LOOK_S = 2.0
"""Seconds between looks at what is at work."""


def show(
    place: Workplace,
    data: str = "",
    labels: str = "",
    run: str = "",
    group: str = "",
    near_copies: bool = False,
) -> None:
    """Draw the page.

    Args:
        place: Workplace.
        data: Data that the form begins with.
        labels: Table of labels that it begins with.
        run: Name of a run with whose settings it begins.
        group: Pattern of the groups in the names of images.
        near_copies: Whether near copies are kept in one part.
    """
    wish = as_before(place, run) if run else Wish()
    wish.data, wish.labels, wish.group = data, labels, group or wish.group
    wish.near_copies |= near_copies
    with frame("Train", "/train", place):
        heading("Train", 1)
        _at_work(place)
        _form(place, wish)
        _ended(place)


def _at_work(place: Workplace) -> None:
    """Draw the jobs at work; those that are asked for later appear by themselves."""
    area = ui.element("div")
    drawn: set[str] = set()

    def look() -> None:
        for job in place.jobs.active():
            if job.name not in drawn:
                drawn.add(job.name)
                with area, card():
                    job_view(job)
                    if job.run is not None:
                        _watched(job, job.run)

    look()
    ui.timer(_LOOK_S, look)


def _watched(job: Job, path: Path) -> None:
    """Draw how a run is going, for as long as its job is at work."""
    run = Run(path)
    said: dict[str, Any] = {}

    @ui.refreshable
    def going() -> None:
        tried = _tried(run)
        rows = facts.history(run)
        if tried:
            table(tried)
        if rows:
            key_of(curve_pair([run], lambda _: f", up to epoch {len(rows)}"))

    going()
    # Drawn once each: an open part that is drawn anew closes, and loses the focus.
    pictures, ended = ui.element("div"), ui.element("div")

    def look() -> None:
        state = (_stamp(run.results_file), _stamp(run.search_file))
        if said.get("state") != state:
            said["state"] = state
            going.refresh()
        if run.samples_picture.is_file() and not said.get("pictures"):
            said["pictures"] = True
            address = f"/files{run_address(run.name, '')[1:]}/{run.samples_picture.name}"
            with pictures, ui.expansion("Training images"):
                ui.html(
                    f'<img src="{address}" alt="Some training images" style="max-width:100%">',
                    sanitize=False,
                )
        if not job.is_active:
            timer.deactivate()
            if run.state_file.exists():
                with ended:
                    ui.link("Open the run", run_address(run.name))

    timer = ui.timer(_LOOK_S, look)


def _stamp(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _tried(run: Run) -> list[tuple[str, str]]:
    """Return the candidates of a search that is at work: words and result."""
    try:
        tried = Run.read_json(run.search_file).get("tried", [])
        return [
            (
                str(row["words"]),
                row["note"] or "failed"
                if row["accuracy"] is None
                else f"{100 * row['accuracy']:.1f} %",
            )
            for row in tried
        ]
    except (ConvscopeError, KeyError, TypeError):
        return []


def _form(place: Workplace, wish: Wish) -> None:
    with card():
        heading("New training run")
        fields_of_data = _fields_of_data(wish)
        kinds = {AUTO: "Find the best in a given time", "one": "One recipe and model"}
        with ui.element("div").style("margin:12px 0 4px"):
            kind = ui.toggle(kinds, value=AUTO if wish.recipe == AUTO else "one").props(
                "no-caps unelevated"
            )
        with row() as searching:
            minutes = ui.number("Minutes", value=wish.minutes, min=0.1, max=10_000, format="%g")
            minutes.props("outlined dense").style("width:130px").bind_value_to(wish, "minutes")
            ui.label(
                "With more time it tries more; 5 to 20 minutes suit most sets of photos."
            ).classes("cs-quiet")
        with row() as single:
            recipe, model, epochs = _fields_of_single(wish)
        sealed = ui.checkbox(
            "Keep the test images sealed, if more choices follow", value=wish.sealed
        )
        sealed.bind_value_to(wish, "sealed")
        same = say("All other settings are those of that run too.", "cs-quiet")
        problem = say("", "cs-bad").props('role="alert"')
        again = ui.element("div")
        shown: dict[str, str] = {}

        def preview() -> None:
            wish.recipe = AUTO if kind.value == AUTO else str(recipe.value)
            searching.set_visibility(kind.value == AUTO)
            single.set_visibility(kind.value != AUTO)
            same.set_visibility(wish.is_like)
            epochs.props(f'placeholder="{"as in that run" if wish.is_like else "usual"}"')
            words = wish.words(place.new_run(wish.stem())) if wish.data else ()
            text = command_line(*words) if words else ""
            if shown.get("text") != text:
                shown["text"] = text
                again.clear()
                if text:
                    with again:
                        command(text)

        def start() -> None:
            preview()
            problem.set_text("")
            problem.set_text(_problem_of_submission(place, wish))
            if not problem.text:
                preview()

        job_button("Train", start, strong=True, icon="play_arrow")
        for control in (*fields_of_data, kind, minutes, recipe, model, epochs, sealed):
            control.on_value_change(preview)
        preview()


def _fields_of_data(wish: Wish) -> tuple[Any, ...]:
    """Draw the fields for the images, their labels and groups, and near copies; return them."""
    data = ui.input("Images: a folder, an archive, or a dataset", value=wish.data)
    data.props("outlined dense").style("max-width:640px").bind_value_to(wish, "data", placed)
    with row():
        ui.link("Choose or drop a folder", "/data")
        for name in ("digits", "cifar10"):
            ui.button(name, on_click=lambda name=name: data.set_value(name), color=None).props(
                "flat dense no-caps"
            ).classes("cs-small")
    labels = ui.input("Table of labels, if folders are not the classes", value=wish.labels)
    labels.props("outlined dense").style("max-width:640px").bind_value_to(wish, "labels", placed)
    group = ui.input(
        "Pattern in file names that marks a group (each group stays in one part)",
        value=wish.group,
    ).props("outlined dense")
    group.style("max-width:640px").bind_value_to(wish, "group", typed)
    group.set_visibility(bool(wish.group))
    together = ui.checkbox("Keep near copies in one part", value=wish.near_copies)
    together.bind_value_to(wish, "near_copies").set_visibility(wish.near_copies)
    return data, labels, group, together


def _fields_of_single(wish: Wish) -> tuple[Any, Any, Any]:
    """Draw the fields for recipe, model and epochs of a single network, and return them."""
    recipes = {entry.name: entry.name for entry in RECIPES.entries()}
    known = wish.recipe if wish.recipe in recipes else "tutorial"
    recipe = ui.select(recipes, value=known, label="Recipe").props("outlined dense")
    recipe.style("min-width:190px")
    models = {"": "usual for the recipe"} | {name: name for name in MODELS.names()}
    known = wish.model if wish.model in models else ""
    model = ui.select(models, value=known, label="Model", with_input=True)
    model.props("outlined dense").style("min-width:230px").bind_value_to(wish, "model")
    epochs = ui.number(
        "Epochs",
        value=wish.epochs,
        min=1,
        max=100_000,
        format="%d",
    )
    epochs.props("outlined dense").style("width:130px").bind_value_to(wish, "epochs")
    return recipe, model, epochs


def _problem_of_submission(place: Workplace, wish: Wish) -> str:
    """Put a training into the queue, and return what hinders that, in words; else nothing."""
    if problem := wish.problem():
        return problem
    out = place.new_run(wish.stem())
    try:
        place.jobs.submit(wish.words(out), kind="train", title=f"Training of {out.name}", run=out)
    except ConvscopeError as error:
        return str(error)
    ui.notify(f"{out.name}: it continues even if you close this page")
    return ""


def _start_again(place: Workplace, job: Job) -> None:
    """Put a job that a restart of the machine took out of the queue into it again."""
    try:
        place.jobs.submit_again(job)
    except ConvscopeError as error:
        ui.notify(str(error))
        return
    ui.navigate.to("/train")


def _ended(place: Workplace) -> None:
    ended = [job for job in place.jobs.all() if job.code is not None or not job.is_active]
    # Small jobs, of which each page begins some, must not push trainings out of the list.
    trainings = [job for job in ended if job.run is not None]
    shown: set[Path] = set()
    for title, jobs in (
        ("Finished training runs", trainings),
        ("Other finished jobs", [job for job in ended if job.run is None]),
    ):
        if jobs:
            heading(title)
        for job in jobs[:_N_ENDED]:
            with card():
                job_view(job, compact=True)
                with row():
                    if job.status == "killed" and not job.started:
                        job_button("Start it", lambda job=job: _start_again(place, job))
                    if job.run is not None and job.run not in shown:
                        shown.add(job.run)
                        if Run(job.run).state_file.exists():
                            ui.link("Open the run", run_address(job.run.name))
                        if can_resume(place, job.run):
                            resume_button(place, job.run, "Resume")
                command(job.command)
