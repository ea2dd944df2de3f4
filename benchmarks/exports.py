"""Exported models beside the trained ones: same answers, and how much faster.

    python benchmarks/exports.py parity runs/cnn runs/lite0 --work exports --photos photos/
    python benchmarks/exports.py speed runs/cnn runs/lite0 --work exports     # a quiet machine
    python benchmarks/exports.py table --work exports

`parity` exports each run to each format (`convscope export`, with its own check on up to 2,000
validation images and 200 files), and then lets trained and exported model classify the same arrays
of pixels: the test images of a published data set; of a run on a folder all images below it, or
below --photos. `speed` classifies a batch of 1 and of 64 of these images in turn, in one process:

    predict       Keras' `model.predict`, over the views that the exported model averages
    call          the same with the model compiled once, `tf.function(model)`
    call-2        the same again: the difference between these two is noise
    FORMAT        the exported model in its own engine; openvino-bf16 in bfloat16: other answers

and then each engine by itself (raw), with probabilities and with answers from convscope, which may
take 5 % or 0.05 ms more. Times are medians of milliseconds (`engines.choice.median_ms`). Both write
into --work/results.json, from which `table` prints Markdown.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

import convscope
from convscope import backend
from convscope.classifier import classify
from convscope.classifier.keras_model import open_classifier
from convscope.engines.choice import median_ms
from convscope.engines.openvino import OpenVinoSession
from convscope.export import FORMATS, parity
from convscope.images.find import find_images
from convscope.machine import cpu_name, usable_cores
from convscope.planning.data import load_of_run
from convscope.planning.plan import run_config
from convscope.progress import Progress
from convscope.run import Run
from convscope.types import UInt8Array, UnreadableImage

BATCHES = (1, 64)
KINDS = ("onnx", "openvino", "litert", "savedmodel")
MORE_SHARE, MORE_MS = 0.05, 0.05
"""What convscope may take more than the raw engine: the larger of both."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Raw)
    parser.add_argument("part", choices=("parity", "speed", "table"))
    parser.add_argument("runs", nargs="*", type=Path, help="Run folders.")
    parser.add_argument("--work", type=Path, required=True, help="Folder of exports and results.")
    parser.add_argument("--photos", type=Path, help="Folder of images for runs on folders.")
    parser.add_argument("--every", type=int, default=1, help="Take each N-th image only.")
    parser.add_argument("--formats", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--seconds", type=float, default=20, help="Time for each run and batch.")
    args = parser.parse_args()
    file = args.work / "results.json"
    content: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    if args.part == "table":
        print("\n".join([*parity_table(content), "", *speed_table(content)]))
        return
    backend.configure("tensorflow")
    content |= {"cpu": cpu_name(), "cores": usable_cores()}
    for path in args.runs:
        run, place = Run.open(path), args.work / path.name
        found = content.setdefault("runs", {}).setdefault(path.name, {})
        images = images_of(run, args.photos, args.every)
        if args.part == "parity":
            paths = export_all(run, place, args.formats, found.setdefault("exports", {}))
            found["parity"] = found.get("parity", {}) | compare(run, paths, images)
        else:
            found["ms"], found["overhead"] = speed(run, place, next(images), args.seconds)
        file.write_text(json.dumps(content, indent=2) + "\n")
        print(json.dumps({path.name: found}, indent=1), flush=True)


def export_all(run: Run, place: Path, formats: list[str], facts: dict[str, Any]) -> dict[str, Path]:
    """Export a run to formats, and return the path of each; their own checks go to `facts`."""
    parity._SECONDS = 0.0  # its timing
    paths = {}
    for name in formats:
        target = place / f"model{FORMATS.get(name)().suffix}"
        paths[name] = target
        if target.exists() and name in facts:
            continue
        try:
            _, found = convscope.export(run, format=name, out=target, progress=Progress())
        except convscope.ConvscopeError as error:
            facts[name] = {"error": str(error)}
            continue
        kept = ("n_images", "largest_difference", "agreement", "n_files", "file_agreement")
        facts[name] = {key: getattr(found, key) for key in kept}
        facts[name]["size_mb"] = round(found.size_mb, 3)
    return {name: path for name, path in paths.items() if path.exists()}


def images_of(run: Run, photos: Path | None, every: int) -> Iterator[UInt8Array]:
    """Yield batches of images of a run's size, shape (at most 64, height, width, channels)."""
    config, most = run_config(run), max(BATCHES)
    if config.data_path is None:
        test = load_of_run(config, run.split_file, None, None, None, Progress()).test
        assert test is not None
        pixels = test.open(lambda n: None).images[::every]  # no label is looked at
        yield from (pixels[first : first + most] for first in range(0, len(pixels), most))
        return
    files = list(find_images([photos or Path(config.data_path)]))[::every]
    for batch in open_classifier(run).read(files, most):
        read = [pixels for _, pixels in batch if not isinstance(pixels, UnreadableImage)]
        if read:
            yield np.stack(read)


def compare(run: Run, paths: dict[str, Path], images: Iterator[UInt8Array]) -> dict[str, Any]:
    """Return by format how the exported model's answers differ from the trained one's."""
    trained = open_classifier(run)
    models = {name: FORMATS.get(name)().open(path) for name, path in paths.items()}
    largest, same, n_images = dict.fromkeys(models, 0.0), dict.fromkeys(models, 0), 0
    for batch in images:
        expected = trained.predict_on_batch(batch)
        n_images += len(batch)
        for name, model in models.items():
            probs = model.predict_on_batch(batch)
            largest[name] = max(largest[name], float(np.abs(probs - expected).max()))
            same[name] += int((probs.argmax(1) == expected.argmax(1)).sum())
    return {
        name: {"n_images": n_images, "n_same": same[name], "largest_difference": largest[name]}
        for name in models
    }


def speed(
    run: Run, place: Path, images: UInt8Array, seconds: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return times by size of the batch, of all lanes in turn and of each engine by itself."""
    images = np.resize(images, (max(BATCHES), *images.shape[1:]))
    batches = {str(n): np.ascontiguousarray(images[:n]) for n in BATCHES}
    lanes = lanes_of(run, place)
    times = {n: _times(lanes, batch, seconds) for n, batch in batches.items()}
    over: dict[str, Any] = {}
    for name, (session, model) in engines_of(place).items():
        own = {
            "raw": _lane(session),
            "probs": model,
            "answers": _lane(lambda batch, model=model: list(model.predict(batch))),
        }
        over[name] = {n: _times(own, each, seconds) for n, each in batches.items()}
    return times, over


def lanes_of(run: Run, place: Path) -> dict[str, Any]:
    """Return what is compared, objects with `predict_on_batch`, by name."""
    import tensorflow as tf

    trained = open_classifier(run)
    model: Any = trained.network
    compiled = tf.function(lambda images: model(images, training=False))

    def call(images: Any) -> Any:
        return compiled(tf.constant(images)).numpy()

    def keras(function: Callable[[Any], Any]) -> Any:
        return classify.Classifier(_lane(function), trained.spec)

    lanes = {
        "predict": keras(lambda images: model.predict(images, verbose=0)),
        "call": keras(call),
        "call-2": keras(call),
    }
    for name in KINDS:
        path = place / f"model{FORMATS.get(name)().suffix}"
        if path.exists():
            lanes[name] = FORMATS.get(name)().open(path)
    onnx = (place / "model.onnx").read_bytes()
    return {**lanes, "openvino-bf16": OpenVinoSession(onnx, precision="bf16")}


def engines_of(place: Path) -> dict[str, Any]:
    """Return for each engine a function that runs it alone, and convscope's classifier on it."""
    import onnxruntime
    import openvino

    onnx = place / "model.onnx"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    session = onnxruntime.InferenceSession(str(onnx), options)
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": usable_cores()}
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(onnx), "CPU", settings)
    request = compiled.create_infer_request()
    return {
        "onnxruntime": (
            lambda images: session.run(["probs"], {"pixels": images})[0],
            convscope.Classifier(onnx),
        ),
        "openvino": (
            lambda images: request.infer({"pixels": images})["probs"],
            convscope.Classifier(onnx, engine="openvino"),
        ),
    }


def _lane(function: Callable[[Any], Any]) -> Any:
    return SimpleNamespace(predict_on_batch=function)


def _times(lanes: dict[str, Any], images: UInt8Array, seconds: float) -> dict[str, float]:
    calls = {name: partial(lane.predict_on_batch, images) for name, lane in lanes.items()}
    return {name: round(ms, 4) for name, ms in median_ms(calls, seconds).items()}


def parity_table(content: dict[str, Any]) -> Iterator[str]:
    """Yield Markdown: for each run the differences, equal answers and sizes of its formats."""
    yield "| | images | largest difference: " + " | ".join(KINDS) + " | other class | MB |"
    yield "|---" * (len(KINDS) + 4) + "|"
    for name, found in content.get("runs", {}).items():
        each = found.get("parity", {})
        if not each:
            continue
        n_images = next(iter(each.values()))["n_images"]
        gaps = [f"{each[kind]['largest_difference']:.1e}" if kind in each else "" for kind in KINDS]
        others = [str(n_images - each[kind]["n_same"]) if kind in each else "-" for kind in KINDS]
        sizes = [f"{found['exports'][kind]['size_mb']:.3g}" for kind in each]
        cells = [name, f"{n_images:,}", *gaps, ", ".join(others), ", ".join(sizes)]
        yield "| " + " | ".join(cells) + " |"


def speed_table(content: dict[str, Any]) -> Iterator[str]:
    """Yield Markdown: milliseconds for one image, images per second in batches, and the overhead.

    In brackets how many times as fast as `predict` for one image, as `call` in batches.
    """
    one, many = map(str, BATCHES)
    lanes = ("predict", "call", "call-2", *KINDS, "openvino-bf16")
    for n, base in ((one, "predict"), (many, "call")):
        unit = "ms for 1" if n == one else f"images/s by {n}"
        yield f"| {unit} | " + " | ".join(lanes) + " |"
        yield "|---" * (len(lanes) + 1) + "|"
        for name, found in content.get("runs", {}).items():
            ms = found.get("ms", {}).get(n)
            if ms is None:
                continue
            cells = []
            for lane in lanes:
                if lane not in ms:
                    cells.append("")
                    continue
                value = ms[lane] if n == one else 1e3 * int(n) / ms[lane]
                cells.append(f"{value:.3g} ({ms[base] / ms[lane]:.1f})")
            yield f"| {name} | " + " | ".join(cells) + " |"
        yield ""
    yield (
        "| engine alone, ms: raw, probabilities, answers | " + " | ".join(map(str, BATCHES)) + " |"
    )
    yield "|---" * (len(BATCHES) + 1) + "|"
    for name, found in content.get("runs", {}).items():
        for engine, by_size in found.get("overhead", {}).items():
            cells = []
            for each in by_size.values():
                allowed = max(MORE_SHARE * each["raw"], MORE_MS)
                late = [lane for lane, ms in each.items() if ms - each["raw"] > allowed]
                said = ", ".join(f"{ms:.4g}" for ms in each.values())
                cells.append(said + (f" (too much: {', '.join(late)})" if late else ""))
            yield f"| {name}, {engine} | " + " | ".join(cells) + " |"


class _Raw(argparse.RawDescriptionHelpFormatter):
    """The text above, as it is."""


if __name__ == "__main__":
    main()
