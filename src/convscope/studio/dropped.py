"""The list of uploads: the size of each, the runs that learnt from it, a button to remove it."""

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from convscope.errors import ConvscopeError
from convscope.recipe import read_config
from convscope.run import Run
from convscope.storage import read_object
from convscope.studio.looks import button, card, heading, row, say
from convscope.studio.nice import background, ui
from convscope.studio.uploads import ARCHIVES, Drop, Uploads
from convscope.studio.workplace import Workplace
from convscope.wording import counted, file_size, printable

_N_LISTED = 20
"""Number of uploads that are listed; all of them are counted."""


@dataclass(frozen=True)
class Kept:
    """An upload in the list.

    Attributes:
        drop: Upload.
        n_bytes: Bytes of its files.
        runs: Names of the runs that learnt from it.
        busy: Whether a job that waits or runs uses it, or its files are on their way.
    """

    drop: Drop
    n_bytes: int
    runs: tuple[str, ...]
    busy: bool

    @property
    def is_free(self) -> bool:
        """Whether no run and no job needs it."""
        return not self.runs and not self.busy


def kept_uploads(place: Workplace) -> list[Kept]:
    """Return all uploads, with what needs them, the newest first."""
    drops = Uploads(place.uploads).all()
    if not drops:
        return []  # without a look at all runs
    learnt = _learnt(place.root)
    words = [word for job in place.jobs.active() for word in job.words]
    return [
        Kept(
            drop,
            drop.n_bytes,
            tuple(name for name, places in learnt.items() if any(map(drop.holds, places))),
            drop.is_coming or any(drop.path.name in Path(word).parts for word in words),
        )
        for drop in drops
    ]


def _learnt(root: Path) -> dict[str, set[str]]:
    """Return the places of the images of each run, search and study of runs, by its name."""
    found: dict[str, set[str]] = defaultdict(set)
    for name, settings in _settings_below(root):
        data = settings.get("data_path")
        if isinstance(data, str):
            found[name].add(data)
    return found


def _settings_below(root: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name of each folder of runs with settings of its own or of a run in it."""
    # The runs of a search, a comparison, a ladder and a cross-validation are two folders deeper.
    for pattern in ("*/config.yaml", "*/*/*/config.yaml"):
        for file in root.glob(pattern):
            with contextlib.suppress(ConvscopeError):
                yield file.relative_to(root).parts[0], read_config(file)
    # A search has no settings of its own before its end, but can be resumed.
    for folder in root.glob("*/"):
        state = read_object(Run(folder).search_file)
        for key in ("from_file", "given"):
            if isinstance(state.get(key), dict):
                yield folder.name, state[key]


async def show_uploads(place: Workplace) -> None:
    """Draw the list; nothing if there is no upload."""
    found = await background.io_bound(kept_uploads, place)
    if not found:
        return
    with card():
        heading("Uploads")
        total = sum(each.n_bytes for each in found)
        say(
            f"{counted(len(found), 'upload')}, {file_size(total)}, in {place.uploads}. They stay "
            "until you remove them.",
            "cs-quiet",
        )
        free = [each for each in found if each.is_free]
        if free:
            size = file_size(sum(each.n_bytes for each in free))
            about = f"Remove the {counted(len(free), 'upload')} without a run ({size})"
            with row():
                button(about, lambda: _ask(place, free))
        for each in found[:_N_LISTED]:
            _line(place, each)


def _line(place: Workplace, kept: Kept) -> None:
    tops = kept.drop.tops
    name = ", ".join(tops[:3]) + (f" and {len(tops) - 3:,} more" if len(tops) > 3 else "")
    date = kept.drop.path.name[:8]
    about = f"{date[:4]}-{date[4:6]}-{date[6:]}, {file_size(kept.n_bytes)}"
    if kept.drop.is_coming:
        about += ", being sent"
    elif not kept.drop.is_whole:
        about += ", incomplete: not all files have been sent"
    if kept.busy and not kept.drop.is_coming:
        about += ", in use"
    elif kept.runs:
        about += f", images of {', '.join(kept.runs[:3])}"
        about += f" and {counted(len(kept.runs) - 3, 'more run')}" if len(kept.runs) > 3 else ""
    with ui.element("div").classes("cs-item"):
        is_data = any(
            (kept.drop.path / top).is_dir() or top.lower().endswith(ARCHIVES) for top in tops
        )
        if is_data and kept.drop.is_whole:
            chosen = kept.drop.path / tops[0] if len(tops) == 1 else kept.drop.path
            ui.link(printable(name), "/data?" + urlencode({"data": str(chosen)}))
        else:
            ui.label(printable(name or "empty"))
        ui.label(printable(about)).classes("cs-quiet")
        if not kept.busy:
            plain = printable(name).replace('"', "'").replace("\\", "/")
            ui.button("Remove", on_click=lambda: _ask(place, [kept]), color=None).props(
                f'flat dense no-caps aria-label="Remove {plain}"'
            ).classes("cs-small")


def _ask(place: Workplace, chosen: list[Kept]) -> None:
    """Ask whether uploads shall be removed."""
    runs = {name for each in chosen for name in each.runs}
    size = file_size(sum(each.n_bytes for each in chosen))
    with ui.dialog(value=True) as dialog, ui.card():
        heading(f"Remove {counted(len(chosen), 'upload')}, {size}?")
        if runs:
            some = ", ".join(sorted(runs)[:5])
            some += f" and {counted(len(runs) - 5, 'more run')}" if len(runs) > 5 else ""
            say(
                f"{some} learnt from these images. Without them these runs still predict and can "
                "be exported, but not be evaluated again, and their mistakes cannot be shown."
            )
        say("The originals on your computer stay as they are.", "cs-quiet")

        async def remove() -> None:
            uploads = Uploads(place.uploads)
            # The page may have been drawn hours ago.
            now = await background.io_bound(kept_uploads, place)
            needed = {each.drop for each in now if each.busy or not set(each.runs) <= runs}
            if any(each.drop in needed for each in chosen):
                ui.notify("Some of it is in use by now, so nothing was removed: load the page anew")
                return
            try:
                for each in chosen:
                    await background.io_bound(uploads.remove, each.drop)
            except ConvscopeError as error:
                ui.notify(str(error))
                return
            ui.navigate.to("/data")

        with row():
            button("Remove", remove, strong=True)
            button("Cancel", dialog.close)
