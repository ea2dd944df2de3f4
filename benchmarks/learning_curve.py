"""How well a learning curve predicts the accuracy of more images.

    python benchmarks/learning_curve.py photos/ trashnet/ cifar10:10000

For each set, given by its folder or as name of a dataset and number of images, heads learn more and
more of its images as `convscope data learning-curve` has it. From three sizes on, the accuracy that
these predict for twice as many images is compared with what was measured with those. Prints a
Markdown table, and how far off the line was in the mean.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", nargs="+", metavar="DATA")
    parser.add_argument("--model", default="efficientnet_lite0")
    parser.add_argument("--image-size", type=int, default=128)
    options = parser.parse_args()

    from convscope.evaluation.learning_curve import expected_at
    from convscope.studies.learning_curve import answers_by_size

    print("| set | learnt | predicted for twice as many (95 % interval) | measured |")
    print("|---|---|---|---|")
    misses, inside = [], 0
    for name in options.sets:
        said = answers_by_size(*planned(name, options.model, options.image_size))
        sizes, right = list(said), np.stack([each.right for each in said.values()])
        for known in range(3, len(sizes)):
            groups = said[sizes[known]].groups
            expected = expected_at(sizes[known], sizes[:known], right[:known], groups)
            measured = float(right[known].mean())
            misses.append(100 * (expected.accuracy - measured))
            inside += expected.low <= measured <= expected.high
            print(
                f"| {Path(name).name} | {sizes[known - 1]:,} | {expected.accuracy:.3f} "
                f"({expected.low:.3f} to {expected.high:.3f}) | {measured:.3f} |",
                flush=True,
            )
    print(
        f"\n{statistics.mean(map(abs, misses)):.2f} points off in the mean, "
        f"{statistics.mean(misses):+.2f} on balance; "
        f"{inside} of {len(misses)} within the interval"
    )


def planned(name: str, model: str, image_size: int) -> Any:
    """Return the plan of heads on a set, and where progress is drawn."""
    from convscope.datasets.source import data_settings
    from convscope.planning.data import load_once
    from convscope.planning.settle import Request, settle
    from convscope.progress import console_progress

    data, _, n_images = name.partition(":")
    given = {**data_settings(data, None), "recipe": "logistic", "model": model, "seed": 83}
    given["image_size"] = image_size
    if n_images:
        given["split.images"] = int(n_images)
    progress = console_progress()
    return settle(Request(given), progress, load_once(None, progress)), progress


if __name__ == "__main__":
    main()
