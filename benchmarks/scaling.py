"""What work on many images and many machines takes: measured here, then computed for clusters.

    python benchmarks/scaling.py MODEL.onnx PHOTO... --out scaling.json

Measures the CPU seconds (of all threads: the machine may be busy, and then a clock on the wall
measures the others too; least of some repetitions) for an image of

    decoding    a photo as for the exported MODEL, resized to its size
    inference   MODEL on batches of 64, one thread
    packing     the photos into the cache that training reads
    training    a step of a network (--train), as `convscope train` compiles it; 0 epochs are saved

and of decoding and inference while two processes do it at once: whether they slow each other down.
From these and --driver-s, --start-s (`benchmarks/scheduling.py`) a model of cost computes plans
for 10 million and 1 billion images, for a study and for a training of ImageNet's size on GPUs, and
names what is limiting. A simulated cluster checks the model (`_cluster.py`). Rates of GPUs, disks
and links, and prices, are not measured: they are the defaults of options, and "estimated".
"""

import argparse
import concurrent.futures
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from _cluster import Jobs, Training, expected, simulated, simulated_step, step_limits

_BATCH = 64
_BLOCK = 4_096
"""Images of one job of prediction."""
_SEEDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="exported model, .onnx")
    parser.add_argument("photos", type=Path, nargs="+", help="image files")
    parser.add_argument("--train", default="fast-medium", help="network of the training step")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--driver-s", type=float, default=0.015, help="scheduling of a job")
    parser.add_argument("--start-s", type=float, default=5.0, help="start of a run's process")
    parser.add_argument("--disk-gb-s", type=float, default=2.0, help="shared disk, estimated")
    parser.add_argument("--link-gb-s", type=float, default=12.5, help="per GPU, estimated")
    parser.add_argument("--gpu-images-s", type=float, default=2_500, help="per GPU, estimated")
    parser.add_argument("--core-hour", type=float, default=0.04, help="price, estimated")
    parser.add_argument("--gpu-hour", type=float, default=2.5, help="price, estimated")
    parser.add_argument("--out", type=Path, help="where the numbers go, as JSON")
    options = parser.parse_args()
    found = measured(options)
    print("Measured, CPU seconds:")
    for name, value in found.items():
        print(f"  {name:24} {value:,.6g}")
    rows = [*predictions(found, options), study(options), *trainings(options)]
    print(f"\n{'Plan':44}{'hours':>9}{'cost':>9}  {'limit':10}{'simulated':>10}")
    for row in rows:
        print(
            f"{row['plan']:44}{row['hours']:9,.2f}{row['cost']:9,.0f}  {row['limit']:10}"
            f"{row['simulated']:9.0%}"
        )
    if options.out:
        content = {"measured": found, "plans": rows}
        options.out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def measured(options: argparse.Namespace) -> dict[str, float]:
    """Return what takes how long here."""
    alone = two_at_once(options, 1)
    both = two_at_once(options, 2)
    files = [path.stat().st_size for path in options.photos]
    return {
        **alone,
        "both_of_two_processes": both["decode_s"] + both["infer_s"],
        "photo_bytes": statistics.mean(files),
        "pack_s": pack_s(options.photos, options.rounds),
        "train_s": train_s(options.train),
    }


def two_at_once(options: argparse.Namespace, n: int) -> dict[str, float]:
    """Return the mean CPU seconds for an image in `n` processes that work at once."""
    spawn = multiprocessing.get_context("spawn")
    arguments = [(options.model, options.photos, options.rounds)] * n
    with concurrent.futures.ProcessPoolExecutor(n, mp_context=spawn) as pool:
        said = list(pool.map(predict_s, *zip(*arguments, strict=True)))
    return {name: statistics.mean(each[name] for each in said) for name in said[0]}


def predict_s(model: Path, photos: Sequence[Path], rounds: int) -> dict[str, float]:
    import numpy as np

    import convscope

    classifier = convscope.Classifier(model, threads=1, engine="onnxruntime")
    pixels = [classifier.decode(path) for path in photos]
    batch = np.stack([pixels[n % len(pixels)] for n in range(_BATCH)])
    return {
        "decode_s": least(lambda: [classifier.decode(path) for path in photos], rounds)
        / len(photos),
        "infer_s": least(lambda: classifier.predict_on_batch(batch), rounds) / _BATCH,
    }


def pack_s(photos: Sequence[Path], rounds: int) -> float:
    """Return the CPU seconds to pack an image at 224 x 224 pixels, with the look at its file."""
    took = []
    with tempfile.TemporaryDirectory() as name:
        root = Path(name, "images")
        root.mkdir()
        for number, photo in enumerate(photos):
            (root / f"{number}{photo.suffix}").write_bytes(photo.read_bytes())
        for number in range(rounds):
            # Before convscope looks for its cache.
            os.environ["CONVSCOPE_CACHE"] = str(Path(name, f"cache{number}"))
            from pack import pack_folder

            began = time.process_time()
            pack_folder(root, 224)
            took.append(time.process_time() - began)
    return min(took) / len(photos)


def train_s(model: str) -> float:
    """Return the CPU seconds of a training step for an image of 32 x 32 pixels, bfloat16."""
    from step_profile import cost_of_step

    from convscope.planning.networks import build_model
    from convscope.recipe import resolve
    from convscope.recipes import RECIPES
    from convscope.training.fused import with_fused_layers
    from convscope.types import InputSpec

    config = resolve(RECIPES.get("fast")(), {"model": model, "precision": "bfloat16"})
    network = with_fused_layers(build_model(config, InputSpec(32, 32, 3), 10))
    return cost_of_step(network, config).cpu_s / config.batch_size


def least(work: Callable[[], Any], rounds: int) -> float:
    """Return the fewest CPU seconds that it took, once it had been done before."""
    work()
    took = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        took.append(time.process_time() - began)
    return min(took)


def predictions(found: dict[str, float], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the plans for the prediction of very many images."""
    rows = []
    for n_images, cores in ((10**7, 16), (10**7, 64), (10**9, 640), (10**9, 6_400)):
        jobs = Jobs(
            n_images // _BLOCK,
            _BLOCK * found["both_of_two_processes"],
            schedule_s=options.driver_s,
            n_bytes=_BLOCK * found["photo_bytes"],
        )
        plan = f"predict {n_images:.0e} images, {cores:,} cores"
        rows.append(of_jobs(plan, jobs, cores, options))
    return rows


def study(options: argparse.Namespace) -> dict[str, Any]:
    """Return the plan of a study: 200 runs of 10 minutes on 8 cores each."""
    jobs = Jobs(200, 600, 8, options.start_s, options.driver_s)
    return of_jobs("200 runs of 10 min on 8 cores, 256 cores", jobs, 256, options)


def of_jobs(plan: str, jobs: Jobs, cores: int, options: argparse.Namespace) -> dict[str, Any]:
    disk = 1e9 * options.disk_gb_s
    seconds, limit = expected(jobs, cores, disk)
    played = statistics.mean(
        simulated(jobs, cores, disk, spread=0.2, lost=0.01, seed=seed) for seed in range(_SEEDS)
    )
    return {
        "plan": plan,
        "hours": seconds / 3600,
        "cost": seconds / 3600 * cores * options.core_hour,
        "limit": limit,
        "simulated": played / seconds,
    }


def trainings(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the plans of a training of ImageNet's size: ResNet-50, 90 epochs, packed at 224."""
    work = Training(90 * 1_281_167, 128, options.gpu_images_s, 25_600_000, 224 * 224 * 3)
    rows = []
    for devices in (8, 16, 64):
        for held, gb_s in (("memory", 20.0), ("shared disk", options.disk_gb_s / devices)):
            place = (devices, 1e9 * options.link_gb_s, 1e9 * gb_s)
            limits = step_limits(work, *place, 0.03)
            limit = max(limits, key=lambda name: limits[name])
            played = simulated_step(work, *place, spread=0.03, seed=0)
            hours = work.n_images / (work.batch * devices) * limits[limit] / 3600
            rows.append(
                {
                    "plan": f"ImageNet, {devices} GPUs, images from {held}",
                    "hours": hours,
                    "cost": hours * devices * options.gpu_hour,
                    "limit": limit,
                    "simulated": played / limits[limit],
                }
            )
    return rows


if __name__ == "__main__":
    main()
