"""Connection to a Ray cluster, for studies and for predictions. Needs the extra `ray`.

References:
    Moritz et al. 2018, "Ray: A Distributed Framework for Emerging AI Applications",
    arXiv:1712.05889.
"""

import importlib.metadata
import importlib.util
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convscope.errors import ConfigError, MissingExtraError
from convscope.progress import Progress
from convscope.wording import first_line

N_RETRIES = 3
"""How often work is tried again after its worker or node was lost."""

_TOKEN, _TOKEN_MODE = "~/.ray/auth_token", "RAY_AUTH_MODE"
"""File with a token of Ray, and the variable that says whether it is used."""

_OPTIONS = {"CPU": "--threads", "GPU": "--gpus", "memory": "--memory"}
"""Options that decide the amounts, by Ray's names."""

_ONE = {"CPU": "core", "GPU": "GPU"}

_JOIN_S = 15.0
"""Seconds to wait for a node that is large enough."""


def amounts_of(threads: int, gpus: float = 0, memory_gb: float | None = None) -> dict[str, float]:
    """Return what a piece of work needs of a node, by Ray's names; only what it does need.

    Args:
        threads: Processor cores.
        gpus: GPUs; a fraction shares one.
        memory_gb: Memory in gigabytes; None does not reserve any.
    """
    needed: dict[str, float] = {"CPU": threads, "GPU": gpus, "memory": (memory_gb or 0) * 1e9}
    return {name: amount for name, amount in needed.items() if amount}


def options_of(needed: Mapping[str, float]) -> dict[str, Any]:
    """Return `amounts_of` work as the options of a Ray task."""
    return {
        "num_cpus": needed["CPU"],
        "num_gpus": needed.get("GPU"),
        "memory": int(needed["memory"]) if "memory" in needed else None,
    }


def connect(address: str, needed: Mapping[str, float]) -> None:
    """Connect to a cluster with a node that is large enough; a connection that stands is kept.

    Args:
        address: Address of the cluster, "HOST:PORT"; "auto" takes the one that runs here or stands
            in $RAY_ADDRESS.
        needed: What a piece of work needs, from `amounts_of`.

    Raises:
        MissingExtraError: If Ray is not installed.
        ConfigError: If there is no cluster at that address, or no node is large enough.
    """
    if importlib.util.find_spec("ray") is None:
        raise MissingExtraError("ray", "ray")
    # Its question whether usage may be reported has no place in our output.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Once a connection is lost, Ray would go on with a cluster of its own on this machine.
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    _send_token()
    import ray

    if not ray.is_initialized():
        try:
            _require_answer(address)
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except (ray.exceptions.RayError, ValueError, RuntimeError, OSError) as error:
            raise ConfigError(
                f"no Ray cluster answers at '{address}' ({first_line(error)}; a cluster with token "
                f"authentication also needs its {_TOKEN} on this machine); start one with: ray "
                "start --head"
            ) from None
    end = time.monotonic() + _JOIN_S
    while True:
        nodes = _nodes()
        fits = any(all(node.get(name, 0) >= n for name, n in needed.items()) for node in nodes)
        # The workers of a cluster that was just started may not have joined it.
        if fits or time.monotonic() >= end:
            break
        time.sleep(0.5)
    if not fits:
        largest = {name: max(node.get(name, 0) for node in nodes) for name in needed}
        too_much = [_OPTIONS[name] for name in needed if needed[name] > largest[name]]
        # Otherwise some node has enough of each, and none has enough of all.
        chosen = " and ".join(too_much) or " or ".join(_OPTIONS[name] for name in needed)
        raise ConfigError(
            f"no node of the Ray cluster has {_spelt(needed)} for a job; the largest amounts on "
            f"one node are {_spelt(largest)}: choose a lower {chosen}"
        )


def _send_token() -> None:
    """Let Ray send this machine's token to any cluster, as it does by itself to one found here.

    Ray 2.60 writes one when it first starts a cluster for a program; from then on the clusters that
    `ray start` starts here demand it.
    """
    given = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & set(os.environ)
    if given or Path(_TOKEN).expanduser().exists():
        os.environ.setdefault(_TOKEN_MODE, "token")


def n_at_once(needed: Mapping[str, float]) -> int:
    """Return how many pieces of work fit on all nodes together, by cores and GPUs."""
    return sum(
        min(int(node.get(name, 0) / needed[name]) for name in ("CPU", "GPU") if name in needed)
        for node in _nodes()
    )


class Head:
    """The head of the cluster that this process is connected to.

    Args:
        progress: Called when it does not answer.
    """

    def __init__(self, progress: Progress) -> None:
        import ray

        self._progress = progress
        self._address: str = ray.get_runtime_context().gcs_address
        self._answers = True

    def tell_if_lost(self) -> None:
        """Say once when it no longer answers; to be called before Ray is asked for its nodes.

        Ray itself waits for a minute in silence and then ends the process.
        """
        try:
            _require_answer(self._address)
        except OSError as error:
            if self._answers:
                self._progress.say(
                    f"The head of the cluster at {self._address} does not answer "
                    f"({error.strerror or error}); Ray gives up after a minute"
                )
            self._answers = False
        else:
            self._answers = True


def own_version() -> str:
    """Return the version of convscope here."""
    return importlib.metadata.version("convscope")


def require_version(version: str) -> None:
    """Refuse work on a node that has another version of convscope.

    Raises:
        ConfigError: If it has.
    """
    if (own := own_version()) != version:
        raise ConfigError(
            f"node {os.uname().nodename} has convscope {own}, and this needs {version}; install "
            "it there"
        )


def _nodes() -> list[dict[str, float]]:
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _require_answer(address: str) -> None:
    """Reject an address where nobody listens; Ray would try for minutes.

    Raises:
        OSError: If nobody does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def _spelt(amounts: Mapping[str, float]) -> str:
    return " and ".join(
        f"{amount / 1e9:.6g} GB of memory"
        if name == "memory"
        else f"{amount:g} {_ONE[name]}{'s' * (amount != 1)}"
        for name, amount in amounts.items()
    )
