"""What is said of a Ray cluster, for which a stand-in plays here."""

import contextlib
import socket
import sys
from unittest.mock import MagicMock

import pytest

from convscope import cluster
from convscope.errors import ConfigError
from convscope.progress import Progress


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


def test_a_head_that_does_not_answer_is_named_once_each_time(ray):
    said = []
    progress = Progress()
    progress.say = said.append

    @contextlib.contextmanager
    def listening(port=0):
        with socket.create_server(("127.0.0.1", port)) as listener:
            yield listener.getsockname()[1]

    with listening() as port:
        ray.get_runtime_context.return_value.gcs_address = f"127.0.0.1:{port}"
        head = cluster.Head(progress)
        head.tell_if_lost()
        assert said == []
    for times in (1, 2):
        head.tell_if_lost()
        head.tell_if_lost()
        assert len(said) == times
        with listening(port):
            head.tell_if_lost()
    start = f"The head of the cluster at 127.0.0.1:{port} does not answer ("
    assert all(line.startswith(start) for line in said)
