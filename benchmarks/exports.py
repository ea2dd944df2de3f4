"""Exported models beside the trained ones: same answers, and how much faster.

    python benchmarks/exports.py runs/cnn runs/fast --out exports.json

Each run is exported to every format, which compares it with the trained model on its validation
images (`convscope export`). Then a batch of 1 and a batch of 64 validation images are classified in
turn, in one process, for some seconds each:

    predict       Keras' `model.predict`
    call          the model compiled once, `tf.function(model)`
    call-2        the same again: the difference between these two is noise
    onnxruntime   the exported ONNX file, by the base installation
    openvino      the same file in OpenVINO, float32
    openvino-bf16 the same in bfloat16: faster on some CPUs, but other answers
    litert        the LiteRT file
    raw           ONNX Runtime alone, without convscope around it

The figures are medians of milliseconds; images per second are 64 divided by those of a batch of 64.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import convscope
from convscope import backend
from convscope.classifier.keras_model import open_classifier
from convscope.engines.openvino import OpenVinoSession
from convscope.export import FORMATS
from convscope.machine import cpu_name, usable_cores
from convscope.planning.data import load_of_run
from convscope.planning.plan import run_config
from convscope.progress import Progress
from convscope.run import Run

BATCHES = (1, 64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Raw)
    parser.add_argument("runs", nargs="+", help="Run folders.")
    parser.add_argument("--seconds", type=float, default=10, help="Time for each run and batch.")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write.")
    args = parser.parse_args()
    backend.configure("tensorflow")
    content: dict[str, Any] = {"cpu": cpu_name(), "cores": usable_cores()}
    for path in args.runs:
        with tempfile.TemporaryDirectory() as folder:
            content[Path(path).name] = measure(Run.open(path), Path(folder), args.seconds)
        args.out.write_text(json.dumps(content, indent=2))
        report(Path(path).name, content[Path(path).name])


def measure(run: Run, folder: Path, seconds: float) -> dict[str, Any]:
    parity, paths = {}, {}
    for name in FORMATS.names():
        target = folder / f"model{FORMATS.get(name)().suffix}"
        try:
            paths[name], found = convscope.export(run, format=name, out=target, progress=Progress())
        except convscope.ConvscopeError as error:
            parity[name] = {"error": str(error)}
            continue
        parity[name] = {
            "largest_difference": found.largest_difference,
            "agreement": found.agreement,
            "file_agreement": found.file_agreement,
            "n_images": found.n_images,
            "n_files": found.n_files,
            "size_mb": round(found.size_mb, 3),
        }
    config = run_config(run)
    val = load_of_run(config, None, None, None, Progress()).val
    assert val is not None
    images = np.resize(val.images[: max(BATCHES)], (max(BATCHES), *val.images.shape[1:]))
    lanes = lanes_of(run, paths)
    probs = {name: lane(images) for name, lane in lanes.items() if name != "raw"}
    return {
        "parity": parity,
        "same_class_as_call": {
            name: float(np.mean(found.argmax(1) == probs["call"].argmax(1)))
            for name, found in probs.items()
        },
        "ms": {str(n): times(lanes, np.ascontiguousarray(images[:n]), seconds) for n in BATCHES},
    }


def lanes_of(run: Run, paths: dict[str, Path]) -> dict[str, Callable[[Any], Any]]:
    import onnxruntime
    import tensorflow as tf

    model: Any = open_classifier(run).network
    compiled = tf.function(lambda images: model(images, training=False))

    def call(images: Any) -> Any:
        return compiled(tf.constant(images)).numpy()

    onnx = paths["onnx"]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    raw = onnxruntime.InferenceSession(str(onnx), options)
    lanes: dict[str, Callable[[Any], Any]] = {
        "predict": lambda images: model.predict(images, verbose=0),
        "call": call,
        "call-2": call,
        "onnxruntime": convscope.Classifier(onnx).predict_on_batch,
        "openvino": convscope.Classifier(onnx, engine="openvino").predict_on_batch,
        "openvino-bf16": OpenVinoSession(onnx.read_bytes(), precision="bf16").predict_on_batch,
        "raw": lambda images: raw.run(["probs"], {"pixels": images})[0],
    }
    if "litert" in paths:
        lanes["litert"] = FORMATS.get("litert")().open(paths["litert"]).predict_on_batch
    return lanes


def times(lanes: dict[str, Callable[[Any], Any]], images: Any, seconds: float) -> dict[str, float]:
    for lane in lanes.values():
        lane(images)
    found: dict[str, list[float]] = {name: [] for name in lanes}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(found["predict"]) < 3:
        for name, lane in lanes.items():
            start = time.perf_counter()
            lane(images)
            found[name].append(1e3 * (time.perf_counter() - start))
    return {name: round(statistics.median(each), 4) for name, each in found.items()}


def report(name: str, found: dict[str, Any]) -> None:
    print(f"\n{name}")
    for form, parity in found["parity"].items():
        print(f"  {form:12} {parity}")
    print(f"  {'':14}" + "".join(f"{f'batch {n}, ms':>16}{'x predict':>11}" for n in BATCHES))
    for lane in found["ms"]["1"]:
        row = [found["ms"][str(n)][lane] for n in BATCHES]
        base = [found["ms"][str(n)]["predict"] for n in BATCHES]
        cells = (f"{ms:16.3f}{first / ms:11.1f}" for ms, first in zip(row, base, strict=True))
        print(f"  {lane:14}" + "".join(cells))


class _Raw(argparse.RawDescriptionHelpFormatter):
    """The text above, as it is."""


if __name__ == "__main__":
    main()
