"""Equal time: what convscope's fast recipe reaches while the tutorial's code trains its CNN.

    python benchmarks/equal_time.py --seeds 83 84 85 86 87

For each seed the tutorial's own Keras code trains (20 epochs of its CNN on 40,000 images, then the
test images once), and then `convscope train --minutes` gets exactly as long, everything that it
does included: measuring the speed, choosing network and epochs, judging, tables and pictures. Each
is a process of its own, timed from when packages and data are loaded. With `--epochs N` the
tutorial's code trains N epochs only and its time is scaled up to 20 by the time of an epoch.

Of the 50,000 training images convscope keeps 1,000 for validation, the tutorial 10,000.

    python benchmarks/equal_time.py --data fashion_mnist --seeds 83 84 85

On other data the tutorial's code would not run: there `--recipe tutorial` gives the time, with so
many `--epochs`, on the same split.

Prints what each reached and took; writes the same to `--out` as JSON.
"""

import argparse
import itertools
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

from _lanes import Clock, deviation, in_a_process, spelt, tutorial_cnn

EPOCHS, BATCH = 20, 128
CIFAR = "cifar10"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[83, 84, 85, 86, 87])
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="that the tutorial trains")
    parser.add_argument("--data", default=CIFAR, help="a dataset that convscope knows")
    parser.add_argument("--out", type=Path, help="where the numbers go, as JSON")
    parser.add_argument("--lane", choices=("tutorial", "fast"), help=argparse.SUPPRESS)
    parser.add_argument("--minutes", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.lane:
        seed = options.seeds[0]
        if options.lane == "fast":
            # On other data both have the same split; here the tutorial's code has its own.
            keep = {"split.val_fraction": 0.02} if options.data == CIFAR else {}
            found = timed(options.data, seed=seed, minutes=options.minutes, settings=keep)
        elif options.data == CIFAR:
            found = tutorial(options.epochs)
        else:
            found = timed(options.data, seed=seed, recipe="tutorial", epochs=options.epochs)
        print(json.dumps(found))
        return

    rounds = []
    for seed in options.seeds:
        about = ("--data", options.data, "--seeds", str(seed), "--epochs", str(options.epochs))
        theirs = in_a_process(__file__, "--lane", "tutorial", *about)
        minutes = theirs["wall_seconds"] / 60
        ours = in_a_process(__file__, "--lane", "fast", *about, "--minutes", str(minutes))
        rounds.append({"seed": seed, "tutorial": theirs, "fast": ours})
        for name, took in (("tutorial", theirs), ("fast", ours)):
            print(f"seed {seed}  {name:<9}{took}", flush=True)
        if options.out:
            options.out.write_text(json.dumps(rounds, indent=2) + "\n")
    for name in ("tutorial", "fast"):
        reached = [each[name]["test_accuracy"] for each in rounds]
        if None not in reached:
            mean = spelt(statistics.mean(reached), deviation(reached))
            print(f"{name:<9} test accuracy {mean}")
    late = [each["fast"]["wall_seconds"] / each["tutorial"]["wall_seconds"] for each in rounds]
    print(f"convscope took {min(late):.2f} to {max(late):.2f} times as long as the tutorial")


def tutorial(epochs: int) -> dict[str, float | None]:
    import convscope
    from convscope.progress import Progress

    os.environ["KERAS_BACKEND"] = "tensorflow"
    dataset = convscope.load("cifar10", progress=Progress())
    import keras

    train, val = dataset.train, dataset.val
    assert val is not None
    assert dataset.test is not None
    x_train = train.images.astype("float32") / 255.0
    x_val = val.images.astype("float32") / 255.0
    test = dataset.test.open(lambda n: None)
    x_test = test.images.astype("float32") / 255.0
    clock = Clock()
    marks = [0.0]
    # No seed: with one, Keras on TensorFlow shows the images in one order in all epochs.
    model = tutorial_cnn()
    model.fit(
        x_train,
        train.labels,
        batch_size=BATCH,
        validation_data=(x_val, val.labels),
        epochs=epochs,
        verbose=0,
        callbacks=[
            keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: marks.append(clock.seconds()[0])
            )
        ],
    )
    _, accuracy = model.evaluate(x_test, test.labels, verbose=0)
    wall, cpu = clock.seconds()
    each = [b - a for a, b in itertools.pairwise(marks)][-max(1, epochs - 1) :]
    return {
        "wall_seconds": wall + (EPOCHS - epochs) * statistics.median(each),
        "cpu_seconds": cpu * EPOCHS / epochs,
        "test_accuracy": accuracy if epochs == EPOCHS else None,
    }


def timed(data: str, **choices: Any) -> dict[str, object]:
    """Return what `convscope.train` reached and took, once packages and data are loaded."""
    import convscope
    from convscope import backend
    from convscope.planning.plan import run_config
    from convscope.progress import console_progress

    convscope.load(data, progress=console_progress())
    backend.configure()  # imports Keras

    with tempfile.TemporaryDirectory() as folder:
        clock = Clock()
        run = convscope.train(data=data, out=Path(folder) / "run", **choices)
        wall, cpu = clock.seconds()
        config = run_config(run)
        return {
            "wall_seconds": wall,
            "cpu_seconds": cpu,
            "test_accuracy": run.metrics["test"]["accuracy"],
            "model": config.model,
            "epochs": config.epochs,
        }


if __name__ == "__main__":
    main()
