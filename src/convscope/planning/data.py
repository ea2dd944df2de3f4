"""The data that settings name."""

from collections.abc import Callable
from pathlib import Path

from convscope.datasets.source import load_source, moved
from convscope.errors import DataError
from convscope.paths import path_or_none, user_path
from convscope.progress import Progress
from convscope.recipe import RunConfig
from convscope.types import Dataset


def load_for(config: RunConfig, data_dir: Path | str | None, progress: Progress) -> Dataset:
    """Load the data that a run's settings name, divided as they say."""
    settings = config.model_dump()
    chosen = {key: settings[key] for key in ("image_size", "fit", "split")}
    return load_source(settings, data_dir, _SaidOnce(progress), **chosen)


def load_of_run(
    config: RunConfig,
    data: Path | str | None,
    labels: Path | str | None,
    data_dir: Path | str | None,
    progress: Progress,
) -> Dataset:
    """Load the data that a run was trained on.

    `verify_split` checks whether its images are those of the run.

    Args:
        config: Settings of the run.
        data: Current place of a folder of images, if it moved.
        labels: Current place of the table of its labels, if that moved.
        data_dir: Further folder to look for the files of a registered dataset.
        progress: Called with downloads and packing.

    Raises:
        DataError: If the folder no longer exists, or cannot be used.
        DownloadError: If the files are not on this machine and cannot be downloaded.
    """
    config = moved(config, data, labels)
    if data is None and config.data_path and not user_path(config.data_path, "data_path").exists():
        raise DataError(
            f"the images of the run are no longer in {config.data_path}; "
            "give their current place with --data"
        )
    return load_for(config, data_dir, progress)


def load_once(data_dir: Path | str | None, progress: Progress) -> Callable[[RunConfig], Dataset]:
    """Return `load_for` with a memory: settings that name the data of the last call reuse it.

    For a study, whose runs mostly share one set of images.
    """
    known: dict[str, Dataset] = {}
    # Looked at before there is work in vain.
    place = path_or_none(data_dir, "--data-dir")

    def load_known(config: RunConfig) -> Dataset:
        of_data = (config.data, config.data_path, config.labels)
        key = repr((*of_data, config.image_size, config.fit, config.split))
        if key not in known:
            known.clear()
            known[key] = load_for(config, place, progress)
        return known[key]

    return load_known


class _SaidOnce(Progress):
    """Progress of several loads of the same images: what was said of them is not repeated."""

    def __init__(self, outer: Progress) -> None:
        self.task = outer.task  # type: ignore[method-assign]
        self._outer = outer

    def say(self, text: str) -> None:
        """Print one line, unless it was printed before."""
        if self._outer.is_news(text):
            self._outer.say(text)
