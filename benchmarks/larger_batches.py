"""Larger batches, as more devices need them: which learning rate keeps the accuracy?

    python benchmarks/larger_batches.py --optimizers sgd adam --seeds 83 84 85

For SGD (network `fast-small`) the rule is a rate that grows as the batch does, for Adam (the
tutorial's CNN) as its square root; each with and without epochs of warm-up, beside the rate of the
small batch. Training on many devices equals that on one with the same batch, so one is enough here.
Each run is a whole `convscope train --no-test` on CIFAR-10's 40,000 training images in a process of
its own, judged on the 10,000 validation images; the test images stay sealed. Prints a Markdown
table. Started again after an interruption, it goes on.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from _lanes import deviation, spelt
from _runs import trained

SMALL = {"sgd": (125, 0.1), "adam": (128, 0.001)}
"""Batch size and rate from which they grow; plain SGD's is a usual one, not tuned."""
OF = {
    "sgd": [
        *("--recipe", "fast", "--model", "fast-small", "--set", "optimizer.name=sgd"),
        *("--set", "optimizer.momentum=0.9", "--set", "optimizer.bias_rate=1"),
        *("--set", "optimizer.head_rate=1"),
    ],
    "adam": ["--recipe", "tutorial", "--model", "cnn-functional"],
}
EXPONENT = {"sgd": 1.0, "adam": 0.5}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/larger-batches"))
    parser.add_argument("--optimizers", nargs="+", choices=list(OF), default=list(OF))
    parser.add_argument("--factors", nargs="+", type=int, default=[8], help="of the batch")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=1, help="epochs")
    parser.add_argument("--seeds", nargs="+", type=int, default=[83, 84, 85])
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for optimizer in options.optimizers:
        for factor, rule, warmup in ways(options.factors, options.warmup):
            size, rate = SMALL[optimizer]
            rate *= factor ** EXPONENT[optimizer] if rule else 1
            arguments = [*OF[optimizer], "--no-test", "--epochs", str(options.epochs)]
            arguments += ["--batch-size", str(size * factor), "--lr", f"{rate:g}"]
            arguments += ["--set", "schedule.name=cosine"]
            arguments += ["--set", f"schedule.warmup_epochs={warmup}"]
            reached = []
            for seed in options.seeds:
                name = f"{optimizer}-{size * factor}-{rate:g}-{warmup}-seed{seed}"
                run = trained(options.out / name, *arguments, "--seed", str(seed))
                reached.append(float(run.metrics["val"]["accuracy"]))
            rows.append(
                {
                    **{"optimizer": optimizer, "batch": size * factor, "rate": rate},
                    **{"warmup_epochs": warmup, "val_accuracy": reached},
                }
            )
    (options.out / "results.json").write_text(json.dumps(rows, indent=2) + "\n")
    print("| optimizer | batch | rate | warm-up | validation accuracy |")
    print("|---|---|---|---|---|")
    for row in rows:
        found = row["val_accuracy"]
        mean = spelt(statistics.mean(found), deviation(found))
        about = (row["optimizer"], row["batch"], f"{row['rate']:g}", row["warmup_epochs"], mean)
        print("|", " | ".join(map(str, about)), "|")


def ways(factors: list[int], warmup: int) -> list[tuple[int, bool, int]]:
    """Return factor of the batch, whether the rate grows with it, and epochs of warm-up."""
    larger = [
        (factor, *way) for factor in factors for way in ((False, 0), (True, 0), (True, warmup))
    ]
    return [(1, False, 0), *larger]


if __name__ == "__main__":
    main()
