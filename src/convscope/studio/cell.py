"""Images of a cell of the confusion matrix: to look at, to correct, beside similar ones."""

import hashlib
from typing import Any

from convscope.api.gallery import chosen_images
from convscope.datasets.source import table_of
from convscope.errors import ConvscopeError
from convscope.evaluation.telling import Seen
from convscope.paths import short_name
from convscope.progress import Progress
from convscope.recipe import read_run_config
from convscope.run import Run
from convscope.studio.correct import Doubt, decide
from convscope.studio.looks import (
    button,
    command,
    heading,
    picture,
    row,
    say,
    wall,
)
from convscope.studio.nice import background, ui
from convscope.studio.sources import Source, Sources
from convscope.studio.watch import job_view, when_ended
from convscope.studio.workplace import Workplace
from convscope.wording import command_line

_N_SHOWN = 24
"""Largest number of images that are shown of a cell."""


class Cell:
    """The images of a cell of a run's confusion matrix.

    Args:
        place: Workplace.
        sources: Folders whose pictures are shown.
        run: Run.
        shown: Element that gets them.
    """

    def __init__(self, place: Workplace, sources: Sources, run: Run, shown: Any) -> None:
        self._place, self._sources, self._run, self._shown = place, sources, run, shown
        self._source: Source | None = None
        self._asked = object()

    def clear(self) -> None:
        """Remove the images, also those that are being loaded."""
        self._asked = object()
        self._shown.clear()

    async def draw(self, part: str, true: str, predicted: str) -> None:
        """Draw the images of a cell in place of those before.

        Args:
            part: "val" or "test"; a look at test images is logged.
            true: Class of their labels.
            predicted: Class that the network gave.
        """
        self.clear()
        shown, asked = self._shown, self._asked
        with shown:
            ui.spinner()
        chosen = ("--split", part, "--true", true, "--predicted", predicted)
        words = ("gallery", self._run.path, *chosen)
        found: tuple[list[Seen], list[str], bool] | ConvscopeError
        try:
            found = await background.io_bound(self._load, part, true, predicted)
        except ConvscopeError as error:
            found = error
        if shown.is_deleted or self._asked is not asked:
            return  # the page was left meanwhile, or another cell chosen
        shown.clear()
        with shown:
            if isinstance(found, ConvscopeError):
                say(str(found), "cs-bad")
                return
            seen, pictures, small = found
            right = true == predicted
            heading(f"{true}, recognised" if right else f"{true}, predicted as {predicted}", 3)
            if len(seen) == _N_SHOWN:
                say(
                    f"The {_N_SHOWN} to whose label the network gives the lowest probability.",
                    "cs-quiet",
                )
            if right or self._source is None:
                captions = [
                    f"{100 * each.prob:.0f} % {each.answer} · {each.image_id}" for each in seen
                ]
                wall(pictures, captions, pixels=small)
            else:
                say("Is the label wrong, and not the answer? Then correct it.", "cs-quiet")
                doubts = [Doubt(each.image_id, true, each.answer, each.prob) for each in seen]
                decide(self._place, self._source, doubts, says="Answer", run=self._run.name)
            self._similar(words)
            command(command_line(*words))

    def _load(self, part: str, true: str, predicted: str) -> tuple[list[Seen], list[str], bool]:
        seen, images = chosen_images(
            self._run,
            split=part,  # type: ignore[arg-type]
            true=true,
            predicted=predicted,
            n=_N_SHOWN,
            data_dir=None,
            by="studio",
            progress=Progress(),
        )
        if self._source is None:
            self._source = self._folder()
        return seen, [picture(image) for image in images], max(images.shape[1:3]) <= 64

    def _folder(self) -> Source | None:
        """Return the run's folder or archive of images; None if its data are a dataset."""
        place = read_run_config(self._run.config_file).model_dump()
        if place["data_path"] is None:
            return None
        return self._sources.open(place["data_path"], table_of(place) or "")

    def _similar(self, words: tuple[object, ...]) -> None:
        """Draw a button that shows the most similar training images beside each image."""
        # Of its own: the picture of another cell may be shown on another page.
        whole = command_line(*words).encode("utf-8", "surrogateescape")
        digest = hashlib.sha256(whole).hexdigest()[:8]
        file = self._place.own / "pictures" / f"{short_name(self._run.name, 200)}-{digest}.png"
        beside = ui.element("div")

        def start() -> None:
            file.parent.mkdir(parents=True, exist_ok=True)
            compare.disable()
            job = self._place.jobs.submit(
                (*words, "--similar", "3", "-n", "8", "--out", file),
                kind="gallery",
                title=f"Similar training images of {self._run.name}",
                heavy=False,
            )
            with beside:
                job_view(job, compact=True)

                def drawn() -> None:
                    if job.status == "done":
                        with beside:
                            ui.html(
                                f'<img src="/picture/{job.name}.png" style="max-width:100%" '
                                'alt="Each image, and the training images most similar to it">',
                                sanitize=False,
                            )

                when_ended(job, drawn)

        with row():
            compare = button("Beside the most similar training images", start)
