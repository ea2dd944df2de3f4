"""How accurate the fast recipe gets in how much time, for several networks and epochs.

    python benchmarks/accuracy_over_time.py --points fast-small:8 fast-medium:12 --seeds 83 84 85

Each run is a whole `convscope train` on CIFAR-10 that keeps 1,000 of the 50,000 training images for
validation, in a process of its own; seeds by turns. Started again after an interruption, it goes
on. Prints a Markdown table of test accuracy (mean and standard deviation over seeds), and of what a
run took: its epochs alone, and the whole command with imports, data, judging and saving, by the
wall and in CPU seconds. Writes `results.json` and the picture `accuracy_over_time.png` into the
folder. `--also` adds what other calls wrote, so that each point may have seeds of its own.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from _lanes import deviation, spelt
from _runs import cost_of, trained

from convscope.run import Run
from convscope.training.results import read_results


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/accuracy-over-time"))
    parser.add_argument(
        "--points",
        nargs="+",
        metavar="MODEL:EPOCHS",
        default=[
            "fast-small:4",
            "fast-small:8",
            "fast-small:12",
            "fast-medium:12",
            "fast-large:8",
        ],
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[83, 84, 85])
    parser.add_argument("--precision", default="auto", help="auto, float32 or bfloat16")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("--also", nargs="+", type=Path, default=[], metavar="RESULTS.JSON")
    options = parser.parse_args()

    points = [
        (model, int(epochs)) for model, _, epochs in (p.partition(":") for p in options.points)
    ]
    runs: dict[tuple[str, int], list[Run]] = {point: [] for point in points}
    for seed in options.seeds:
        for model, epochs in points:
            folder = options.out / f"{model}-{epochs}-seed{seed}"
            arguments = ["--recipe", "fast", "--model", model, "--epochs", str(epochs)]
            arguments += ["--seed", str(seed), "--set", "split.val_fraction=0.02"]
            for setting in options.settings:
                arguments += ["--set", setting]
            if options.precision != "auto":
                arguments += ["--precision", options.precision]
            runs[model, epochs].append(trained(folder, *arguments))
    rows = [summary(model, epochs, those) for (model, epochs), those in runs.items()]
    (options.out / "results.json").write_text(json.dumps(rows, indent=2) + "\n")
    for file in options.also:
        rows += json.loads(file.read_text())
    rows.sort(key=lambda row: row["mean"])
    print_table(rows)
    draw(rows, options.out / "accuracy_over_time.png")


def summary(model: str, epochs: int, runs: list[Run]) -> dict[str, Any]:
    accuracies = [run.metrics["test"]["accuracy"] for run in runs]
    costs = [cost for run in runs if (cost := cost_of(run)) is not None]
    return {
        "model": model,
        "epochs": epochs,
        "test_accuracy": accuracies,
        "mean": statistics.mean(accuracies),
        "sd": deviation(accuracies),
        "epochs_seconds": statistics.median(
            sum(row["seconds"] for row in read_results(run.results_file)) for run in runs
        ),
        **{
            key: statistics.median(cost[key] for cost in costs) if costs else None
            for key in ("wall_seconds", "cpu_seconds")
        },
    }


def print_table(rows: list[dict[str, Any]]) -> None:
    print("| network | epochs | test accuracy | each seed | epochs alone | whole command | CPU |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        each = ", ".join(f"{value:.4f}" for value in row["test_accuracy"])
        whole, cpu = (
            "" if row[key] is None else f"{row[key]:,.0f} s"
            for key in ("wall_seconds", "cpu_seconds")
        )
        print(
            f"| `{row['model']}` | {row['epochs']} | {spelt(row['mean'], row['sd'])} | {each} "
            f"| {row['epochs_seconds']:,.0f} s | {whole} | {cpu} |"
        )


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator, PercentFormatter

    from convscope.report.figures import FAINT, PALETTE, new_figure, plain_axes, save_figure

    figure = new_figure(8, 4.5)
    axes = figure.subplots()
    timed = [row for row in rows if row["cpu_seconds"] is not None]
    for colour, model in zip(PALETTE, dict.fromkeys(row["model"] for row in timed), strict=False):
        own = sorted((r for r in timed if r["model"] == model), key=lambda r: r["cpu_seconds"])
        minutes = [row["cpu_seconds"] / 60 for row in own]
        accuracies = [row["mean"] for row in own]
        axes.errorbar(
            minutes,
            accuracies,
            yerr=[row["sd"] or 0 for row in own],
            marker="o",
            capsize=3,
            color=colour,
        )
        for row, place in zip(own, minutes, strict=True):
            axes.annotate(
                f"{row['mean']:.1%}, {row['epochs']} epoch{'s' if row['epochs'] > 1 else ''}",
                (place, row["mean"]),
                xytext=(7, -13),
                textcoords="offset points",
                fontsize=8,
                color=FAINT,
            )
        axes.annotate(
            model,
            (minutes[-1], accuracies[-1]),
            xytext=(0, 10),
            textcoords="offset points",
            ha="center",
            fontsize=10,
            color=colour,
            weight="bold",
        )
    axes.margins(y=0.12)
    axes.set_xscale("log")
    axes.set_xlim(1, 200)
    axes.xaxis.set_major_locator(FixedLocator([1, 2, 5, 10, 20, 50, 100, 200]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda minutes, _: f"{minutes:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("CPU minutes of the whole command", color=FAINT)
    axes.set_ylabel("CIFAR-10 test accuracy", color=FAINT)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    plain_axes(axes)
    save_figure(figure, path)
    print(f"picture: {path}")


if __name__ == "__main__":
    main()
