"""Images per second through frozen backbones, in Keras and by the engine that training takes.

    python benchmarks/frozen_engines.py --rounds 5
    python benchmarks/frozen_engines.py efficientnet_lite0:224 resnet50:224

Each backbone runs on random images, in batches as training takes them, its BatchNorm folded, with
its ImageNet weights if they are at hand. The lanes take turns in one process; "again" is the engine
a second time, so what it differs by is noise. Preparing is timed apart.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from convscope import backend
from convscope.machine import cpu_name

NETWORKS = (
    "mobilenet_v2:160",
    "efficientnet_lite0:96",
    "efficientnet_lite0:224",
    "efficientnet_lite1:240",
    "efficientnet_lite2:320",
    "resnet50:224",
    "vgg16:96",
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="*", default=NETWORKS, metavar="NAME:SIDE")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    backend.configure("tensorflow")
    print(cpu_name())
    for each in given.networks:
        name, _, side = each.partition(":")
        print(measured(name, int(side), given.rounds), flush=True)


def measured(name: str, side: int, rounds: int) -> str:
    """Return a line with the images per second of each lane and their ratio."""
    import keras

    from convscope.classifier.classify import batch_size_for
    from convscope.models.backbones import BACKBONES
    from convscope.models.folding import fold_batch_norm
    from convscope.models.transfer import build_transfer
    from convscope.models.weights import find_weights, weights_at_hand
    from convscope.progress import Progress
    from convscope.recipe import HeadSettings
    from convscope.training.inference import FrozenInference
    from convscope.types import InputSpec

    keras.utils.set_random_seed(83)
    backbone = BACKBONES.get(name)
    weights = None
    if weights_at_hand(backbone) is not None:
        weights = find_weights(backbone, None, Progress())
    spec = InputSpec(side, side, 3, backbone.scaling)
    network = build_transfer(name, spec, 10, HeadSettings(pooling="avg"), weights=weights)
    lower = fold_batch_norm(network.lower())
    size = batch_size_for(side)
    batch = np.random.default_rng(0).integers(0, 256, (size, side, side, 3), dtype=np.uint8)
    engine = FrozenInference(lower, f"{name} {side}", size, Progress())
    lanes: dict[str, Callable[[Any], Any]] = {
        "keras": lower.predict_on_batch,
        "engine": engine,
        "again": engine,
    }
    prepared = {}
    for lane in ("keras", "engine"):
        start = time.perf_counter()
        lanes[lane](batch)
        prepared[lane] = time.perf_counter() - start
    speeds: dict[str, list[float]] = {lane: [] for lane in lanes}
    for _ in range(rounds):
        for lane, run in lanes.items():
            start = time.perf_counter()
            run(batch)
            speeds[lane].append(size / (time.perf_counter() - start))
    middle = {lane: statistics.median(values) for lane, values in speeds.items()}
    gap = np.abs(np.asarray(lanes["keras"](batch)) - engine(batch)).max()
    return (
        f"{name} at {side} px, batches of {size}: "
        + ", ".join(f"{lane} {value:.0f}/s" for lane, value in middle.items())
        + f", ratio {middle['engine'] / middle['keras']:.2f}; prepared in "
        + ", ".join(f"{seconds:.1f} s ({lane})" for lane, seconds in prepared.items())
        + f"; largest difference {gap:.1g}"
    )


if __name__ == "__main__":
    main()
