"""Labels that a person corrects: image by image, into a new table; the originals stay."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from convscope.errors import ConvscopeError
from convscope.studio.looks import button, row, say
from convscope.studio.nice import background, ui
from convscope.studio.sources import Corrections, Source, picture_address
from convscope.studio.workplace import Workplace
from convscope.wording import counted, printable

_MANY_CLASSES = 200
"""Number of classes above which a class is looked for by typing a part of its name."""


@dataclass(frozen=True)
class Doubt:
    """An image whose label is in doubt.

    Attributes:
        image: Name of the image below its folder.
        label: Class that it is labelled with.
        answer: Class that a network gave.
        prob: Probability of that answer.
    """

    image: str
    label: str
    answer: str
    prob: float


def thumb(source: Source, file: str) -> str:
    """Return the address of a small picture of an image."""
    return picture_address(source.key, file)


def decide(
    place: Workplace, source: Source, doubts: Sequence[Doubt], *, says: str, run: str = ""
) -> None:
    """Draw images, each with the decision of a person, and what is done with the decisions.

    Args:
        place: Workplace, which keeps the decisions.
        source: Folder or archive of the images.
        doubts: Images in doubt.
        says: Words before the answer of the network, as "Looks like".
        run: Name of the run that answered, whose settings the next training begins with; empty if
            the networks were no run.
    """
    kept = Corrections(source, place.labels)
    label_of = {file: name for name, files in source.by_class.items() for file in files}
    classes = list(source.by_class)
    choices: dict[str, Any] = {}

    def show() -> None:
        decided = kept.decided
        for image, choice in choices.items():
            if decided.get(image) in (None, *classes):
                choice.set_value(decided.get(image))

    def keep(image: str, name: str | None) -> None:
        # A choice also changes when it shows what another page decided.
        if name != kept.decided.get(image):
            kept.decide(image, name)
            show()
            summary.refresh()

    with ui.element("div").classes("cs-suspects"):
        for doubt in doubts:
            with ui.element("figure"):
                choices[doubt.image] = _one(source, doubt, classes, says)
    show()
    for image, choice in choices.items():
        choice.on_value_change(lambda event, image=image: keep(image, event.value))

    def corrected() -> dict[str, str]:
        return {
            image: name
            for image, name in kept.decided.items()
            if label_of.get(image) not in (name, None)
        }

    @ui.refreshable
    def summary() -> None:
        changed = corrected()
        if not changed:
            return

        async def use() -> None:
            try:
                table = await background.io_bound(source.corrected, corrected(), place.labels)
            except ConvscopeError as error:
                ui.notify(str(error))
                return
            of_run = {"run": run} if run else {}
            asked = {"data": source.data, "labels": str(table), **of_run}
            ui.navigate.to("/train?" + urlencode(asked))

        with row():
            ui.label(f"{counted(len(changed), 'label')} corrected").style("font-weight:600")
            button("Train with the corrected labels", use, strong=True)
        say("They go into a new table of labels; your files stay as they are.", "cs-quiet")

    with ui.element("div").props('role="status"'):
        summary()


def _one(source: Source, doubt: Doubt, classes: list[str], says: str) -> Any:
    """Draw an image in doubt, and return the choice of its class."""
    ui.html(
        f'<img loading="lazy" alt="" src="{thumb(source, doubt.image)}">',
        sanitize=False,
    )
    ui.label(printable(f"Label: {doubt.label}"))
    ui.label(printable(f"{says}: {doubt.answer}, {100 * doubt.prob:.0f} %")).classes("cs-quiet")
    ui.label(printable(doubt.image)).classes("cs-quiet cs-name")
    choice = ui.select(
        {name: printable(name) for name in classes},
        label="It is",
        clearable=True,
        # Nobody looks for one of hundreds by its place.
        with_input=len(classes) > _MANY_CLASSES,
    ).props("outlined dense options-dense")

    with row():
        for word, value in ((doubt.answer, doubt.answer), (f"{doubt.label} is right", doubt.label)):
            about = f"{doubt.image}: {word}"
            ui.button(
                printable(word), on_click=lambda value=value: choice.set_value(value), color=None
            ).props(f'flat dense no-caps size=sm aria-label="{_plain(about)}"').classes("cs-small")
    return choice


def _plain(text: str) -> str:
    """Return a text that can stand between the quotes of a property."""
    return printable(text).replace('"', "'").replace("\\", "/")
