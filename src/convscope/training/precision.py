"""Choice of the precision that trains faster here: measured once per machine, then remembered.

bfloat16 halves the time of an epoch on a CPU with units for it and can cost tenfold without, so it
is neither assumed nor ruled out.
"""

import statistics
import time
from typing import Any

from convscope import backend
from convscope.machine import bfloat16_units
from convscope.measurements import keep_results, read_results
from convscope.progress import Progress

_BATCH = 128
_ROUNDS = 5
_STEPS = 3
_WORTH_IT = 1.1
"""bfloat16 rounds more coarsely, so it has to win by more than noise."""


def choose_precision(progress: Progress) -> str:
    """Return "bfloat16" if it trains clearly faster than "float32" on this machine.

    The answer is cached by processor, backend and its version. Keras must be configured.
    """
    units = bfloat16_units() if accelerator() is None else None
    if units == "":
        return "float32"
    key = machine()
    answers = read_results("precision", float)
    if key not in answers:
        with progress.task("Measuring which precision is faster here", _ROUNDS, "rounds") as step:
            answers[key] = measure_speedup(step)
        keep_results("precision", answers)
    speedup = answers[key]
    chosen = "bfloat16" if speedup >= _WORTH_IT else "float32"
    by = f", by {units}" if units else ""
    progress.say(
        f"Precision {chosen}: bfloat16 trains {speedup:.2f} times as fast as float32 here{by}"
    )
    return chosen


def measure_speedup(step: Any = lambda n, note="": None) -> float:
    """Return how many times as fast a small CNN trains in bfloat16 as in float32.

    The median over rounds of the ratio of two consecutive times, so that a drift in the speed of
    the machine does not decide it.
    """
    import keras
    import numpy as np

    rng = np.random.default_rng(0)
    images = rng.random((_BATCH, 32, 32, 3), dtype=np.float32)
    labels = rng.integers(0, 10, _BATCH)

    models = {policy: _probe(policy) for policy in ("float32", "mixed_bfloat16")}

    def seconds(policy: str) -> float:
        start = time.perf_counter()
        for _ in range(_STEPS):
            models[policy].train_on_batch(images, labels)
        return time.perf_counter() - start

    for policy in models:
        models[policy].train_on_batch(images, labels)  # compiles
    ratios = []
    for _ in range(_ROUNDS):
        ratios.append(seconds("float32") / seconds("mixed_bfloat16"))
        step(1, f"{ratios[-1]:.2f} times as fast in bfloat16")
    # Leaves no trace in the names of later layers.
    keras.utils.clear_session()
    return statistics.median(ratios)


def _probe(policy: str) -> Any:
    import keras
    from keras import layers

    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(32, 3, padding="same", activation="relu", dtype=policy),
            layers.MaxPooling2D(2, dtype=policy),
            layers.Conv2D(64, 3, padding="same", activation="relu", dtype=policy),
            layers.MaxPooling2D(2, dtype=policy),
            layers.Conv2D(64, 3, padding="same", activation="relu", dtype=policy),
            layers.Flatten(dtype=policy),
            layers.Dense(128, activation="relu", dtype=policy),
            layers.Dense(10, activation="softmax", dtype="float32"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def machine() -> str:
    """Return the hardware and software that compute: others round differently."""
    facts = backend.environment(_backend_name())
    packages = facts["packages"]
    assert isinstance(packages, dict)
    name = str(facts["backend"])
    version = packages.get(name) or packages.get(f"{name}-cpu")
    place = accelerator() or facts["cpu"]
    return f"{place}, {facts['cpu_cores']} cores, {name} {version}"


def _backend_name() -> str:
    import keras

    return str(keras.config.backend())


def accelerator() -> str | None:
    """Return the model of the accelerator, such as "NVIDIA L4"; None on a CPU.

    Keras must be configured.
    """
    name = _backend_name()
    if name == "jax":
        import jax

        return None if jax.default_backend() == "cpu" else str(jax.devices()[0].device_kind)
    if name == "torch":
        import torch

        return torch.cuda.get_device_name() if torch.cuda.is_available() else None
    import tensorflow as tf

    devices = tf.config.list_physical_devices("GPU")
    if not devices:
        return None
    details = tf.config.experimental.get_device_details(devices[0])
    return str(details.get("device_name", "GPU"))
