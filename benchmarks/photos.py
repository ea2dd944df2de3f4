"""The search for the best classifier of a folder, beside what one would write by hand.

Each way of training gets the same training, validation and test images. The test images are
opened once for each run, at its end; `--hashes` writes the list of them, which a later run checks.

    auto      convscope train --data FOLDER --minutes M
    probe     convscope train --data FOLDER --model efficientnet_lite0 --recipe probe
    finetune  convscope train --data FOLDER --model efficientnet_lite0 --recipe finetune
    logistic  scikit-learn's logistic regression, as it comes, on the pooled features at 224 px of
              the same backbone, of training and validation images
    guide     the way of Keras' guide to transfer learning (keras.io/guides/transfer_learning) at
              224 px with the same backbone: mirrored and turned images, a new head with dropout
              under Adam for two thirds of the time, then the whole network at 1e-5

    python benchmarks/photos.py --data trashnet ucmerced --minutes 3 --out runs/photos
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import convscope
from convscope.evaluation.calibration import expected_calibration_error
from convscope.evaluation.predictions import read_predictions
from convscope.progress import Progress
from convscope.types import Dataset, Split

MODEL = "efficientnet_lite0"
SIDE = 224
METHODS = ("auto", "logistic", "guide", "probe", "finetune")
TIMED = ("auto", "guide")
"""Ways that use the minutes; the others take what they take."""


def by_convscope(method: str, data: str, seed: int, minutes: float, out: Path) -> dict[str, Any]:
    """Train with convscope and return its figures on the test images."""
    options: dict[str, Any] = {"minutes": minutes}
    if method != "auto":
        options = {"model": MODEL, "recipe": method}
    run = convscope.train(data=data, seed=seed, out=out, progress=Progress(), **options)
    said = read_predictions(run.predictions_file)[0]["test"]
    from convscope.classifier.classify import at_temperature
    from convscope.classifier.keras_model import spec_of, which_weights

    temperature = spec_of(run, which_weights(run, None)).temperature
    return figures(at_temperature(said.probs, temperature), said.labels)


def network() -> Any:
    """Return the backbone with its weights, from raw pixels to its last map, and that model."""
    import keras

    from convscope.models.backbones import BACKBONES
    from convscope.models.transfer import build_transfer
    from convscope.models.weights import find_weights
    from convscope.recipe import HeadSettings
    from convscope.types import InputSpec

    backbone = BACKBONES.get(MODEL)
    found = find_weights(backbone, None, Progress())
    spec = InputSpec(SIDE, SIDE, 3, backbone.scaling)
    whole = build_transfer(MODEL, spec, 2, HeadSettings(), weights=found)
    return whole.trunk, keras.Model(whole.whole.input, whole.whole.get_layer("pool").output)


def pixels(part: Split) -> np.ndarray:
    """Return images in colour, (n_images, height, width, 3)."""
    images = np.asarray(part.images[:])
    return images if images.shape[3] == 3 else np.repeat(images, 3, axis=3)


def by_logistic(dataset: Dataset, seed: int) -> np.ndarray:
    """Return the probabilities for the test images."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    whole = Split.joined(dataset.parts_to_learn(refit=True))
    _, lower = network()
    features = lower.predict(pixels(whole), batch_size=32, verbose=0)
    model = make_pipeline(
        StandardScaler(), LogisticRegression(max_iter=1000, random_state=seed)
    ).fit(features, whole.labels)
    test = opened(dataset)
    return complete(
        model.predict_proba(lower.predict(pixels(test), batch_size=32, verbose=0)),
        model.classes_,
        len(dataset.class_names),
    )


def by_guide(dataset: Dataset, seed: int, minutes: float) -> np.ndarray:
    """Return the probabilities for the test images."""
    import keras
    from keras import layers

    began = time.monotonic()
    keras.utils.set_random_seed(seed)
    trunk, _ = network()
    inputs = keras.Input((SIDE, SIDE, 3))
    x = layers.RandomFlip("horizontal")(inputs)
    x = layers.RandomRotation(0.1)(x)
    x = layers.Rescaling(1 / 128, offset=-127 / 128)(x)
    trunk.trainable = False
    x = layers.GlobalAveragePooling2D()(trunk(x, training=False))
    outputs = layers.Dense(len(dataset.class_names), "softmax")(layers.Dropout(0.2)(x))
    model = keras.Model(inputs, outputs)
    resize = layers.Resizing(SIDE, SIDE)
    train, val = (np.asarray(resize(pixels(part))) for part in dataset.parts_to_learn(refit=True))

    class Until(keras.callbacks.Callback):
        def __init__(self, seconds: float) -> None:
            super().__init__()
            self.ends = began + seconds
            self.each = 0.0

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.start = time.monotonic()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.each = time.monotonic() - self.start
            if time.monotonic() + self.each > self.ends:
                self.model.stop_training = True

    loss = "sparse_categorical_crossentropy"
    for rate, share in ((1e-3, 2 / 3), (1e-5, 1.0)):
        model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
        model.fit(
            train,
            dataset.train.labels,
            batch_size=64,
            epochs=1000,
            validation_data=(val, dataset.val.labels),
            callbacks=[Until(60 * minutes * share)],
            verbose=0,
        )
        trunk.trainable = True
    return model.predict(np.asarray(resize(pixels(opened(dataset)))), verbose=0)


def opened(dataset: Dataset) -> Split:
    assert dataset.test is not None
    return dataset.test.open(lambda n_images: None)


def complete(probs: np.ndarray, classes: np.ndarray, n_classes: int) -> np.ndarray:
    """Return probabilities with a column for each class, known to the model or not."""
    found = np.zeros((len(probs), n_classes), np.float32)
    found[:, classes] = probs
    return found


def figures(probs: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    right = probs[np.arange(len(labels)), labels]
    return {
        "accuracy": float((probs.argmax(axis=1) == labels).mean()),
        "loss": float(-np.log(np.maximum(right, 1e-6)).mean()),
        "calibration_error": expected_calibration_error(probs, labels),
        "n_images": len(labels),
    }


def work(method: str, data: str, seed: int, minutes: float, out: Path) -> dict[str, Any]:
    began = time.monotonic()
    if method in ("auto", "probe", "finetune"):
        result = by_convscope(method, data, seed, minutes, out)
    else:
        dataset = convscope.load(data, image_size=SIDE, progress=Progress())
        if method == "logistic":
            probs = by_logistic(dataset, seed)
        else:
            probs = by_guide(dataset, seed, minutes)
        result = figures(probs, opened(dataset).labels)
    return {**result, "seconds": round(time.monotonic() - began, 1)}


def hashes_of(folders: list[str]) -> list[str]:
    """Return a line for each test image: its set and the hash of its file."""
    lines = []
    for folder in folders:
        data = convscope.load(folder, image_size=SIDE, progress=Progress())
        assert data.test is not None
        lines += [f"{Path(folder).name} {each}" for each in sorted(data.test.source_hashes)]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--minutes", nargs="+", type=float, default=[3])
    parser.add_argument("--seeds", nargs="+", type=int, default=[83])
    parser.add_argument("--out", type=Path, default=Path("runs/photos"))
    parser.add_argument("--hashes", type=Path, help="list of the test images, written if absent")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        (method,), (data,), (seed,), (minutes,) = (
            *(given.methods, given.data, given.seeds, given.minutes),
        )
        given.worker.write_text(json.dumps(work(method, data, seed, minutes, given.out)))
        return
    given.out.mkdir(parents=True, exist_ok=True)
    if given.hashes:
        now = hashes_of(given.data)
        if not given.hashes.exists():
            given.hashes.write_text("\n".join(now) + "\n")
        if missing := set(now) - set(given.hashes.read_text().split("\n")):
            sys.exit(f"{len(missing)} test images are not in {given.hashes}")
    print("set method minutes seed accuracy loss calibration_error seconds", flush=True)
    for data in given.data:
        for method in given.methods:
            for minutes in given.minutes if method in TIMED else given.minutes[:1]:
                for seed in given.seeds:
                    timed = f"-{minutes:g}" if method in TIMED else ""
                    name = f"{Path(data).name}-{method}{timed}-{seed}"
                    result = given.out / f"{name}.json"
                    if not result.exists():
                        command = [sys.executable, __file__, "--methods", method, "--data", data]
                        command += ["--minutes", str(minutes), "--seeds", str(seed)]
                        command += ["--out", str(given.out / name), "--worker", str(result)]
                        # Each begins with nothing cached, as somebody's first run does.
                        with tempfile.TemporaryDirectory() as cache:
                            there = {**os.environ, "CONVSCOPE_CACHE": cache}
                            subprocess.run(
                                command, check=True, stderr=subprocess.DEVNULL, env=there
                            )
                    said = json.loads(result.read_text())
                    print(
                        f"{Path(data).name} {method} {minutes:g} {seed} {said['accuracy']:.4f} "
                        f"{said['loss']:.4f} {said['calibration_error']:.4f} {said['seconds']:.0f}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
