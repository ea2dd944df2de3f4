"""The page and the model card of a run."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from convscope.api.costs import file_mb, seconds_with_features, sheet_of
from convscope.api.doctor import doctor
from convscope.api.gallery import chosen_images
from convscope.datasets.division.splits import read_split
from convscope.errors import ConvscopeError, RunError
from convscope.evaluation.telling import Seen
from convscope.evaluation.tried import read_tried
from convscope.ledger import Ledger
from convscope.planning.plan import run_config
from convscope.progress import Progress, console_progress
from convscope.run import Run
from convscope.types import Predictions
from convscope.wording import sureness

if TYPE_CHECKING:
    from convscope.report.page import Picture


_NEEDED = ("n_images", "per_class", "calibration_error", "calibration_error_at_temperature")


def report(
    run: Run | Path | str,
    *,
    data: Path | str | None = None,
    labels: Path | str | None = None,
    data_dir: Path | str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write the page `report.html` and the card `MODEL_CARD.md` of an evaluated run.

    They are made from its saved predictions; no model runs on the test images.

    Args:
        run: Run or its folder.
        data: Current place of the run's folder of images, if it moved.
        labels: Current place of the table of their labels, if that moved.
        data_dir: Further folder to look for the files of a built-in dataset.
        progress: Called with all events; None draws on standard error.

    Returns:
        Path of the page.

    Raises:
        RunError: If there is no such run, or it has not been evaluated.
        StorageError: If a file cannot be written.
    """
    from convscope.classifier.keras_model import spec_of
    from convscope.evaluation.predictions import read_predictions, unseen_predictions
    from convscope.report.markdown import write_markdown
    from convscope.report.page import write_page
    from convscope.report.run_page import RunFacts, run_card, run_page
    from convscope.training.results import HEAD, read_results

    where: dict[str, Any] = {"data": data, "labels": labels, "data_dir": data_dir}
    where["progress"] = progress or console_progress()
    run = Run.open(run)
    metrics, state = run.metrics, run.state
    rolled_back = bool(state.get("rolled_back"))
    parts = [row["split"] for row in read_split(run.split_file)]
    sheet = sheet_of(run)
    predictions = read_predictions(run.predictions_file)[0]
    _require_whole(run, metrics, predictions)
    spec = spec_of(run, str(metrics["weights"]))
    facts = RunFacts(
        name=run.name,
        called=run.called,
        config=run_config(run),
        class_names=run.class_names,
        metrics=metrics,
        history=[
            row for row in read_results(run.results_file) if not rolled_back or row["phase"] == HEAD
        ],
        predictions=predictions,
        unseen=unseen_predictions(run, str(metrics["weights"]), predictions["val"]),
        temperature=spec.temperature,
        thresholds=spec.thresholds,
        n_images={part: parts.count(part) for part in ("train", "val", "test")},
        provenance=state.get("provenance", {}),
        environment=run.environment,
        n_params=sheet.n_params,
        multiply_adds=sheet.n_multiply_adds,
        file_mb=file_mb(run),
        train_seconds=seconds_with_features(run),
        peak_memory_mb=state.get("peak_memory_mb"),
        diagnosis=doctor(run, **where),
        looks=_looks(run),
        hardest=_hardest(run, metrics, where),
        tried=read_tried(run.tried_file),
        opened=bool(run.test_openings),
        rolled_back=rolled_back,
        smaller=run.smaller_images,
    )
    write_page(run_page(facts), run.report_page)
    write_markdown(run_card(facts), run.card_file)
    return run.report_page


def _require_whole(
    run: Run, metrics: Mapping[str, Any], predictions: Mapping[str, Predictions]
) -> None:
    """Refuse results that are not all there, or not of the run's classes."""
    n_classes = len(run.class_names)
    missing = [name for name in ("weights", "val") if name not in metrics]
    for part in [name for name in ("val", "test") if name in metrics]:
        said = predictions.get(part)
        if said is None or said.probs.shape[1] != n_classes:
            raise RunError(
                f"{run.predictions_file} is damaged (it has no {part} images of {n_classes} "
                "classes); run evaluate again with --fresh"
            )
        score = "mean_average_precision" if said.multi_label else "accuracy"
        needed = (score, f"{score}_interval_95", *_NEEDED)
        missing += [f"{part}.{name}" for name in needed if name not in metrics[part]]
    if missing:
        raise RunError(
            f"{run.metrics_file} is damaged: it lacks {', '.join(missing)}; run evaluate again "
            "with --fresh"
        )


def _looks(run: Run) -> str:
    openings = run.test_openings
    tally = Ledger().tally_of(openings)
    if tally is None:
        times = openings[-1].get("times") if openings else None
        return (
            f"This was evaluation number {times} of its test images on that machine."
            if times
            else ""
        )
    if tally.times == 1:
        return "No other run was evaluated on its test images on the machine that made this page."
    return (
        f"Its test images were evaluated {tally.n_times} on the machine that made this page, by "
        "all runs together; the best of many is partly lucky."
    )


def _hardest(run: Run, metrics: dict[str, object], where: dict[str, Any]) -> "Picture | None":
    """Return a picture of the hardest images; None if the data is not available."""
    from convscope.report.figures import samples_figure
    from convscope.report.page import svg_picture

    with contextlib.suppress(ConvscopeError):
        split: Literal["val", "test"] = "test" if "test" in metrics else "val"
        seen, images = chosen_images(run, split=split, n=12, by="report", **where)
        multi_label = seen[0].multi_label
        return svg_picture(
            samples_figure(images, [each.caption for each in seen], columns=4),
            alt="; ".join(f"{each.class_name} predicted as {each.answer}" for each in seen) + ".",
            caption=worst_error(seen),
            legend="The hardest images: the label, then the answer"
            + ("." if multi_label else " and its probability."),
        )
    return None


def worst_error(seen: Sequence[Seen]) -> str:
    """Return a sentence on the first image with a wrong answer; right ones can be hard too.

    Args:
        seen: The hardest images, by the loss of their predictions, the hardest first.
    """
    worst = next((each for each in seen if each.answer != each.class_name), None)
    if worst is None:
        return "The answers to the hardest images are all correct."
    if worst.multi_label:
        return f"The worst answer: {worst.answer}, for an image of {worst.class_name}."
    return (
        f"The worst error is a {worst.class_name}, predicted as {worst.answer} with "
        f"{sureness(worst.prob)} confidence."
    )
