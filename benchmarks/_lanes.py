"""What benchmarks with lanes share: a process for each, its clock, and the tutorial's own code."""

import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def in_a_process(script: str, *arguments: str) -> dict[str, Any]:
    """Run a script and return the JSON object in the last line that it prints."""
    command = [sys.executable, script, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


class Clock:
    """Wall and CPU seconds since it was made."""

    def __init__(self) -> None:
        self._start = (time.perf_counter(), self._cpu())

    def seconds(self) -> tuple[float, float]:
        """Return (wall, CPU)."""
        return time.perf_counter() - self._start[0], self._cpu() - self._start[1]

    @staticmethod
    def _cpu() -> float:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime


def anonymous_mib() -> float:
    """Return this process's own memory: without files that it has mapped."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def tutorial_cnn() -> Any:
    """Return the tutorial's CNN as it builds and compiles it in Keras."""
    import keras
    from keras.layers import Conv2D, Dense, Flatten, MaxPooling2D

    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            Conv2D(32, (3, 3), padding="same", activation="relu"),
            MaxPooling2D(2, 2),
            Conv2D(64, (3, 3), padding="same", activation="relu"),
            MaxPooling2D(2, 2),
            Conv2D(64, (3, 3), padding="same", activation="relu"),
            Flatten(),
            Dense(128, activation="relu"),
            Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def torch_cnn() -> Any:
    """Return the same network as one would write it in plain PyTorch, giving logits."""
    import torch
    from torch import nn

    def conv(n_inputs: int, n_outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(n_inputs, n_outputs, 3, padding="same"), nn.ReLU()]

    return nn.Sequential(
        *(*conv(3, 32), nn.MaxPool2d(2), *conv(32, 64), nn.MaxPool2d(2), *conv(64, 64)),
        *(nn.Flatten(), nn.Linear(4096, 128), nn.ReLU(), nn.Linear(128, 10)),
    ).to(memory_format=torch.channels_last)


def deviation(values: list[float]) -> float | None:
    """Return the standard deviation; None of a single value."""
    return statistics.stdev(values) if len(values) > 1 else None


def spelt(mean: float, sd: float | None, form: str = ".4f") -> str:
    """Return a mean and its spread, if there is one: "0.9232 ± 0.0012"."""
    return f"{mean:{form}}" + ("" if sd is None else f" ± {sd:.4f}")
