"""What is said of a Ray cluster, for which a stand-in plays here."""

import sys
from unittest.mock import MagicMock

import pytest

from convscope import cluster
from convscope.errors import ConfigError


@pytest.fixture
def ray(monkeypatch):
    """Cluster of a node with many cores and one with a GPU and much memory."""
    ray = MagicMock()
    ray.__spec__ = MagicMock()
    ray.nodes.return_value = [
        {"Alive": True, "Resources": {"CPU": 8, "memory": 4e9}},
        {"Alive": True, "Resources": {"CPU": 1, "GPU": 1, "memory": 16e9}},
        {"Alive": False, "Resources": {"CPU": 99, "memory": 999e9}},
    ]
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(cluster, "_JOIN_S", 0)
    return ray


@pytest.mark.parametrize(
    ("needed", "said"),
    [
        (
            {"threads": 1, "memory_gb": 900},
            "has 1 core and 900 GB of memory for a job; the largest amounts on one node are "
            "8 cores and 16 GB of memory: choose a lower --memory",
        ),
        (
            {"threads": 9},
            "has 9 cores for a job; the largest amounts on one node are 8 cores: choose a lower "
            "--threads",
        ),
        (
            {"threads": 9, "gpus": 2, "memory_gb": 2},
            "has 9 cores and 2 GPUs and 2 GB of memory for a job; the largest amounts on one node "
            "are 8 cores and 1 GPU and 16 GB of memory: choose a lower --threads and --gpus",
        ),
        (
            {"threads": 4, "memory_gb": 8},
            "has 4 cores and 8 GB of memory for a job; the largest amounts on one node are "
            "8 cores and 16 GB of memory: choose a lower --threads or --memory",
        ),
    ],
)
def test_the_options_of_what_does_not_fit_are_named(ray, needed, said):
    with pytest.raises(ConfigError) as refused:
        cluster.connect("auto", cluster.amounts_of(**needed))
    assert str(refused.value) == f"no node of the Ray cluster {said}"
