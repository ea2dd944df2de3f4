"""Compare a frozen backbone trained by way of the feature cache with plain `model.fit`.

    python benchmarks/feature_cache.py --rounds 1 --out feature_cache.json

MobileNetV2 at 96 px with its own scaling, frozen, under the tutorial's 128-64-10 head on averaged
features; CIFAR-10, 40,000 + 10,000 images, 20 epochs of Adam at batch 128, then the 10,000 test
images once. Lanes:

    plain     Keras alone: every epoch runs the backbone on every image
    cached    convscope train, from an empty feature cache, with everything else that it does:
              choosing nothing, saving models, tables, pictures, judging on validation and test

Each lane is a process of its own; in each round both run, one after the other, in random order.
The time of a lane is that of its whole process less the import of its packages and the loading of
the data. Times are given as wall and as CPU seconds (user and system, all threads): a virtual
machine may get its processors only part of the time, CPU seconds say how much work it was. With
`--epochs N` the plain lane trains N epochs only and is scaled up to 20 by the time of an epoch.
"""

import argparse
import itertools
import json
import os
import random
import statistics
import tempfile
from pathlib import Path

from _lanes import Clock, in_a_process

SIZE, EPOCHS, BATCH, SEED = 96, 20, 128, 83


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="that the plain lane trains")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the lanes")
    parser.add_argument("--out", type=Path, help="where the numbers go, as JSON")
    parser.add_argument("--lane", choices=("plain", "cached"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.lane:
        found = plain(options.epochs) if options.lane == "plain" else cached()
        print(json.dumps(found))
        return

    chance = random.Random(options.seed)
    rounds: list[dict[str, dict[str, float]]] = []
    for number in range(options.rounds):
        lanes = ["plain", "cached"]
        chance.shuffle(lanes)
        took = {}
        for lane in lanes:
            arguments = ("--lane", lane, "--epochs", str(options.epochs))
            took[lane] = in_a_process(__file__, *arguments)
            print(f"round {number + 1}  {lane:<7} {took[lane]}", flush=True)
        rounds.append(took)
    for unit in ("cpu_seconds", "wall_seconds"):
        ratios = [took["plain"][unit] / took["cached"][unit] for took in rounds]
        spread = f" ({min(ratios):.1f} to {max(ratios):.1f})" if len(ratios) > 1 else ""
        print(f"cached is {statistics.median(ratios):.1f}{spread} times as fast by {unit}")
    if options.out:
        options.out.write_text(json.dumps(rounds, indent=2) + "\n")


def plain(epochs: int) -> dict[str, float]:
    import convscope
    from convscope.models.backbones import BACKBONES
    from convscope.models.weights import find_weights
    from convscope.progress import Progress

    os.environ["KERAS_BACKEND"] = "tensorflow"
    dataset = convscope.load("cifar10", progress=Progress())
    weights = find_weights(BACKBONES.get("mobilenet_v2"), None, Progress()).path
    import keras
    from keras import layers

    train, val = dataset.train, dataset.val
    assert val is not None
    assert dataset.test is not None
    test = dataset.test.open(lambda n: None)
    clock = Clock()
    # No seed: with one, Keras on TensorFlow shows the images in one order in all epochs, which
    # costs a point of the accuracy that is compared here.
    backbone = keras.applications.MobileNetV2(
        weights=weights, include_top=False, input_shape=(SIZE, SIZE, 3), pooling="avg"
    )
    backbone.trainable = False
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Resizing(SIZE, SIZE),
            layers.Rescaling(1 / 127.5, -1),
            backbone,
            layers.Dense(128, activation="relu"),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    marks = [clock.seconds()]
    model.fit(
        train.images,
        train.labels,
        batch_size=BATCH,
        validation_data=(val.images, val.labels),
        epochs=epochs,
        verbose=0,
        callbacks=[
            keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: marks.append(clock.seconds())
            )
        ],
    )
    _, accuracy = model.evaluate(test.images, test.labels, verbose=0)
    wall, cpu = clock.seconds()
    each = [
        statistics.median(b[i] - a[i] for a, b in itertools.pairwise(marks[1:]))
        if epochs > 2
        else marks[-1][i] / epochs
        for i in (0, 1)
    ]
    return {
        "wall_seconds": wall + (EPOCHS - epochs) * each[0],
        "cpu_seconds": cpu + (EPOCHS - epochs) * each[1],
        "test_accuracy": accuracy,
        "epochs_trained": epochs,
    }


def cached() -> dict[str, float]:
    import convscope
    from convscope import backend
    from convscope.progress import Progress
    from convscope.storage import cache_dir

    backend.configure()  # imports Keras

    dataset_cache = cache_dir()
    convscope.load("cifar10", progress=Progress())
    with tempfile.TemporaryDirectory() as folder:
        # The data is at hand, features are not.
        (Path(folder) / "cache").mkdir()
        (Path(folder) / "cache" / "datasets").symlink_to(dataset_cache / "datasets")
        os.environ["CONVSCOPE_CACHE"] = str(Path(folder) / "cache")
        clock = Clock()
        run = convscope.train(
            "mobilenet_v2",
            recipe="tutorial-transfer",
            seed=SEED,
            epochs=EPOCHS,
            batch_size=BATCH,
            image_size=SIZE,
            settings={"backbone.scaling": "own", "head.pooling": "avg"},
            out=Path(folder) / "run",
            progress=Progress(),
        )
        wall, cpu = clock.seconds()
        return {
            "wall_seconds": wall,
            "cpu_seconds": cpu,
            "test_accuracy": run.metrics["test"]["accuracy"],
            "epochs_trained": EPOCHS,
        }


if __name__ == "__main__":
    main()
