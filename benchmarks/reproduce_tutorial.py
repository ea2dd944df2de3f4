"""Train the tutorial's three CNNs over several seeds and set the results beside the tutorial's.

    python benchmarks/reproduce_tutorial.py --out runs/reproduce

Each run is a process of its own (`convscope train`), so one cannot influence another. Started
again after an interruption, it goes on: finished runs are kept, a half-finished one is resumed.
Prints a Markdown table, and writes the same numbers to `results.json` in the folder.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from _lanes import deviation, spelt
from _runs import trained

from convscope.run import Run
from convscope.training.results import read_results

# Accuracy on the test images, one run each, as the tutorial reports them.
TUTORIAL = {"cnn-sequential": 0.7020, "cnn-functional": 0.7008, "cnn-subclassing": 0.7104}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/reproduce"), help="folder of runs")
    parser.add_argument("--models", nargs="+", default=list(TUTORIAL), choices=list(TUTORIAL))
    parser.add_argument("--seeds", nargs="+", type=int, default=[83, 84, 85])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--precision", default="auto", help="auto, float32 or bfloat16")
    options = parser.parse_args()

    rows = []
    for model in options.models:
        runs = [train(model, seed, options) for seed in options.seeds]
        rows.append(summary(model, runs))
    (options.out / "results.json").write_text(json.dumps(rows, indent=2) + "\n")
    print_table(rows)


def train(model: str, seed: int, options: argparse.Namespace) -> Run:
    arguments = ["--data", "cifar10", "--recipe", "tutorial", "--model", model]
    arguments += ["--seed", str(seed), "--epochs", str(options.epochs)]
    if options.precision != "auto":
        arguments += ["--precision", options.precision]
    return trained(options.out / f"{model}-seed{seed}", *arguments)


def summary(model: str, runs: list[Run]) -> dict[str, Any]:
    accuracies = [run.metrics["test"]["accuracy"] for run in runs]
    losses = [run.metrics["test"]["loss"] for run in runs]
    epochs = [row for run in runs for row in read_results(run.results_file)]
    return {
        "model": model,
        "seeds": len(runs),
        "test_accuracy": accuracies,
        "mean": statistics.mean(accuracies),
        "sd": deviation(accuracies),
        "val_mean": statistics.mean(run.metrics["val"]["accuracy"] for run in runs),
        "best_val_mean": statistics.mean(
            max(row["val_accuracy"] for row in read_results(run.results_file)) for run in runs
        ),
        "test_loss_mean": statistics.mean(losses),
        "images_per_s_median": statistics.median(row["images_per_s"] for row in epochs),
        "tutorial": TUTORIAL[model],
    }


def print_table(rows: list[dict[str, Any]]) -> None:
    print("| model | test accuracy, mean ± sd over seeds | each seed | test loss | tutorial |")
    print("|---|---|---|---|---|")
    for row in rows:
        each = ", ".join(f"{value:.4f}" for value in row["test_accuracy"])
        print(
            f"| {row['model']} | {spelt(row['mean'], row['sd'])} | {each} "
            f"| {row['test_loss_mean']:.3f} | {row['tutorial']:.4f} |"
        )


if __name__ == "__main__":
    main()
