"""The page and the model card of a run."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convscope.datasets.division.part_notes import classes_missing
from convscope.diagnosis import Diagnosis
from convscope.evaluation.calibration import reliability, with_temperature
from convscope.evaluation.metrics import (
    columns_of,
    confusion_matrix,
    confusions,
    most_confused,
    n_images_of_each,
    weakest_classes,
)
from convscope.evaluation.multi_label import name_of_score
from convscope.evaluation.selective import coverage_curve, threshold_for
from convscope.evaluation.tried import Tried
from convscope.recipe import RunConfig, flat
from convscope.report import multi_label, two_classes
from convscope.report.curves import curves_figure
from convscope.report.figures import (
    FAINT,
    MOST_NUMBERED,
    TRAIN_COLOUR,
    VAL_COLOUR,
    confusion_figure,
    coverage_figure,
    label_in_percent,
    new_figure,
    plain_axes,
)
from convscope.report.page import (
    Block,
    Command,
    Page,
    Picture,
    Points,
    Section,
    Table,
    Text,
    svg_picture,
)
from convscope.run import SmallerImages
from convscope.types import NO_CLASS, PART_NAMES, FloatArray, Predictions
from convscope.wording import command_line, counted, duration

_ASKED = (0.95, 0.99)
"""Wanted accuracies for which the share of answered images is reported."""

_FITTED = {
    "squash": "",
    "crop": " Before it, convscope crops images of another aspect ratio to their centre.",
    "pad": " Before it, convscope pads images of another aspect ratio with grey.",
}


@dataclass(frozen=True)
class RunFacts:
    """Facts about a run.

    Attributes:
        name: Name of the run.
        called: What a command calls it.
        config: Settings.
        class_names: Names in the order of the labels.
        metrics: Contents of `metrics.json`.
        history: Rows of `results.csv`; after a rollback those of the head alone.
        predictions: Predictions by split.
        unseen: Predictions to which thresholds are fitted: for images that were not learnt.
        temperature: Temperature of its probabilities.
        n_images: Number of images by part.
        provenance: Origin of the data.
        environment: Contents of `environment.json`.
        n_params: Number of parameters of the model.
        multiply_adds: Multiply-adds for one image.
        file_mb: Size of the saved model.
        train_seconds: Time of its epochs, features and the search for a head.
        peak_memory_mb: Peak memory of its process; None if unknown.
        diagnosis: Findings of `doctor`.
        looks: Sentence on how often its test images were evaluated on this machine; empty if they
            are sealed or the number is unknown.
        hardest: Picture of the hardest images of the evaluated part; None if the data is not
            available.
        tried: What was tried, if the way of training was searched for.
        thresholds: Threshold of each class, where an image may have any number of classes.
        opened: Whether its test images were ever opened, be it for earlier weights.
        rolled_back: Whether fine-tuning was undone.
        smaller: Epochs that trained on smaller images.
    """

    name: str
    called: Path | str
    config: RunConfig
    class_names: Sequence[str]
    metrics: Mapping[str, Any]
    history: Sequence[dict[str, Any]]
    predictions: Mapping[str, Predictions]
    unseen: Predictions
    temperature: float
    n_images: Mapping[str, int]
    provenance: Mapping[str, str]
    environment: Mapping[str, Any]
    n_params: int
    multiply_adds: int
    file_mb: float
    train_seconds: float
    peak_memory_mb: float | None
    diagnosis: Diagnosis
    looks: str
    hardest: Picture | None
    tried: Sequence[Tried] = ()
    thresholds: Sequence[float] = ()
    opened: bool = False
    rolled_back: bool = False
    smaller: SmallerImages | None = None

    @property
    def judged(self) -> str:
        """Part behind the headline: "test" if it was opened."""
        return "test" if "test" in self.metrics else "val"

    @property
    def multi_label(self) -> bool:
        """Whether an image may have any number of classes."""
        return self.unseen.multi_label

    def final(self, said: Predictions) -> FloatArray:
        """Return probabilities at the temperature."""
        return with_temperature(said, self.temperature).probs


def run_page(facts: RunFacts) -> Page:
    """Return the page of a run: its accuracy, training, errors and problems."""
    sections = [
        Section("Training", _learning(facts)),
        Section("Errors", _errors(facts)),
        Section("Calibration", _calibration(facts)),
        Section("Diagnosis", _doctor(facts)),
        Section("Model and training", _facts(facts)),
        *([Section("What was tried", [_tried(facts)])] if facts.tried else []),
        Section("All classes", _scores(facts), folded=not facts.multi_label),
        Section("All settings", [_settings(facts)], folded=True),
    ]
    return Page(
        title=facts.name,
        about=_about(facts),
        verdict=_headline(facts),
        caution=f"{_caution(facts)} {facts.looks}".strip(),
        sections=sections,
    )


def run_card(facts: RunFacts) -> Page:
    """Return the model card of a run, after Mitchell et al., "Model Cards for Model Reporting"."""
    judged, config = facts.metrics[facts.judged], facts.config
    limits = [
        (
            "It knows these classes only, and assigns one of them to any image."
            if not facts.multi_label
            else "It knows these classes only, and says nothing of anything else.",
            _rejecting(facts),
        ),
        (
            weakest_classes(judged["per_class"]),
            "",
        ),
        ("It was not evaluated on other kinds of images than its training images.", ""),
    ]
    limits += [(f"{line}.", "") for line in _not_judged(facts)]
    limits += [(f.symptom, f.evidence) for f in facts.diagnosis.findings.values()]
    source = facts.provenance
    about_data = [
        (name.capitalize(), str(source[name]))
        for name in ("source", "licence", "citation", "checksum")
        if source.get(name)
    ]
    return Page(
        title=f"Model card: {facts.name}",
        about=_about(facts),
        verdict=_headline(facts),
        caution=_caution(facts),
        sections=[
            Section(
                "Intended use",
                [
                    Text(
                        f"{_use(facts)} {len(facts.class_names)} classes: "
                        f"{', '.join(facts.class_names)}. It takes raw pixels, 0 to 255, of any "
                        f"size; resizing and scaling are part of the model.{_FITTED[config.fit]}"
                    ),
                    Command(f"{command_line('predict', facts.called)} IMAGE..."),
                ],
            ),
            Section(
                "Data",
                [
                    Table(("", ""), [[k, v] for k, v in about_data], config.data_name),
                    Table(
                        ("part", "images"),
                        [[name, f"{n:,}"] for name, n in facts.n_images.items()],
                        "Division into parts",
                    ),
                ],
            ),
            Section(
                "Scores" if facts.multi_label else "Accuracy",
                [
                    *([Text(facts.looks)] if facts.looks else []),
                    *([multi_label.score_points(judged)] if facts.multi_label else []),
                    _classes(facts),
                    Text(_calibrated(facts)),
                    *([] if facts.multi_label else _abstaining(facts)),
                ],
            ),
            Section("Limits", [Points(limits)]),
            Section("Model and training", _facts(facts)),
            Section("Settings", [_settings(facts)]),
        ],
    )


def _use(facts: RunFacts) -> str:
    if facts.multi_label:
        return "To say which of these an image shows, any number of them, of"
    return "To classify images into"


def _about(facts: RunFacts) -> str:
    config = facts.config
    epochs = counted(len(facts.history), "epoch")
    at_once = config.trains_at_once or (facts.rolled_back and config.head.logistic)
    trained = "logistic regression" if at_once else epochs
    if facts.rolled_back:
        trained += " on the frozen backbone (kept, as fine-tuning was no better)"
    again = ", then once more on validation images too" if config.refit else ""
    return (
        f"{config.model} on {config.data_name}, recipe {config.recipe}, seed {config.seed}, "
        f"{trained}{again}"
    )


def _headline(facts: RunFacts) -> str:
    judged = facts.metrics[facts.judged]
    part = PART_NAMES[facts.judged]
    if facts.multi_label:
        said = multi_label.headline(judged, part, fitted=facts.unseen.split == facts.judged)
    else:
        said = f"{judged['accuracy']:.1%} accuracy on {judged['n_images']:,} {part} images."
    said = " ".join([said, *(f"{line}." for line in _not_judged(facts))])
    if part == "test":
        return said
    if facts.opened:
        return f"{said} The test images were opened before, but not for these weights."
    return f"{said} The test images are still sealed."


def _caution(facts: RunFacts) -> str:
    return (
        f"The interval, {_interval(facts, facts.metrics[facts.judged])}, is for this very network "
        "on other images of the same kind; another seed gives another network, so one run does not "
        "show that one configuration is better than another."
    )


def _not_judged(facts: RunFacts) -> list[str]:
    counts = n_images_of_each(facts.metrics)
    lines = (line for _, line in classes_missing(facts.class_names, counts))
    return [line[0].upper() + line[1:] for line in lines]


def _interval(facts: RunFacts, judged: Mapping[str, Any]) -> str:
    over = f", over {counted(judged['n_groups'], 'group')}" if "n_groups" in judged else ""
    if facts.multi_label:
        return f"{multi_label.interval(judged)}{over}"
    low, high = judged["accuracy_interval_95"]
    return f"{low:.1%} to {high:.1%}{over}"


def _learning(facts: RunFacts) -> list[Block]:
    rows = facts.history
    if facts.multi_label:
        return [_learning_of_several(rows, facts.smaller)]
    best = max(rows, key=lambda row: float(row["val_accuracy"]))
    last = rows[-1]
    if len(rows) == 1:
        # A head that is fitted at once has no epochs.
        reached = (
            f"Validation accuracy {last['val_accuracy']:.1%}, "
            f"training accuracy {last['accuracy']:.1%}."
        )
        alt = f"Loss and accuracy. {reached}"
        return [svg_picture(curves_figure(rows, stacked=True), alt=alt, caption=reached)]
    highest, at_end = (f"{row['val_accuracy']:.1%}" for row in (best, last))
    caption = f"Validation accuracy reaches its highest after epoch {int(best['epoch'])}: {highest}"
    if at_end != highest:
        caption += f"; {at_end} at the end"
    picture = svg_picture(
        curves_figure(rows, stacked=True, smaller=facts.smaller),
        alt=f"Loss and accuracy by epoch: training accuracy {last['accuracy']:.1%} and validation "
        f"accuracy {last['val_accuracy']:.1%} after {counted(len(rows), 'epoch')}.",
        caption=f"{caption}.{_on_smaller(facts.smaller)}",
    )
    return [picture]


def _on_smaller(smaller: SmallerImages | None) -> str:
    if smaller is None:
        return ""
    epochs = "first epoch" if smaller.n_epochs == 1 else f"first {smaller.n_epochs} epochs"
    return f" The {epochs} (shaded) trained on images of {smaller.size}, to save time."


def _learning_of_several(rows: Sequence[dict[str, Any]], smaller: SmallerImages | None) -> Picture:
    best, last = min(rows, key=lambda row: float(row["val_loss"])), rows[-1]
    lowest, at_end = (f"{row['val_loss']:.3f}" for row in (best, last))
    caption = f"Validation loss reaches its lowest after epoch {int(best['epoch'])}: {lowest}"
    if at_end != lowest:
        caption += f"; {at_end} at the end"
    alt = (
        f"Loss and right decisions by epoch: validation loss {at_end} after "
        f"{counted(len(rows), 'epoch')}."
    )
    if len(rows) == 1:
        caption = f"Validation loss {last['val_loss']:.3f}, training loss {last['loss']:.3f}"
        alt = f"Loss and right decisions. {caption}."
    return svg_picture(
        curves_figure(rows, stacked=True, multi_label=True, smaller=smaller),
        alt=alt,
        caption=f"{caption}.{_on_smaller(smaller)}",
        legend="A decision is whether an image has a class, here from a probability of 0.5 on.",
    )


def _errors(facts: RunFacts) -> list[Block]:
    said = facts.predictions[facts.judged]
    if facts.multi_label:
        probs, names = facts.final(said), facts.class_names
        shown = multi_label.error_blocks(probs, said.labels, names, facts.thresholds)
        return [*shown, *([facts.hardest] if facts.hardest is not None else [])]
    matrix = confusion_matrix(said)
    off = matrix.copy()
    np.fill_diagonal(off, 0)
    names = facts.class_names
    true, taken = (int(place) for place in np.unravel_index(int(off.argmax()), off.shape))
    of_class = int(matrix[true].sum())
    caption = "It makes no mistake."
    if off.any():
        caption = (
            f"Most often {names[true]} is predicted as {names[taken]}: "
            f"{off[true, taken]:,} of {of_class:,}."
        )
    blocks: list[Block] = [
        svg_picture(
            confusion_figure(matrix, names),
            alt=f"Confusion matrix of {len(names)} classes. {caption}",
            caption=caption,
            legend="Rows are true classes, columns predicted ones.",
        )
    ]
    if len(names) > MOST_NUMBERED:
        blocks += _confusions(said, names)
    if len(names) == 2:
        unseen, where = facts.unseen, _unseen_images(facts)
        own = (facts.final(said), said.labels, names)
        blocks += two_classes.roc_blocks(
            *own,
            facts.final(unseen),
            unseen.labels,
            where,
            fitted=unseen.split == facts.judged,
        )
    if facts.hardest is not None:
        blocks.append(facts.hardest)
    return blocks


def _confusions(said: Predictions, names: Sequence[str]) -> list[Block]:
    """Return the most frequent confusions, where the matrix has no numbers."""
    of_each = np.bincount(said.labels, minlength=len(names))
    rows = [
        [f"{names[true]}, predicted as {names[taken]}", f"{n:,}", f"{of_each[true]:,}"]
        for true, taken, n in most_confused(*confusions(said))
    ]
    columns = ("confusion", "images", "of the class")
    return [Table(columns, rows, "The most frequent confusions")] if rows else []


def _calibration(facts: RunFacts) -> list[Block]:
    said = facts.predictions[facts.judged]
    probs = facts.final(said)
    figure = new_figure(6.4, 4.6)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1, linestyle="--")
    kinds = [(probs, TRAIN_COLOUR, f"at temperature {facts.temperature:.2f}")]
    if facts.temperature != 1:
        kinds.insert(0, (said.probs, VAL_COLOUR, "as trained"))
    for values, colour, label in kinds:
        bins = [each for each in reliability(values, said.labels) if each.n_images]
        axes.plot(
            [each.confidence for each in bins],
            [each.accuracy for each in bins],
            color=colour,
            linewidth=1.2,
            label=label,
        )
        sizes = [120 * math.sqrt(each.n_images / said.labels.size) + 8 for each in bins]
        places = [each.confidence for each in bins], [each.accuracy for each in bins]
        axes.scatter(*places, s=sizes, color=colour, linewidths=0)
    axes.set_xlabel("probability" if facts.multi_label else "confidence", color=FAINT)
    axes.set_ylabel("share that has the class" if facts.multi_label else "accuracy", color=FAINT)
    # With room for whole dots, and for the two labels of 0 %.
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    for axis in (axes.xaxis, axes.yaxis):
        label_in_percent(axis)
    plain_axes(axes)
    axes.legend(frameon=False, fontsize=9, loc="best")
    picture = svg_picture(
        figure,
        alt=f"Reliability: accuracy by confidence. {_calibrated(facts)}",
        caption=_calibrated(facts),
        legend="On the dashed line the two agree. The larger a dot, the more "
        + ("decisions." if facts.multi_label else "images."),
    )
    return [picture, *([] if facts.multi_label else _abstaining(facts))]


def _calibrated(facts: RunFacts) -> str:
    judged = facts.metrics[facts.judged]
    before = 100 * judged["calibration_error"]
    after = 100 * judged["calibration_error_at_temperature"]
    both = "Probabilities and shares" if facts.multi_label else "Confidence and accuracy"
    if facts.temperature == 1:
        return f"{both} differ by {before:.1f} points on average."
    where = "validation images" if facts.unseen.split == "val" else "images of folds"
    return (
        f"{both} differ by {after:.1f} points on average; as trained, without the "
        f"temperature {facts.temperature:.2f} that was fitted on {where}, {before:.1f}."
    )


def _unseen_images(facts: RunFacts) -> str:
    """Return what the images are by which thresholds are chosen."""
    if facts.unseen.split == "val":
        return "validation images"
    return "images of folds, each predicted by a network that was not trained on it"


def _abstaining(facts: RunFacts) -> list[Block]:
    """Return the gain from answering only when sure, with thresholds from unseen images."""
    unseen, where = facts.unseen, _unseen_images(facts)
    unseen_curve = coverage_curve(facts.final(unseen), unseen.labels)
    said = facts.predictions[facts.judged]
    probs = facts.final(said)
    curve = coverage_curve(probs, said.labels)
    confidence, right = probs.max(axis=1), said.right
    points = []
    for asked in _ASKED:
        chosen = threshold_for(unseen_curve, asked)
        if chosen is None or curve[0].accuracy >= asked:
            continue
        answered = confidence >= chosen.threshold
        if answered.any():
            points.append(
                (
                    f"If it answers only at {chosen.threshold:.0%} confidence or more, it answers "
                    f"{answered.mean():.0%} of the images, and {right[answered].mean():.1%} of "
                    "those answers are correct.",
                    f"The threshold was chosen on {where}, for {asked:.0%} accuracy.",
                )
            )
    half = min(curve, key=lambda each: abs(each.coverage - 0.5))
    caption = (
        f"The {half.coverage:.0%} most confident answers have an accuracy of {half.accuracy:.1%}, "
        f"all answers {curve[0].accuracy:.1%}."
    )
    blocks: list[Block] = [
        svg_picture(
            coverage_figure(curve), alt=f"Accuracy by share answered. {caption}", caption=caption
        )
    ]
    return [*blocks, Points(points)] if points else blocks


def _doctor(facts: RunFacts) -> list[Block]:
    found = facts.diagnosis
    blocks: list[Block] = []
    for finding in found.findings.values():
        blocks.append(Points([(f"{finding.symptom} ({finding.sure})", finding.evidence)]))
        blocks += [Command(remedy.command) for remedy in finding.remedies[:1]]
    if not found.alarms:
        n = len(found.quiet) + len(found.findings)
        blocks.append(Text(f"{n} traps were checked; this run is healthy."))
    if found.unknown:
        skipped = "; ".join(f"{name} ({reason})" for name, reason in found.unknown.items())
        blocks.append(Text(f"Not checked: {skipped}.", small=True))
    return blocks


def _rejecting(facts: RunFacts) -> str:
    """Return what `predict --reject` does; "" for a run that was evaluated before there was it."""
    rejection = facts.metrics.get("rejection")
    if rejection is None:
        return ""
    shares = [
        f"{rejection['rejected'][part]:.1%} of the {name} images"
        for part, name in PART_NAMES.items()
        if part in rejection["rejected"]
    ]
    by = {
        "distance": "its features are farther from those of the training images than",
        "energy": "the energy of its answer is below",
    }[rejection["by"]]
    return (
        f"With --reject, the answer is '{NO_CLASS}' for an image if {by} "
        f"{rejection['threshold']:.2f}: for {' and '.join(shares)}. Images of other things may "
        "still get a class; try yours."
    )


def _facts(facts: RunFacts) -> list[Block]:
    config, machine = facts.config, facts.environment
    memory = "" if facts.peak_memory_mb is None else f"{facts.peak_memory_mb:,.0f} MB"
    packages = machine.get("packages", {})
    rows = [
        ("parameters", f"{facts.n_params:,}"),
        ("multiply-adds for an image", f"{facts.multiply_adds:,}"),
        ("saved model", f"{facts.file_mb:.1f} MB"),
        ("training time", duration(facts.train_seconds)),
        ("peak memory", memory),
        ("precision in training", config.precision),
        ("backend", f"{config.backend}, Keras {packages.get('keras', '')}"),
        ("processor", str(machine.get("cpu", ""))),
    ]
    return [Table(("", ""), [list(row) for row in rows if row[1]], "The model and its training")]


def _tried(facts: RunFacts) -> Table:
    rows = [
        [
            row.words,
            str(row.fold + 1),
            "" if row.accuracy is None else f"{row.accuracy:.1%}",
            "" if row.loss is None else f"{row.loss:.3f}",
            duration(row.seconds),
            "chosen" if row.chosen else row.note,
        ]
        for row in facts.tried
    ]
    score = name_of_score(multi_label=facts.multi_label)
    columns = ("candidate", "fold", score, "loss", "time", "")
    return Table(columns, rows, "On the validation images of each fold, before the last training")


def _scores(facts: RunFacts) -> list[Block]:
    of_all = [multi_label.score_points(facts.metrics[facts.judged])] if facts.multi_label else []
    return [*of_all, _classes(facts)]


def _classes(facts: RunFacts) -> Table:
    judged = facts.metrics[facts.judged]
    columns = columns_of(judged)
    rows = [
        [
            name,
            *(f"{row[key]:.3f}" if row["n_images"] else "unknown" for key in columns),
            f"{row['n_images']:,}",
        ]
        for name, row in judged["per_class"].items()
    ]
    part = PART_NAMES[facts.judged]
    return Table(("class", *columns.values(), "images"), rows, f"All classes on {part} images")


def _settings(facts: RunFacts) -> Table:
    values = flat(facts.config.model_dump())
    rows = [[key, "" if value is None else str(value)] for key, value in values.items()]
    return Table(("setting", "value"), rows, "config.yaml, which alone reproduces the run")
