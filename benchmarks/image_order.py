"""What it costs to show the images of every epoch in the same order.

    python benchmarks/image_order.py

A head of 128-64-10 on the averaged features of MobileNetV2 at 96 px, frozen; CIFAR-10, 40,000
training images, 20 epochs of Adam at batch 128, test images at the end of each run. The features
are computed once, by Keras alone. Ways to train the head:

    seeded     model.fit on arrays after keras.utils.set_random_seed: on TensorFlow, Keras then
               repeats one order of the images in every epoch
    unseeded   model.fit on arrays: a new order in each epoch
    batches    model.fit on convscope's batches, without a seed: a new order in each epoch
    convscope  the same with a seed: a new order in each epoch

Prints test accuracy of each run, mean and standard deviation.
"""

import argparse
import os
import secrets
import statistics
from typing import Any

from _lanes import deviation, spelt

SIZE, EPOCHS, BATCH = 96, 20, 128
WAYS = ("unseeded", "batches", "seeded", "convscope")
SEEDED = ("seeded", "convscope")
"""Without a seed first: a process that was given one keeps it."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[83, 84, 85, 86, 87, 88])
    options = parser.parse_args()
    os.environ["KERAS_BACKEND"] = "tensorflow"

    import convscope
    from convscope.progress import console_progress

    dataset = convscope.load("cifar10", progress=console_progress())
    assert dataset.test is not None
    train, test = dataset.train, dataset.test.open(lambda n: None)
    learnt_from, judged_by = features(train.images), features(test.images)
    reached: dict[str, list[float]] = {way: [] for way in WAYS}
    for way in WAYS:
        for seed in options.seeds:
            head = trained_head(way, seed, learnt_from, train.labels)
            _, accuracy = head.evaluate(judged_by, test.labels, verbose=0)
            reached[way].append(accuracy)
            print(f"{way:<9} {seed if way in SEEDED else ''}  {accuracy:.4f}", flush=True)
    for way, values in reached.items():
        print(f"{way:<9} {spelt(statistics.mean(values), deviation(values))}, {len(values)} runs")


def features(images: Any) -> Any:
    import keras
    from keras import layers

    from convscope.models.backbones import BACKBONES
    from convscope.models.weights import find_weights
    from convscope.progress import Progress

    weights = find_weights(BACKBONES.get("mobilenet_v2"), None, Progress()).path
    backbone = keras.applications.MobileNetV2(
        weights=weights, include_top=False, input_shape=(SIZE, SIZE, 3), pooling="avg"
    )
    scaled = [layers.Resizing(SIZE, SIZE), layers.Rescaling(1 / 127.5, -1)]
    network = keras.Sequential([keras.Input((32, 32, 3)), *scaled, backbone])
    return network.predict(images, batch_size=BATCH, verbose=0)


def trained_head(way: str, seed: int, inputs: Any, labels: Any) -> Any:
    import keras
    from keras.layers import Dense

    from convscope.training.batches import Batches, epoch_order
    from convscope.training.objective import build_state
    from convscope.training.passes import steps_on_one_device, train_epoch

    if way in SEEDED:
        keras.utils.set_random_seed(seed)
    else:
        seed = secrets.randbits(32)
    head = keras.Sequential(
        [
            keras.Input(inputs.shape[1:]),
            Dense(128, activation="relu"),
            Dense(64, activation="relu"),
            Dense(10, activation="softmax"),
        ]
    )
    head.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    if way in ("batches", "convscope"):
        build_state(head, 10, flags=False)
        steps = steps_on_one_device(head)
        for epoch in range(EPOCHS):
            order = epoch_order(len(labels), seed, epoch)
            train_epoch(steps, Batches(inputs, labels, BATCH, order))
    else:
        head.fit(inputs, labels, batch_size=BATCH, epochs=EPOCHS, verbose=0)
    return head


if __name__ == "__main__":
    main()
