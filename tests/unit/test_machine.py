"""Facts about the machine, as the kernel and a container state them."""

import os
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from convscope import machine

CPUINFO = """processor : 0
cpu family : 6
model : 143
model name : Some CPU @ 2.00GHz
flags : fpu {flags} sse

"""


@pytest.fixture
def cpuinfo(monkeypatch):
    def pretend(text):
        real = Path.read_text

        def read_text(self, *args, **kwargs):
            if str(self) != "/proc/cpuinfo":
                return real(self, *args, **kwargs)
            if text is None:
                raise FileNotFoundError
            return text

        monkeypatch.setattr(Path, "read_text", read_text)

    return pretend


@pytest.fixture
def cgroup(tmp_path, monkeypatch):
    """Return a function that lets the kernel's files of a container's limits be others."""
    real = Path.read_text

    def pretend(**files):
        def read_text(self, *args, **kwargs):
            if self.is_relative_to("/sys/fs/cgroup"):
                if self.name not in files:
                    raise FileNotFoundError(self)
                return files[self.name]
            return real(self, *args, **kwargs)

        monkeypatch.setattr(Path, "read_text", read_text)

    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    if hasattr(os, "sched_getaffinity"):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)))
    else:
        monkeypatch.setattr(os, "cpu_count", lambda: 6)
    monkeypatch.delenv("LOKY_MAX_CPU_COUNT", raising=False)
    return pretend


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 6),
        ({"cpu.max": "max 100000\n"}, 6),
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "5000 100000\n"}, 1),
        ({"cpu.max": "1600000 100000\n"}, 6),
        ({"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"}, 6),
        ({"cpu.cfs_quota_us": "300000\n", "cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu.cfs_quota_us": "300000\n"}, 6),
        ({"cpu.max": "something new\n"}, 6),
    ],
)
def test_a_container_has_no_more_cores_than_it_is_given_time_of(cgroup, files, cores):
    cgroup(**files)
    assert machine.usable_cores() == cores


@pytest.mark.parametrize(("said", "cores"), [("1", 1), ("4", 4), ("99", 6), ("0", 1), ("two", 6)])
def test_the_user_may_ask_for_fewer_cores(cgroup, monkeypatch, said, cores):
    cgroup()
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", said)
    assert machine.usable_cores() == cores


def test_scikit_learn_counts_the_same_cores():
    joblib = pytest.importorskip("joblib")
    assert machine.usable_cores() == joblib.cpu_count()


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        ("avx512f avx512_bf16", "AVX512-BF16"),
        ("avx512_bf16 amx_bf16", "AMX"),
        ("avx512f", ""),
    ],
)
def test_bfloat16_is_seen_in_the_processors_flags(cpuinfo, flags, found):
    cpuinfo(CPUINFO.format(flags=flags))
    assert machine.bfloat16_units() == found
    assert machine.cpu_name() == "Some CPU @ 2.00GHz (family 6, model 143)"


@pytest.mark.parametrize(("flags", "found"), [("avx avx2 fma", True), ("avx fma", False)])
def test_avx2_is_seen_in_the_processors_flags(cpuinfo, flags, found):
    cpuinfo(CPUINFO.format(flags=flags))
    assert machine.has_avx2() is found


def test_where_the_processor_cannot_be_seen_nothing_is_claimed(cpuinfo):
    cpuinfo(None)
    assert machine.bfloat16_units() is None
    assert machine.has_avx2() is False
    assert isinstance(machine.cpu_name(), str)
    cpuinfo("")
    assert machine.bfloat16_units() is None


def test_the_version_of_a_module_whose_package_has_another_name(monkeypatch):
    assert machine.module_version("numpy") == np.__version__
    other = types.SimpleNamespace(__version__="1.2")
    monkeypatch.setitem(sys.modules, "of_another_package", other)
    assert machine.module_version("of_another_package") == "1.2"
    del other.__version__
    assert machine.module_version("of_another_package") == "unknown"
