"""What each part of the fast recipe gains: the recipe without it, one part at a time.

    python benchmarks/ablation.py --model fast-small --epochs 6 --seeds 83 84 85

Each run is a whole `convscope train --no-test` on CIFAR-10's 40,000 training images in a process of
its own, judged on the 10,000 validation images; the test images stay sealed. Prints a Markdown
table of validation accuracy without each part, what the part gains (mean and standard deviation of
the differences, seed by seed), and what it costs in CPU seconds. Started again after an
interruption, it goes on.

    python benchmarks/ablation.py --parts --epochs 10 --with filter.share=0.7 epochs=11

What the recipe gains by other settings; the option can be given several times.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from _lanes import deviation, spelt
from _runs import cost_of, trained

from convscope.recipe import TtaSettings
from convscope.run import Run

WITHOUT: dict[str, tuple[str, ...]] = {
    "whitened patches": ("start.whiten=false",),
    "convolutions that hand their input on": ("start.dirac=false",),
    # Plain SGD at a usual rate of its own, not a tuned one.
    "Muon": (
        *("optimizer.name=sgd", "optimizer.learning_rate=0.4", "optimizer.momentum=0.85"),
        *("optimizer.bias_rate=1", "optimizer.head_rate=1"),
    ),
    "faster biases": ("optimizer.bias_rate=1",),
    "faster head": ("optimizer.head_rate=1",),
    "falling learning rate": ("schedule.name=constant",),
    "flips": ("augment.flip=false",),
    "shifts": ("augment.crop=0",),
    "label smoothing": ("label_smoothing=0",),
}
JUDGED_BY = {
    "shifted views in judging": TtaSettings(mirror=True),
    "any views in judging but the image": TtaSettings(),
}
"""By what is left away, which needs no training of its own: the views that remain."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"), help="folder of runs")
    parser.add_argument("--model", default="fast-small")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", nargs="+", type=int, default=[83, 84, 85])
    parser.add_argument(
        "--parts",
        nargs="*",
        default=list(WITHOUT),
        metavar="PART",
        choices=list(WITHOUT),
        help=(
            "what is left away in training; with none, only in judging. Default: each of: "
            + ", ".join(WITHOUT)
        ),
    )
    parser.add_argument(
        "--with",
        nargs="+",
        action="append",
        default=[],
        dest="added",
        metavar="SETTING=VALUE",
        help="settings to try together, in place of the recipe's",
    )
    options = parser.parse_args()
    settings = {part: WITHOUT[part] for part in options.parts}
    added = {f"with {' '.join(each)}": each for each in options.added}

    runs: dict[str, list[Run]] = {part: [] for part in ("", *settings, *added)}
    for seed in options.seeds:
        for part in runs:
            what = f"{options.model}-{options.epochs}-{part.replace(' ', '-') or 'whole'}"
            arguments = ["--recipe", "fast", "--model", options.model, "--no-test"]
            arguments += ["--seed", str(seed), "--set", f"epochs={options.epochs}"]
            for setting in {**settings, **added}.get(part, ()):
                arguments += ["--set", setting]
            runs[part].append(trained(options.out / f"{what}-seed{seed}", *arguments))
    whole = [accuracy(run) for run in runs[""]]
    rows = [row("(nothing left away)", whole)]
    for part in settings:
        less, cost = [accuracy(run) for run in runs[part]], dearer(runs[""], runs[part])
        rows.append(row(part, less, np.subtract(whole, less), cost))
    for part, views in JUDGED_BY.items():
        less = [judged(run, views) for run in runs[""]]
        rows.append(row(part, less, np.subtract(whole, less)))
    for part in added:
        more, cost = [accuracy(run) for run in runs[part]], dearer(runs[part], runs[""])
        rows.append(row(part, more, np.subtract(more, whole), cost))
    (options.out / "results.json").write_text(json.dumps(rows, indent=2) + "\n")
    print("| without | validation accuracy | what it gains | what it costs |")
    print("|---|---|---|---|")
    for each in rows:
        gain = "" if each["gain"] is None else spelt(each["gain"], each["gain_sd"], "+.4f")
        cpu = "" if each["cpu"] is None else f"{each['cpu']:+.0%}"
        print(f"| {each['without']} | {spelt(each['mean'], each['sd'])} | {gain} | {cpu} |")


def accuracy(run: Run) -> float:
    return float(run.metrics["val"]["accuracy"])


def judged(run: Run, views: TtaSettings) -> float:
    """Return what the same weights reach by the mean over other views."""
    import convscope
    from convscope.classifier.keras_model import open_classifier
    from convscope.classifier.spec import Views
    from convscope.classifier.views import MeanOverViews
    from convscope.evaluation.predictions import predict_images
    from convscope.progress import Progress

    val = convscope.load("cifar10", progress=Progress()).val
    assert val is not None
    model = MeanOverViews(open_classifier(run, "last").network, Views(**views.model_dump()))
    probs = predict_images(model, val.images, batch_size=500, progress=Progress(), label="")
    return float((probs.argmax(axis=1) == val.labels).mean())


def dearer(runs: list[Run], others: list[Run]) -> float | None:
    """Return by what part runs take more CPU seconds than others; None if that was not measured."""
    taken = [
        [cost["cpu_seconds"] for run in some if (cost := cost_of(run)) is not None]
        for some in (runs, others)
    ]
    return statistics.median(taken[0]) / statistics.median(taken[1]) - 1 if all(taken) else None


def row(
    without: str, reached: list[float], gains: Any = None, cost: float | None = None
) -> dict[str, Any]:
    return {
        "without": without,
        "val_accuracy": reached,
        "mean": statistics.mean(reached),
        "sd": deviation(reached),
        "gain": None if gains is None else statistics.mean(gains.tolist()),
        "gain_sd": None if gains is None else deviation(gains.tolist()),
        "cpu": cost,
    }


if __name__ == "__main__":
    main()
