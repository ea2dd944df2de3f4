"""Choice of the engine that is fastest for a model on this machine: measured once, then kept."""

import contextlib
import importlib.util
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from convscope.engines import ENGINES
from convscope.engines.seal import checksum_of
from convscope.errors import FailureError
from convscope.machine import cpu_name, module_version, usable_cores
from convscope.measurements import keep_results, read_results
from convscope.progress import Progress
from convscope.types import FloatArray

AUTO = "auto"
"""Name that stands for the fastest engine."""

REFERENCE = "onnxruntime"

BATCHES = (1, 64)

_SECONDS = 0.5
_WARM_S = 0.003
"""Seconds of a model's turn before a call is timed."""

_SLOW_S = 0.02
"""Seconds of a call from which what came before does not matter."""

_SAME = 1e-3
"""Largest difference of a probability between engines; one that differs more is not chosen."""


def fastest_engine(
    model: bytes, shape: tuple[int, int, int], threads: int | None, progress: Progress
) -> str:
    """Return the name of the installed engine that classifies fastest here.

    Engines are measured in turn at batches of 1 and 64; the lower product of both times wins. The
    answer is kept by model, processor, threads and versions of the engines.

    Args:
        model: Bytes of an exported ONNX file.
        shape: (height, width, channels) of its images.
        threads: Number of threads; None for all cores.
        progress: Called with the result.
    """
    packages = {entry.name: entry.info.get("package") for entry in ENGINES.entries()}
    # One that names no package is not known to be there.
    installed = {
        name: module_version(package)
        for name, package in packages.items()
        if package is not None and _is_there(package)
    }
    if set(installed) == {REFERENCE}:
        return REFERENCE
    versions = ", ".join(f"{name} {version}" for name, version in sorted(installed.items()))
    threads = threads or usable_cores()
    key = f"{checksum_of(model)} on {cpu_name()}, {threads} threads, {versions}"
    known = read_results("engines", str)
    if known.get(key) not in installed:
        times = measure_engines(model, shape, sorted(installed), threads)
        known[key] = min(times, key=lambda name: float(np.prod(times[name])))
        said = "; ".join(
            f"{name} "
            + ", ".join(f"{ms:.3g} ms for {n}" for n, ms in zip(BATCHES, each, strict=True))
            for name, each in times.items()
        )
        progress.say(f"Engine {known[key]}, the fastest here: {said}")
        keep_results("engines", known)
    return known[key]


def _is_there(package: str) -> bool:
    with contextlib.suppress(ModuleNotFoundError):  # that in which a module with a dot lies
        return importlib.util.find_spec(package) is not None
    return False


def measure_engines(
    model: bytes, shape: tuple[int, int, int], names: list[str], threads: int
) -> dict[str, list[float]]:
    """Return median milliseconds at each of `BATCHES`, by engine.

    Engines that cannot load the model, or give other answers than ONNX Runtime, are left out.
    """
    images = np.random.default_rng(0).integers(0, 256, (max(BATCHES), *shape), dtype=np.uint8)
    sessions: dict[str, Any] = {}
    expected: FloatArray = ENGINES.get(REFERENCE)(model, threads).predict_on_batch(images)
    for name in names:
        with contextlib.suppress(FailureError):
            session = ENGINES.get(name)(model, threads)
            if np.abs(session.predict_on_batch(images) - expected).max() <= _SAME:
                sessions[name] = session
    found: dict[str, list[float]] = {name: [] for name in sessions}
    for n in BATCHES:
        calls = {
            name: partial(each.predict_on_batch, images[:n]) for name, each in sessions.items()
        }
        for name, ms in median_ms(calls, _SECONDS * len(calls)).items():
            found[name].append(ms)
    return found


def median_ms(calls: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """Return the median time of each call of a model, in milliseconds, taken in turn.

    Of the calls in a turn of a fast model only the last is timed: the threads of the model before
    go on looking for work for about a millisecond, and the caches hold its weights.

    Args:
        calls: Calls without arguments, by name.
        seconds: Time for all together; each is timed three times at least.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()  # the first call prepares
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or any(len(each) < 3 for each in times.values()):
        for name, call in calls.items():
            turn = time.perf_counter()
            ms, timed = 0.0, False
            while not timed:
                start = time.perf_counter()
                call()
                ms = 1e3 * (time.perf_counter() - start)
                timed = start - turn >= _WARM_S or ms >= 1e3 * _SLOW_S
            times[name].append(ms)
    return {name: statistics.median(each) for name, each in times.items()}
