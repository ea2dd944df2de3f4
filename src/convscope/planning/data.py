"""The data that settings name."""

from collections.abc import Callable
from pathlib import Path

from convscope.datasets import holds_files
from convscope.datasets.checks.near_copies import share_of_near_copies
from convscope.datasets.checks.series import series_across
from convscope.datasets.division.splits import in_recorded_groups
from convscope.datasets.source import divide_and_tell, load_undivided, moved, near_copies
from convscope.errors import DataError
from convscope.paths import is_address, path_or_none, user_path
from convscope.progress import Progress
from convscope.recipe import RunConfig
from convscope.types import Dataset
from convscope.wording import masked, printable


def tell_address(at: str | None, progress: Progress) -> None:
    """Say the address of images that a file names, before anything connects to it.

    The file may be another person's. What is no address is not said.
    """
    if at is None or not is_address(at):
        return
    if progress.is_news(line := f"Images of the run: {printable(masked(at))}"):
        progress.say(line)


def load_for(config: RunConfig, data_dir: Path | str | None, progress: Progress) -> Dataset:
    """Load the data that a run's settings name, divided as they say."""
    progress = _SaidOnce(progress)
    whole = _load_undivided(config, data_dir, progress)
    return divide_and_tell(whole, config.split, progress, _alike(config, data_dir, progress))


def _load_undivided(config: RunConfig, data_dir: Path | str | None, progress: Progress) -> Dataset:
    size, fit = config.image_size, config.fit
    return load_undivided(config.model_dump(), data_dir, progress, image_size=size, fit=fit)


def _alike(
    config: RunConfig, data_dir: Path | str | None, progress: Progress
) -> dict[str, str] | None:
    """Return the groups of near copies if they are to stay together."""
    if not config.split.near_copies:
        return None
    return near_copies(config.model_dump(), data_dir, progress)


def load_of_run(
    config: RunConfig,
    split_file: Path | None,
    data: Path | str | None,
    labels: Path | str | None,
    data_dir: Path | str | None,
    progress: Progress,
) -> Dataset:
    """Load the data that a run was trained on.

    `verify_split` checks whether its images are those of the run.

    Args:
        config: Settings of the run.
        split_file: Its `split.csv`, by which its near copies are known, and the groups of
            `split.group`: another version of the search may find other ones, and a pattern of
            another person's may be made to take hours. None if there is no run.
        data: Current place of a folder of images, if it moved.
        labels: Current place of the table of its labels, if that moved.
        data_dir: Further folder to look for the files of a built-in dataset.
        progress: Called with downloads and packing.

    Raises:
        DataError: If the folder no longer exists, or cannot be used, or `split.csv` is needed and
            missing or damaged.
        DownloadError: If the files are not on this machine and cannot be downloaded.
    """
    config = moved(config, data, labels)
    at = None if data is not None else config.data_path
    tell_address(at, progress)
    if at and not is_address(at) and not user_path(at, "data_path").exists():
        raise DataError(
            f"the images of the run are no longer in {config.data_path}; "
            "give their current place with --data"
        )
    by_groups = config.split.near_copies or config.split.group is not None
    if not by_groups or split_file is None:
        return load_for(config, data_dir, progress)
    progress = _SaidOnce(progress)
    whole = in_recorded_groups(_load_undivided(config, data_dir, progress), split_file)
    split = config.split.model_copy(update={"group": None})
    return divide_and_tell(whole, split, progress, None)


def load_once(data_dir: Path | str | None, progress: Progress) -> Callable[[RunConfig], Dataset]:
    """Return `load_for` with a memory: settings that name the data of the last call reuse it.

    For a study, whose runs mostly share one set of images; folds divide it anew.
    """
    whole: dict[str, Dataset] = {}
    divided: dict[str, Dataset] = {}
    told: set[tuple[str | None, str | None]] = set()
    alike: dict[tuple[str, str | None, str | None, bool], dict[str, str] | None] = {}
    # Looked at before there is work in vain.
    place, quiet = path_or_none(data_dir, "--data-dir"), _SaidOnce(progress)

    def load_known(config: RunConfig) -> Dataset:
        of_data = (config.data, config.data_path, config.labels, config.image_size, config.fit)
        key = repr(of_data)
        if key not in whole:
            whole.clear()
            divided.clear()
            whole[key] = _load_undivided(config, place, quiet)
        part = repr(config.split)
        if part not in divided:
            divided.clear()
            asked = (*of_data[:3], config.split.near_copies)
            if asked not in alike:
                alike[asked] = _alike(config, place, quiet)
            divided[part] = divide_and_tell(whole[key], config.split, quiet, alike[asked])
            place_of = (config.data_path, config.labels)
            in_groups = divided[part].train.groups is not None
            if holds_files(config.data) and not in_groups and place_of not in told:
                told.add(place_of)
                _tell_likeness(divided[part], quiet, copies=not config.split.near_copies)
        return divided[part]

    return load_known


def _tell_likeness(dataset: Dataset, progress: Progress, *, copies: bool) -> None:
    """Say if images of one series, or near copies, are in training and in validation.

    Args:
        dataset: Divided dataset.
        progress: Told.
        copies: Whether to look for near copies.
    """
    if dataset.val is None:
        return
    parts = {"train": dataset.train, "val": dataset.val}
    drawn = "val" in dataset.drawn
    series = series_across(parts, dataset.class_names)
    found = None
    if copies and not (series and series.settings(drawn=drawn)):
        found = share_of_near_copies(parts)
    if found:
        progress.say(
            f"Note: {found.seen()}. If the two show the same thing, all scores are too high; "
            f"{found.remedy(drawn=drawn)}"
        )
    elif series:
        where = ", of which one is in training and the other in validation,"
        progress.say(
            f"Note: in {series.seen(where)}. If they are frames of a video or photos of one thing, "
            f"all scores are too high; {series.remedy(drawn=drawn)}"
        )


class _SaidOnce(Progress):
    """Progress of several loads of the same images: what was said of them is not repeated."""

    def __init__(self, outer: Progress) -> None:
        self.task = outer.task  # type: ignore[method-assign]
        self._outer = outer

    def say(self, text: str) -> None:
        """Print one line, unless it was printed before."""
        if self._outer.is_news(text):
            self._outer.say(text)
