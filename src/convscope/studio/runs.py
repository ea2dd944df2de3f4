"""The page of all runs: a table, curves over each other, a comparison."""

import contextlib
from pathlib import Path
from typing import Any

from convscope.errors import ConvscopeError
from convscope.studio import facts
from convscope.studio.looks import (
    button,
    card,
    command,
    curve_pair,
    frame,
    heading,
    key_of,
    row,
    run_address,
    say,
)
from convscope.studio.nice import ui
from convscope.studio.watch import job_view, when_ended
from convscope.studio.workplace import Workplace
from convscope.wording import command_line, printable

_COLUMNS = [
    {"name": "name", "label": "Run", "field": "name", "sortable": True, "align": "left"},
    {"name": "status", "label": "Status", "field": "status", "sortable": True, "align": "left"},
    {"name": "data", "label": "Data", "field": "data", "sortable": True, "align": "left"},
    {"name": "model", "label": "Model", "field": "model", "sortable": True, "align": "left"},
    {"name": "val", "label": "Validation", "field": "val", "sortable": True},
    {"name": "test", "label": "Test", "field": "test", "sortable": True},
    {"name": "created", "label": "Started (UTC)", "field": "created", "sortable": True},
]
_LINKED = '<q-td :props="props"><a :href="props.row.address">{{ props.value }}</a></q-td>'
_SELECT = (
    '<q-checkbox :model-value="props.selected" :aria-label="props.row ? '
    "'Select ' + props.row.name : 'Select all'\" "
    '@update:model-value="(value, event) => '
    "Object.getOwnPropertyDescriptor(props, 'selected').set(value, event)\" />"
)
_PERCENT = '<q-td :props="props">{{ props.row[props.col.name + "_text"] }}</q-td>'


def show(place: Workplace) -> None:
    """Draw the page."""
    with frame("Runs", "/runs", place):
        heading("Runs", 1)
        runs = place.runs()
        if not runs:
            say("There is no run yet. Choose your images, and train on them.")
            ui.link("Choose images", "/data")
            return
        say(
            "Select runs to lay their curves over each other, or two that learnt from the same "
            "images to compare them. The highest of many test accuracies is partly luck.",
            "cs-quiet",
        )
        rows = [_cells(facts.row_of(run)) for run in runs]
        search = ui.input("Filter").props("dense outlined clearable").style("max-width:260px")
        with ui.element("div").classes("cs-scroll"):
            table = ui.table(
                rows=rows,
                columns=_COLUMNS,
                row_key="name",
                selection="multiple",
                pagination={"rowsPerPage": 20, "sortBy": "created", "descending": True},
            ).props("flat bordered")
        table.add_slot("body-cell-name", _LINKED)
        for part in ("header", "body"):
            table.add_slot(f"{part}-selection", _SELECT)
        for column in ("val", "test"):
            table.add_slot(f"body-cell-{column}", _PERCENT)
        table.bind_filter_from(search, "value")

        @ui.refreshable
        def chosen() -> None:
            names = [each["name"] for each in table.selected]
            if names:
                _overlaid(place, names)

        table.on_select(lambda: chosen.refresh())
        chosen()
        if names := place.comparisons():
            with card():
                heading("Comparisons")
                for name in names:
                    ui.link(printable(name), run_address(name, "comparison"), new_tab=True)
        command(command_line("runs", place.root))


def _cells(row_: facts.Row) -> dict[str, Any]:
    """Return a row of the table: values to sort by, and their text, rounded as on other pages."""
    texts = {
        f"{part}_text": "-" if value is None else f"{100 * value:.1f} %"
        for part, value in (("val", row_.val), ("test", row_.test))
    }
    shown = {
        key: printable(each) if isinstance(each, str) else each for key, each in vars(row_).items()
    }
    return {**shown, **texts, "address": run_address(row_.name)}


def _overlaid(place: Workplace, names: list[str]) -> None:
    try:
        runs = [place.run(name) for name in names]
    except ConvscopeError as error:
        problem(error)
        return
    with card():
        heading("Curves on validation images")
        found = curve_pair(runs, lambda _: f" of {', '.join(names)}")
        key_of([curve for curve in found if not curve.dashed])
        if len(runs) < 2:
            return
        with row():
            compare = button("Compare: is one better?", lambda: started(), strong=True)
        shown = ui.element("div")
        words = ("compare", *(run.path for run in runs), "--out")
        command(command_line(*words, _folder(place, names)))

        def started() -> None:
            title = f"Comparison of {' and '.join(names)}"
            compare.disable()
            # Another page may have taken the name that was shown.
            out = _folder(place, names)
            whole = (*words, out, "--json")
            job = place.jobs.submit(whole, kind="compare", title=title, heavy=False)
            with shown:
                job_view(job, compact=True)

                def verdicts() -> None:
                    with shown:
                        _verdicts(job.result())
                        with contextlib.suppress(ConvscopeError):
                            place.comparison_page(out.name)
                            address = run_address(out.name, "comparison")
                            ui.link("Report", address, new_tab=True)

                when_ended(job, verdicts)


def _folder(place: Workplace, names: list[str]) -> Path:
    return place.new_run(f"compare-{'-'.join(names)}")


def _verdicts(found: object) -> None:
    """Draw what `compare --json` printed."""
    pairs = found.get("pairs", []) if isinstance(found, dict) else []
    for pair in pairs:
        for key in ("verdict", "outlook"):
            if pair.get(key):
                say(str(pair[key]), "" if key == "verdict" else "cs-quiet")
    if isinstance(found, dict) and found.get("conclusion"):
        say(str(found["conclusion"]))


def problem(error: ConvscopeError) -> None:
    """Draw an error as a line."""
    say(str(error), "cs-bad")
