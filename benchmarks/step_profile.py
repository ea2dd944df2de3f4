"""Where the time of a training step goes: each layer forward and backward, beside what is possible.

    python benchmarks/step_profile.py --model fast-medium --precision bfloat16

Measures the largest rate of this machine's matrix products in that precision, then a whole training
step (as `convscope train` compiles it), then each layer by itself, forward and backward. Prints
milliseconds, the share of the step, and for layers that multiply the share of the largest rate.

Times are CPU seconds (user and system, all threads), the least of some repetitions: a machine may
be shared, and then a clock on the wall measures the others too. For the step this is printed too,
with the pages of memory that the system had to map for it, which takes time. Layers that run one by
one read their inputs from memory, those of a whole step may find them in the caches, so the sum of
the layers is not the step; "elsewhere" is what is between: the loss, the optimiser, moving data. On
TensorFlow.
"""

import argparse
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from convscope import backend

backend.configure("tensorflow")  # before anything imports Keras

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from convscope.backend import precision_policy  # noqa: E402
from convscope.models.geometry import geometry  # noqa: E402
from convscope.planning import networks  # noqa: E402
from convscope.recipe import resolve  # noqa: E402
from convscope.recipes import RECIPES  # noqa: E402
from convscope.training.fused import FusedSilu, with_fused_layers  # noqa: E402
from convscope.training.optimizers import build_optimizer  # noqa: E402
from convscope.types import InputSpec  # noqa: E402

_REPETITIONS = 5
_SQUARE = 2048


class Cost(NamedTuple):
    """Least that a piece of work took of each, over some repetitions."""

    cpu_s: float
    wall_s: float
    n_pages: int


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="fast-medium", help="a network that is not pretrained")
    parser.add_argument("--recipe", default="fast", help="whose optimiser and batch size are taken")
    parser.add_argument("--precision", default="bfloat16", choices=("float32", "bfloat16"))
    parser.add_argument("--size", type=int, default=32, help="side of the images in pixels")
    parser.add_argument("--keras-layers", action="store_true", help="without the fused layers")
    parser.add_argument("--out", type=Path, help="where the numbers go, as JSON")
    options = parser.parse_args()

    config = resolve(
        RECIPES.get(options.recipe)(), {"model": options.model, "precision": options.precision}
    )
    spec = InputSpec(options.size, options.size, 3)
    model = networks.build_model(config, spec, 10)
    if not options.keras_layers:
        model = with_fused_layers(model)
    batch = config.batch_size
    peak = matrix_product_rate(options.precision)
    multiply_adds = {row.name: row.multiply_adds for row in geometry(model)}
    # Forward, and backward for the inputs and for the weights.
    step_flop = 3 * 2 * batch * sum(multiply_adds.values())
    whole = cost_of_step(model, config)
    step = whole.cpu_s

    rows: list[dict[str, Any]] = []
    with precision_policy(options.precision):
        for layer in model.layers:
            if isinstance(layer, keras.layers.InputLayer):
                continue
            seconds = layer_seconds(layer, batch)
            flop = 3 * 2 * batch * multiply_adds.get(layer.name, 0)
            rows.append(
                {
                    "layer": layer.name,
                    "ms": 1e3 * seconds,
                    "share_of_step": seconds / step,
                    "share_of_peak": flop / seconds / peak if flop else None,
                }
            )
    elsewhere = step - sum(row["ms"] for row in rows) / 1e3
    found = {
        "model": options.model,
        "precision": options.precision,
        "fused_layers": not options.keras_layers,
        "batch_size": batch,
        "peak_gflop_per_cpu_s": peak / 1e9,
        "step_ms": 1e3 * step,
        "step_wall_ms": 1e3 * whole.wall_s,
        "step_pages": whole.n_pages,
        "step_share_of_peak": step_flop / step / peak,
        "elsewhere_ms": 1e3 * elsewhere,
        "layers": rows,
    }
    print(f"matrix products of {_SQUARE}: {peak / 1e9:.0f} GFLOP a CPU second")
    print(f"{'':16}{'ms':>9}{'of step':>9}{'of peak':>9}")
    for row in rows:
        of_peak = f"{row['share_of_peak']:9.0%}" if row["share_of_peak"] else ""
        print(f"{row['layer']:16}{row['ms']:9.1f}{row['share_of_step']:9.0%}{of_peak}")
    print(f"{'elsewhere':16}{1e3 * elsewhere:9.1f}{elsewhere / step:9.0%}")
    print(
        f"{'step':16}{1e3 * step:9.1f}{1:9.0%}{found['step_share_of_peak']:9.0%}"
        f"   {batch / step:,.0f} images a CPU second"
    )
    print(f"{'by the clock':16}{1e3 * whole.wall_s:9.1f}   {whole.n_pages:,} pages mapped anew")
    if options.out:
        options.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def matrix_product_rate(precision: str) -> float:
    """Return how many operations a CPU second does in products of large matrices."""
    a = tf.cast(tf.random.normal((_SQUARE, _SQUARE)), precision)
    return 2 * _SQUARE**3 / least(tf.function(lambda: tf.matmul(a, a))).cpu_s


def cost_of_step(model: keras.Model, config: Any) -> Cost:
    """Return what a training step takes."""
    model.compile(build_optimizer(config.optimizer), "categorical_crossentropy")
    rng = np.random.default_rng(0)
    shape = (config.batch_size, *model.inputs[0].shape[1:])
    side = model.get_layer("resize").output.shape[1]
    pixels = rng.integers(0, 256, [n or side for n in shape], dtype=np.uint8)
    labels = np.eye(10, dtype=np.float32)[rng.integers(0, 10, config.batch_size)]
    return least(lambda: model.train_on_batch(pixels, labels))


def layer_seconds(layer: Any, batch: int) -> float:
    """Return what a layer takes forward and backward; forward alone where nothing flows back."""
    shape = layer.input.shape
    side = layer.output.shape[1]
    whole = [batch, *(side if n is None else n for n in shape[1:])]
    x = tf.cast(tf.random.uniform(whole), layer.input.dtype)
    before_weights = layer.name in ("resize", "rescale", "whiten")

    @tf.function
    def run() -> Any:
        if before_weights:
            return layer(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True) if _has_training(layer) else layer(x)
        return tape.gradient(y, [x, *(v.value for v in layer.trainable_variables)])

    return least(run).cpu_s


def _has_training(layer: Any) -> bool:
    return isinstance(layer, (keras.layers.BatchNormalization, keras.layers.Dropout, FusedSilu))


def least(work: Callable[[], Any]) -> Cost:
    """Return the least that it cost, once it had been done before."""
    work()
    took = []
    for _ in range(_REPETITIONS):
        before = _now()
        tf.nest.map_structure(lambda each: np.asarray(each).shape, work())
        took.append(np.subtract(_now(), before))
    cpu_s, wall_s, n_pages = np.min(took, axis=0).tolist()
    return Cost(cpu_s, wall_s, int(n_pages))


def _now() -> tuple[float, float, int]:
    n_pages = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    return time.process_time(), time.perf_counter(), n_pages


if __name__ == "__main__":
    main()
