"""Facts about this machine: cores, processor, memory."""

import contextlib
import math
import os
import platform
import sys
from collections.abc import Iterable
from pathlib import Path

RUN_MODULE = (sys.executable, "-P", "-m")
"""Beginning of a command that runs a module. With -P a `yaml.py` in the working folder is not taken
for the package of that name."""


def usable_cores() -> int:
    """Return the number of cores that this process can keep busy, at least 1.

    They are the cores that it may run on, or fewer if its container is given less time than they
    have, or if `$LOKY_MAX_CPU_COUNT` (which scikit-learn follows too) says so.
    """
    limits = [visible_cores(), os.cpu_count() or 1]
    granted = _container_cores()
    if granted is not None:
        limits.append(granted)
    with contextlib.suppress(KeyError, ValueError):
        limits.append(int(os.environ["LOKY_MAX_CPU_COUNT"]))
    return max(1, min(limits))


def visible_cores() -> int:
    """Return the number of cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _container_cores() -> int | None:
    """Return the number of cores that a container is given time of, rounded up; None for all.

    References:
        The Linux kernel's "Control Group v2" (cpu.max) and "CFS Bandwidth Control".
    """
    root = Path("/sys/fs/cgroup")
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        # Microseconds of work per period of microseconds: "max" or -1 is no limit.
        with contextlib.suppress(OSError, ValueError):
            texts = [(root / file).read_text(encoding="ascii") for file in files]
            quota, period = map(int, " ".join(texts).split())
            if quota > 0 and period > 0:
                return math.ceil(quota / period)
    return None


def cpu_name() -> str:
    """Return the processor's model, for people and for keys of measurements."""
    if name := _cpuinfo("model name"):
        # Virtual machines hide the model's name; family and model number still identify it.
        return f"{name} (family {_cpuinfo('cpu family')}, model {_cpuinfo('model')})"
    return platform.processor() or platform.machine()


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of those packages that are installed, by name."""
    import importlib.metadata

    found = {}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def module_version(name: str) -> str:
    """Return the version of an installed module, also where its package has another name.

    The module onnxruntime may come from onnxruntime-gpu, for example.
    """
    import importlib.metadata

    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return str(getattr(importlib.import_module(name), "__version__", "unknown"))


AMX, AVX512_BF16 = "AMX", "AVX512-BF16"

_BFLOAT16 = {"amx_bf16": AMX, "avx512_bf16": AVX512_BF16, "bf16": "Arm's BF16"}
"""Units for bfloat16 by what Linux calls them, the quickest first."""


def bfloat16_units() -> str | None:
    """Return the name of the CPU's units for bfloat16: "" without, None if it cannot be seen."""
    flags = (_cpuinfo("flags") or _cpuinfo("Features")).split()
    if not flags:
        return None
    return next((name for flag, name in _BFLOAT16.items() if flag in flags), "")


def has_avx2() -> bool:
    """Return whether the CPU is known to have AVX2, as those of Intel and AMD from 2015 on do."""
    return "avx2" in _cpuinfo("flags").split()


def _cpuinfo(key: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""


def peak_memory_mb() -> float | None:
    """Return the peak memory of this process so far, in megabytes; None if unknown."""
    try:
        # Linux' own count for this program; getrusage starts with the peak of its parent.
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) * 1024 / 1e6, 1)
        import resource
    except (OSError, ImportError):
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6, 1)
