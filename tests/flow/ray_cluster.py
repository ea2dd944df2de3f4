"""A real Ray cluster, whose nodes are processes of their own on this machine."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path


class Cluster:
    """A head that schedules, and workers with a core each; each a tree of processes."""

    def __init__(self, folder: Path, *, head_cores: int) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{listener.getsockname()[1]}"
        port = self.address.partition(":")[2]
        self._folder = folder
        self._nodes: list[subprocess.Popen[bytes]] = []
        self._start("--head", f"--port={port}", f"--num-cpus={head_cores}")
        deadline = time.monotonic() + 120
        while not self._answers(int(port)):
            assert time.monotonic() < deadline, (folder / "node0.log").read_text()
            time.sleep(0.5)

    def add_worker(self) -> subprocess.Popen[bytes]:
        return self._start(f"--address={self.address}", "--num-cpus=1")

    def stop(self) -> None:
        for node in reversed(self._nodes):
            kill(node)

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *arguments]
        quiet = ["--disable-usage-stats", "--node-ip-address=127.0.0.1"]
        if "--head" in arguments:
            # Short, because paths of sockets may have no more than 107 characters.
            quiet += ["--include-dashboard=false", f"--temp-dir=/tmp/r{os.getpid()}"]
        with (self._folder / f"node{len(self._nodes)}.log").open("wb") as log:
            # Workers would have a lower priority than everything else on the machine.
            environment = os.environ | {"RAY_worker_niceness": "0"}
            node = subprocess.Popen(
                [*command, *quiet], stdout=log, stderr=log, env=environment, start_new_session=True
            )
        self._nodes.append(node)
        return node

    @staticmethod
    def _answers(port: int) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextlib.contextmanager
def cluster_of(folder: Path, *, head_cores: int) -> Iterator[Cluster]:
    cluster = Cluster(folder, head_cores=head_cores)
    try:
        yield cluster
    finally:
        import ray

        ray.shutdown()
        cluster.stop()


def until(condition, seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} took longer than {seconds} s"
        time.sleep(0.2)
