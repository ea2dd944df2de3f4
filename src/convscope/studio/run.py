"""The page of a run: what it can do, where it errs, how sure it is, and what is wrong with it."""

import itertools
import shlex
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import numpy as np

from convscope.errors import ConvscopeError
from convscope.evaluation.calibration import reliability
from convscope.evaluation.metrics import confusions, most_confused
from convscope.evaluation.multi_label import name_of_score
from convscope.evaluation.tried import read_tried
from convscope.ledger import Ledger
from convscope.run import Run
from convscope.studio import data as data_page
from convscope.studio import facts
from convscope.studio.cell import Cell
from convscope.studio.drawing import Curve, chart
from convscope.studio.facts import Evaluated
from convscope.studio.jobs import Job
from convscope.studio.looks import (
    button,
    card,
    command,
    curve_pair,
    found_run,
    frame,
    heading,
    job_button,
    key_of,
    pill,
    row,
    run_address,
    say,
    svg,
    table,
)
from convscope.studio.nice import ui
from convscope.studio.resume import can_resume, resume_button, words_to_resume
from convscope.studio.sources import Sources
from convscope.studio.watch import age, job_view, when_ended
from convscope.studio.workplace import Workplace
from convscope.types import PART_NAMES, IntArray
from convscope.wording import command_line, counted, duration, printable

_MOST_CLASSES = 25
"""Number of classes up to which the whole matrix is drawn."""

_CELLS = "cells"
"""Part of the address that leads to the confusion matrix."""

_PARTS = {part: PART_NAMES[part] for part in ("val", "test")}


Counts = tuple[IntArray, IntArray, IntArray]
"""True classes, predicted ones and numbers of images, as `metrics.confusions` returns them."""


def show(place: Workplace, sources: Sources, name: str) -> None:
    """Draw the page.

    Args:
        place: Workplace.
        sources: Folders whose pictures are shown.
        name: Name of the run.
    """
    with frame(name, "/runs", place):
        run = found_run(place, name)
        if run is None:
            return
        row_ = facts.row_of(run)
        heading(name, 1)
        with row():
            pill(row_.status)
            if row_.model:
                ui.label(printable(f"{row_.model} on {row_.data}")).classes("cs-quiet")
        metrics: dict[str, Any] = {}
        try:
            metrics = facts.metrics_of(run)
        except ConvscopeError as error:
            say(f"{error}.", "cs-bad")
        else:
            _accuracy(place, run, row_, metrics)
        _learning(run)
        _tried(run, metrics)
        try:
            found = facts.evaluated(run)
        except ConvscopeError as error:
            say(f"{error}.", "cs-quiet")
            _files(place, run)
            return
        if found.multi_label:
            say("Its images have any number of classes: see its report for the mistakes.")
        else:
            _errors(place, sources, run, found)
            with card(), ui.element("div").classes("cs-two"):
                _calibration(found)
                _threshold(found)
        _doctor(place, run)
        _files(place, run)


def _accuracy(place: Workplace, run: Run, row_: facts.Row, metrics: dict[str, Any]) -> None:
    with card(), ui.element("div").classes("cs-two"):
        for part, words in _PARTS.items():
            with ui.element("div"):
                value = facts.score(metrics, part)
                if value is None:
                    why = "not yet"
                    if part == "test" and not run.test_openings:
                        why = "sealed until all choices are made"
                    say(f"{words.capitalize()} images: {why}", "cs-quiet")
                    continue
                ui.label(f"{100 * value:.1f} %").classes("cs-figure")
                noun = "accuracy" if "accuracy" in metrics[part] else "mean average precision"
                n_images = metrics[part].get("n_images")
                images = (
                    f"{words} images" if n_images is None else counted(n_images, f"{words} image")
                )
                text = f"{noun} on {images}"
                if ends := facts.interval(metrics, part):
                    text += f" (95 % interval {100 * ends[0]:.1f} to {100 * ends[1]:.1f} %)"
                say(text, "cs-quiet")
                tally = Ledger().tally_of(run.test_openings) if part == "test" else None
                if tally is not None and tally.times > 1:
                    say(
                        f"Evaluated {tally.n_times} on this machine, by all runs together; the "
                        "best of many is partly lucky.",
                        "cs-quiet",
                    )
    if can_resume(place, run.path):
        with row():
            resume_button(place, run.path, "Resume the training", strong=True)
        command(command_line(*words_to_resume(run.path)))
    elif row_.val is not None and row_.test is None:
        _open_the_test_images(place, run)
    reason = run.state.get("failure")
    if row_.status == "failed" and isinstance(reason, dict):
        say(str(reason.get("reason", "")), "cs-bad")


def _open_the_test_images(place: Workplace, run: Run) -> None:
    """Draw the button that evaluates a run on its sealed test images, after a question."""
    words = ("evaluate", run.path)
    shown = ui.element("div")

    def follow(job: Job) -> None:
        with shown:
            job_view(job, compact=True)
        when_ended(job, lambda: ui.navigate.reload() if job.status == "done" else None)

    def evaluate() -> None:
        title = f"Evaluation of {run.name} on its test images"
        about = {"run": run.name}
        follow(place.jobs.submit(words, kind="evaluate", title=title, heavy=False, about=about))

    with row():
        button("Evaluate on the test images", lambda: _ask_to_open(evaluate))
    command(command_line(*words))
    before = place.jobs.newest("evaluate", run=run.name)
    if before is not None and before.is_active:
        follow(before)


def _ask_to_open(then: Callable[[], None]) -> None:
    """Ask whether the test images shall be opened, and if so call a function."""
    with ui.dialog(value=True) as dialog, ui.card():
        heading("Open the test images?")
        say(
            "Their accuracy is honest once: after all choices are made. Each look is logged in "
            "the run; whoever chooses by it must test on other images."
        )

        def open_them() -> None:
            dialog.close()
            then()

        with row():
            job_button("Open them", open_them, strong=True)
            button("Cancel", dialog.close)


def _learning(run: Run) -> None:
    # Of a head that is fitted at once there is a single point.
    if len(facts.history(run)) < 2:
        return
    with card():
        heading("Learning curves")
        key_of(curve_pair([run], lambda found: f": {found[0].points[-1][1]:.3g} at the end"))


def _tried(run: Run, metrics: dict[str, Any]) -> None:
    try:
        tried = read_tried(run.tried_file)
    except ConvscopeError:
        return
    if not tried:
        return
    with card():
        heading("What was tried")
        rows = [
            (
                each.words + (f", fold {each.fold + 1}" if each.fold else ""),
                "" if each.accuracy is None else f"{100 * each.accuracy:.1f} %",
                "" if each.loss is None else f"{each.loss:.3f}",
                duration(each.seconds),
                "chosen" if each.chosen else each.note,
            )
            for each in tried
        ]
        is_several = "mean_average_precision" in metrics.get("val", {})
        score = name_of_score(multi_label=is_several)
        table(rows, ("candidate", f"{score}, validation images", "loss", "time", ""))


def _errors(place: Workplace, sources: Sources, run: Run, found: Evaluated) -> None:
    names = found.class_names
    with card() as drawn:
        drawn.props(f"id={_CELLS}")
        heading("Confusion matrix")
        parts = [part for part in _PARTS if part in found.parts]
        chosen: dict[str, Any] = {"part": parts[0]}

        def take(event: Any) -> None:
            chosen["part"] = event.value
            matrix.refresh()
            cell.clear()

        if len(parts) > 1:
            words = {part: f"{_PARTS[part]} images".capitalize() for part in parts}
            ui.toggle(words, value=parts[0], on_change=take).props("no-caps unelevated")
        say(
            "Rows are the true classes, columns the predicted ones. Choose a number to see its "
            "images; a look at test images is logged.",
            "cs-quiet",
        )

        @ui.refreshable
        def matrix() -> None:
            counts = confusions(found.parts[chosen["part"]])
            drawn = ui.html(_confusions(counts, names) + _matrix(counts, names), sanitize=False)
            drawn.classes("cs-scroll")
            drawn.on(
                "click",
                lambda event: look(*event.args),
                js_handler="(e) => { const cell = e.target.closest('[data-cell]');"
                "if (cell) emit(cell.dataset.cell.split(',').map(Number)); }",
            )

        matrix()
        cell = Cell(place, sources, run, ui.element("div"))

        async def look(true: int, predicted: int) -> None:
            if not (0 <= true < len(names) and 0 <= predicted < len(names)):
                return
            await cell.draw(chosen["part"], names[true], names[predicted])


def _confusions(counts: Counts, names: Sequence[str]) -> str:
    """Return the most frequent confusions as buttons."""
    buttons = "".join(
        f'<button class="cs-confusion" data-cell="{i},{j}">{escape(printable(names[i]))}, '
        f"predicted as {escape(printable(names[j]))}: <b>{n}</b></button>"
        for i, j, n in most_confused(*counts)
    )
    return f'<div class="cs-row" style="margin:4px 0 10px">{buttons or "No mistake."}</div>'


def _matrix(counts: Counts, names: Sequence[str]) -> str:
    """Return the confusion matrix as a table whose numbers are buttons.

    With many classes only those with the most errors are in it.
    """
    true, predicted, numbers = counts
    order = np.arange(len(names))
    note = ""
    if len(names) > _MOST_CLASSES:
        wrong = np.where(true != predicted, numbers, 0)
        errors = sum(np.bincount(each, wrong, len(names)) for each in (true, predicted))
        order = np.sort(np.argsort(-errors, kind="stable")[:_MOST_CLASSES])
        said = f"The {_MOST_CLASSES} of {len(names)} classes with the most errors."
        note = f'<p class="cs-quiet">{said}</p>'
    shown = np.isin(true, order) & np.isin(predicted, order)
    cells = zip(true[shown].tolist(), predicted[shown].tolist(), strict=True)
    of_cell = dict(zip(cells, numbers[shown].tolist(), strict=True))
    of_row = np.maximum(np.bincount(true, numbers, len(names)), 1)
    head = "".join(
        f'<th scope="col" title="{escape(names[j])}">{escape(names[j])}</th>'
        for j in order.tolist()
    )
    lines = []
    for i in order.tolist():
        row_ = []
        for j in order.tolist():
            n = of_cell.get((i, j), 0)
            if not n:
                row_.append('<td class="cs-zero">0</td>')
                continue
            colour = "var(--good)" if i == j else "var(--bad)"
            strength = round(8 + 37 * float(np.sqrt(n / of_row[i])))
            label = f"{counted(n, 'image')} of {names[i]}, predicted {names[j]}"
            row_.append(
                f'<td><button data-cell="{i},{j}" aria-label="{escape(label)}" '
                f'title="{escape(label)}" style="background:color-mix(in srgb, {colour} '
                f'{strength}%, transparent)">{n}</button></td>'
            )
        name = escape(names[i])
        lines.append(f'<tr><th scope="row" title="{name}">{name}</th>{"".join(row_)}</tr>')
    return (
        f'{note}<table class="cs-matrix"><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table>"
    )


def _calibration(found: Evaluated) -> None:
    part = "test" if "test" in found.parts else "val"
    with ui.element("div"):
        heading("Calibration")
        kinds = [("as answered", found.parts[part], 0)]
        if found.temperature != 1:
            kinds.append(("as trained, before calibration", found.as_trained[part], 1))
        curves = []
        for name, said, colour in kinds:
            bins = [each for each in reliability(said.probs, said.labels) if each.n_images]
            points = [(each.confidence, each.accuracy) for each in bins]
            sizes = [2 + 9 * float(np.sqrt(each.n_images / len(said.labels))) for each in bins]
            curves.append(Curve(name, points, colour, dashed=colour == 1, sizes=sizes))
        say(
            "Of the answers that it gives with 80 % confidence, 80 % should be right: on the "
            f"dashed line they are. The larger a dot, the more {_PARTS[part]} images.",
            "cs-quiet",
        )
        about = f"Accuracy by confidence on {_PARTS[part]} images"
        svg(chart(curves, about=about, x="confidence", y="accuracy", square=True))
        key_of(curves)


def _threshold(found: Evaluated) -> None:
    with ui.element("div"):
        heading("Confidence threshold")
        say("Images with less confidence than this are left to a person:", "cs-quiet")
        slider = ui.slider(min=0, max=99, step=1, value=0).style("max-width:520px")
        slider.props('label aria-label="Minimum confidence in percent"')
        lines = {part: say("") for part in _PARTS if part in found.parts}

        def update() -> None:
            at = int(slider.value)
            for part, line in lines.items():
                share, accuracy = found.selected(part, at / 100)
                right = (
                    "none of them"
                    if accuracy is None
                    else f"{100 * accuracy:.1f} % of them correct"
                )
                line.set_text(
                    f"{_PARTS[part].capitalize()} images: {100 * share:.1f} % answered at {at} % "
                    f"confidence or more, {right}"
                )

        slider.on_value_change(update)
        update()


def _doctor(place: Workplace, run: Run) -> None:
    words = ("doctor", run.path)
    with card():
        heading("Diagnosis")
        shown = ui.element("div")

        def results(job: Any) -> None:
            def draw() -> None:
                if job.status != "done":
                    return
                with shown:
                    age(job, facts.changed(run), "The run has changed since")
                    _findings(place, run, job.result(), start)

            with shown:
                if job.is_active or job.status != "done":
                    job_view(job, compact=True)
            when_ended(job, draw)

        def start(asked: Sequence[object] = words) -> None:
            shown.clear()
            examine.set_text("Run the diagnosis again")
            results(
                place.jobs.submit(
                    (*asked, "--json"),
                    kind="doctor",
                    title=f"Diagnosis of {run.name}",
                    heavy="--range-test" in asked,
                    about={"run": run.name},
                )
            )

        before = place.jobs.newest("doctor", run=run.name)
        if before is None:
            say("Known traps are looked for in its curves, predictions and images.", "cs-quiet")
        else:
            results(before)
        with row():
            again = "" if before is None else " again"
            examine = job_button(f"Run the diagnosis{again}", start)
        command(command_line(*words))


def _findings(
    place: Workplace, run: Run, found: Any, examine: Callable[[Sequence[object]], None]
) -> None:
    """Draw what `doctor --json` printed, each remedy with a button that runs it.

    Args:
        place: Workplace.
        run: Run.
        found: Output of the command.
        examine: Function that examines the run by another command, and draws what that finds.
    """
    if not isinstance(found, dict):
        return
    findings = found.get("findings", {})
    if all(finding["sure"] == "note" for finding in findings.values()):
        notes = f", {counted(len(findings), 'note')}" if findings else ""
        n_traps = len(findings) + len(found.get("quiet", ()))
        say(f"{counted(n_traps, 'trap')} checked, no alarm{notes}.", "cs-good")
    for finding in findings.values():
        with ui.element("div").style("margin:10px 0 16px"):
            with row():
                pill(str(finding["sure"]))
                ui.label(printable(finding["symptom"])).style("font-weight:600")
            say(finding["evidence"], "cs-quiet")
            for remedy in finding["remedies"]:
                _remedy(place, run, remedy["words"], remedy["command"], examine)
    if found.get("together"):
        said = "All certain findings, fixed in one training"
        _remedy(place, run, said, found["together"], examine)
    for name, reason in found.get("unknown", {}).items():
        say(f"not checked: {name} ({reason})", "cs-quiet")


def _remedy(
    place: Workplace,
    run: Run,
    about: str,
    text: str,
    examine: Callable[[Sequence[object]], None],
) -> None:
    """Draw a command that mends something, with a button that runs it or a link to its page."""

    def do() -> None:
        match words:
            case ["doctor", *_]:
                examine(words)
            case ["evaluate", *options] if "--no-test" not in options:
                _ask_to_open(lambda: _submit(place, run, words))
            case _:
                _submit(place, run, words)

    with row():
        ui.label(printable(about))
        words = runnable(text)
        shown = page_of(words)
        if shown is not None:
            ui.link(*shown)
        elif words:
            job_button("Run this", do)
    command(text)


def runnable(text: str) -> list[str]:
    """Return the words of a command that can be run as it is; empty if a person has to fill it in.

    Examples:
        >>> runnable("convscope train --config runs/a/config.yaml --epochs 9")
        ['train', '--config', 'runs/a/config.yaml', '--epochs', '9']
        >>> runnable("convscope predict RUN IMAGE"), runnable("rm -r photos")
        ([], [])
    """
    try:
        program, *words = shlex.split(text)
    except ValueError:
        return []
    blank = any(word.isupper() and word.isalpha() and len(word) > 2 for word in words)
    return words if program == "convscope" and words and not blank else []


def page_of(words: list[str]) -> tuple[str, str] | None:
    """Return the page that shows what a command would print: words for people, its address.

    None for a command that does something.

    Examples:
        >>> page_of(["data", "check", "--data", "photos"])
        ('Open the images', '/data?data=photos')
    """
    match words[:1]:
        case ["data"]:
            given = dict(itertools.pairwise(words))
            place = data_page.address(given.get("--data", ""), given.get("--labels", ""))
            return "Open the images", place
        case ["gallery"]:
            return "Choose a cell of the confusion matrix", f"#{_CELLS}"
        case ["compare"]:
            return "Select the runs", "/runs"
    return None


def _submit(place: Workplace, run: Run, words: list[str]) -> None:
    """Begin a command that mends something, and show it."""
    written = run.path if words[0] == "train" and "--resume" in words else None
    if words[0] == "train" and "--resume" not in words and "--out" not in words:
        written = place.new_run(f"{run.name}-fixed")
        words = [*words, "--out", str(written)]
    # Another page may have resumed it since this one was drawn.
    if written is None or all(job.run != written for job in place.jobs.active()):
        title, about = f"Remedy for {run.name}", {"run": run.name}
        place.jobs.submit(words, kind=words[0], title=title, run=written, about=about)
    ui.navigate.to("/train")


def _files(place: Workplace, run: Run) -> None:
    with card():
        heading("More")
        with row():
            ui.link("Look inside", run_address(run.name, "inside"))
            ui.link("Use it", run_address(run.name, "use"))
            for file, name in (
                (run.report_page, "Report"),
                (run.card_file, "Model card"),
                (run.samples_picture, "Training images"),
                (run.augmented_picture, "Augmented images"),
            ):
                if file.exists():
                    address = f"/files{run_address(run.name, '')[1:]}/{file.name}"
                    ui.link(name, address, new_tab=True)
        if run.predictions_file.exists():
            is_written = run.report_page.exists()
            if is_written and run.report_page.stat().st_mtime < facts.changed(run):
                say("The run has changed since its report was written.", "cs-warn")
            words = ("report", run.path)
            shown = ui.element("div")

            def start() -> None:
                about = {"run": run.name}
                job = place.jobs.submit(
                    words, kind="report", title=f"Report of {run.name}", heavy=False, about=about
                )
                with shown:
                    job_view(job, compact=True)
                when_ended(job, lambda: ui.navigate.reload() if job.status == "done" else None)

            with row():
                job_button("Write the report" + " again" * is_written, start)
            command(command_line(*words))
        say(f"Folder: {run.path}", "cs-quiet")
