"""Summary of an evaluated run."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convscope.cli._tables import NUMBER, TEXT, console, print_table
from convscope.datasets.division.part_notes import classes_missing
from convscope.evaluation.metrics import columns_of, n_images_of_each, weakest_first
from convscope.ledger import Ledger
from convscope.run import Run
from convscope.types import NO_CLASS, PART_NAMES
from convscope.wording import FLATTERING, counted

if TYPE_CHECKING:
    from rich.console import Console

    from convscope.evaluation.other_images import Evaluation
    from convscope.studies.folds import CrossValidation


def print_summary(run: Run, metrics: dict[str, Any]) -> None:
    """Print accuracy or mAP, the weakest classes, and the paths of the pictures."""
    out = console()
    out.print()
    judged = [name for name in ("val", "folds", "test") if name in metrics]
    for name in judged:
        # Where there are predictions of folds, thresholds are chosen on those.
        fitted = name == ("folds" if "folds" in metrics else "val")
        out.print(_line(name, metrics[name], fitted=fitted))
    if metrics["weights"] == "refit":
        out.print(
            "the validation score is from before the final training, which also used the "
            "validation images"
        )
    _print_class_extremes(metrics, out)
    if "rejection" in metrics:
        rejection = metrics["rejection"]
        shares = " and ".join(f"{s:.1%} of the {name}" for name, s in rejection["rejected"].items())
        limit = f"threshold {rejection['threshold']:.2f} of the {rejection['by']}"
        out.print(f"predict --reject answers '{NO_CLASS}' for {shares} images ({limit})")
    openings = run.test_openings
    tally = Ledger().tally_of(openings)
    here = "" if tally is None else f"; on this machine {tally.so_far}"
    out.print(f"test images opened {counted(len(openings), 'time')} in this run{here}")
    out.print()
    for label, path in (
        ("curves", run.curves_picture),
        *_errors(run, metrics),
        ("model", run.weights(str(metrics["weights"]))),
        ("run", run.path),
    ):
        out.print(f"{label:<18}{_short(path)}", markup=False, soft_wrap=True)


def _errors(run: Run, metrics: Mapping[str, Any]) -> list[tuple[str, Path]]:
    if "test" not in metrics:
        return []
    if "macro_f1" in metrics["test"] and "mean_average_precision" in metrics["test"]:
        return [("mistakes", run.mistakes_picture)]
    return [("confusion matrix", run.confusion_picture)]


def print_folds(done: "CrossValidation") -> None:
    """Print a row for each fold, and the accuracy over all images."""
    columns = ("fold", "images", "accuracy", "val accuracy")
    print_table(
        [(name, NUMBER) for name in columns],
        (
            [
                fold.number + 1,
                f"{fold.n_images:,}",
                f"{fold.accuracy:.4f}",
                f"{fold.val_accuracy:.4f}",
            ]
            for fold in done.folds
        ),
    )
    found, out = done.accuracy, console()
    out.print()
    out.print(
        f"accuracy {found.mean:.4f} (95 % interval {found.low:.4f} to {found.high:.4f}) over "
        f"{_images(done.metrics)}, each evaluated once by a network not trained on it; "
        f"standard deviation between folds {found.sd:.4f}",
        soft_wrap=True,
    )
    _print_class_extremes({"test": done.metrics}, out)
    out.print()
    for label, path in (
        ("table", done.table_file),
        ("metrics", done.metrics_file),
        ("confusion matrix", done.confusion_picture),
        ("runs", done.path / "folds"),
    ):
        out.print(f"{label:<18}{_short(path)}", markup=False, soft_wrap=True)


def _print_class_extremes(metrics: Mapping[str, Any], out: "Console") -> None:
    """Print the weakest and the best class, and those without a score."""
    split = metrics["test" if "test" in metrics else "val"]
    _print_extremes(split, out)
    for _, line in classes_missing(list(split["per_class"]), n_images_of_each(metrics)):
        out.print(line, markup=False)


def _print_extremes(split: Mapping[str, Any], out: "Console") -> None:
    rows = weakest_first(split["per_class"])
    if len(rows) > 2:
        (weakest, low), (best, high) = rows[0], rows[-1]
        said = f"weakest class {weakest} (F1 {low:.2f}), best {best} (F1 {high:.2f})"
        if f"{low:.2f}" == f"{high:.2f}":
            said = f"all classes have F1 {high:.2f}"
        out.print(said, markup=False)


def print_evaluation(done: "Evaluation") -> None:
    """Print the figures on other images than those of a run, and the paths of the results."""
    out = console()
    _print_rows(done.metrics)
    out.print()
    out.print(_line("new", done.metrics, fitted=False))
    if done.test is not None:
        out.print(_line("test", done.test, fitted=False))
    _print_extremes(done.metrics, out)
    for note in done.notes:
        out.print(note, markup=False, soft_wrap=True)
    out.print()
    files = Run(done.path)
    several = "mean_average_precision" in done.metrics
    mistakes = files.mistakes_picture if several else files.confusion_picture
    for label, path in (
        ("mistakes" if several else "confusion matrix", mistakes),
        ("results", done.path),
    ):
        if path.exists():
            out.print(f"{label:<18}{_short(path)}", markup=False, soft_wrap=True)


def print_classes(metrics: dict[str, Any], part: str) -> None:
    """Print precision, recall and F1 of each class on a part, and what else is known."""
    if part != "test":
        console().print(f"on {PART_NAMES[part]} images:")
    _print_rows(metrics[part])


def _print_rows(split: Mapping[str, Any]) -> None:
    columns = columns_of(split)
    print_table(
        [("class", TEXT), *((name, NUMBER) for name in columns.values()), ("images", NUMBER)],
        (
            [
                name,
                *(f"{row[key]:.3f}" if row["n_images"] else "unknown" for key in columns),
                f"{row['n_images']:,}",
            ]
            for name, row in split["per_class"].items()
        ),
    )


def _line(name: str, split: dict[str, Any], *, fitted: bool) -> str:
    if "mean_average_precision" in split:
        return _line_of_several(name, split, fitted=fitted)
    low, high = split["accuracy_interval_95"]
    top = "".join(f", top-{k} {value:.4f}" for k, value in split["top_k_accuracy"].items())
    area = f", ROC AUC {split['roc_auc']:.4f}" if "roc_auc" in split else ""
    return (
        f"{name:<4} accuracy {split['accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f}), "
        f"loss {split['loss']:.4f}{top}{area}, {_images(split)}"
    )


def _line_of_several(name: str, split: dict[str, Any], *, fitted: bool) -> str:
    flattering = f" {FLATTERING}" if fitted else ""
    low, high = split["mean_average_precision_interval_95"]
    return (
        f"{name:<4} mAP {split['mean_average_precision']:.4f} (95 % interval {low:.4f} to "
        f"{high:.4f}), F1 macro {split['macro_f1']:.4f}, micro {split['micro_f1']:.4f}"
        f"{flattering}; {split['hamming_loss']:.1%} of the decisions wrong, "
        f"{split['exact_match']:.1%} of the images without a wrong one, loss {split['loss']:.4f}, "
        f"{_images(split)}"
    )


def _images(split: Mapping[str, Any]) -> str:
    """Return the number of images, and of groups if the interval is over those."""
    groups = f" in {counted(split['n_groups'], 'group')}" if "n_groups" in split else ""
    return counted(split["n_images"], "image") + groups


def _short(path: Path) -> str:
    """Return the path relative to the current directory, if it is below that."""
    path, here = path.resolve(), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
