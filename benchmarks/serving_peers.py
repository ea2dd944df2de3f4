"""Speed of `convscope serve` beside LitServe and MLServer with the same file, in one run.

    python -m venv lit && lit/bin/pip install litserve onnxruntime pillow
    python -m venv mls && mls/bin/pip install mlserver onnxruntime pillow   # Python below 3.13
    python benchmarks/serving_peers.py cats.onnx photo.jpg ... \
        --litserve lit/bin/python --mlserver mls/bin/python

Each server is a process with one worker at a loopback address, with the same decoder, engine and
batches of at most 32. Requests are the same bytes for both of a pair: an image in base64 for
LitServe and convscope's `/predict`, the Open Inference Protocol for MLServer and convscope's. The
servers take turns. The processor time for a request ("CPU ms") depends less on what else the
machine does; "at half" is p99 by p50 at half of a server's own rate. For models that squash images.
"""

import argparse
import base64
import contextlib
import functools
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from serving import BATCH, CLIENTS, server_rate

HERE = Path(__file__).resolve().parent
KIND = "application/json"


def free_port():
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]


@contextlib.contextmanager
def running(command, port):
    """Run a server until it is no longer needed, from when it takes connections."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        end = time.monotonic() + 60
        while True:
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"it does not start: {' '.join(command)}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        yield process.pid
    finally:
        # With its workers, some of which live on, waiting busily, where only their parent ends.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for_answers(port, path, body):
    """Wait until a server answers: some take connections while they prepare their model."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        asking = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(asking):
            asking.request("POST", path, body, {"content-type": KIND})
            if asking.getresponse().status == 200:
                return
        time.sleep(0.1)
    raise SystemExit(f"no answer from port {port}")


def cpu_seconds(pid):
    """Return the processor time of a process and its children so far (Linux); else nan."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return float("nan")
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(map(cpu_seconds, children))


def convscope(model, port):
    command = [sys.executable, "-m", "convscope", "serve", f"model={model}", "--port", str(port)]
    return [*command, "--no-log-requests"]


def litserve(python, model, port):
    return [python, str(HERE / "serving_litserve.py"), str(model), str(port)]


def mlserver(python, model, folder, port):
    settings = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
    # In its own process, as the others; a pool of workers would be one more.
    settings |= {"host": "127.0.0.1", "parallel_workers": 0, "debug": False}
    of_model = {"name": "model", "implementation": "serving_mlserver.Model"}
    of_model |= {"max_batch_size": BATCH, "max_batch_time": 0.001}
    of_model["parameters"] = {"uri": str(model)}
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(of_model))
    (folder / "serving_mlserver.py").write_text((HERE / "serving_mlserver.py").read_text())
    return [str(Path(python).with_name("mlserver")), "start", str(folder)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--litserve", metavar="PYTHON")
    parser.add_argument("--mlserver", metavar="PYTHON")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    model = given.model.resolve()
    texts = [base64.b64encode(path.read_bytes()).decode() for path in given.photos]
    plain = [json.dumps({"image": text}).encode() for text in texts]
    tensor = {"name": "pixels", "shape": [1], "datatype": "BYTES"}
    outputs = [{"name": "probs"}]
    protocol = [
        json.dumps({"inputs": [{**tensor, "data": [text]}], "outputs": outputs}).encode()
        for text in texts
    ]
    with tempfile.TemporaryDirectory() as folder:
        own = functools.partial(convscope, model)
        pairs = {}
        if given.litserve:
            peer = functools.partial(litserve, given.litserve, model)
            pairs["LitServe"] = (own, peer, plain, "/predict")
        if given.mlserver:
            peer = functools.partial(mlserver, given.mlserver, model, Path(folder))
            pairs["MLServer"] = (own, peer, protocol, "/v2/models/model/infer")
        rows = {}
        for _ in range(given.rounds):
            for name, (ours, theirs, bodies, path) in pairs.items():
                # One at a time: a server may take processor time without requests.
                for who, command in ((f"convscope, {path}", ours), (name, theirs)):
                    port = free_port()
                    with running(command(port), port) as pid:
                        wait_for_answers(port, path, bodies[0])
                        server_rate(port, bodies, KIND, 8, 1.0, path=path)  # they prepare
                        for n_clients in CLIENTS:
                            before = cpu_seconds(pid)
                            rate, *rest = server_rate(
                                port, bodies, KIND, n_clients, given.seconds, path=path
                            )
                            n_answers = max(1.0, rate * given.seconds)
                            each = 1000 * (cpu_seconds(pid) - before) / n_answers
                            _, p50, p99, _ = server_rate(
                                *(port, bodies, KIND, n_clients, given.seconds),
                                2 * n_clients / max(rate, 1 / given.seconds),
                                path=path,
                            )
                            found = (rate, *rest[:2], each, rest[2], p99 / p50)
                            rows.setdefault((name, n_clients, who), []).append(found)
    # Each of ours before its peer.
    rows = dict(sorted(rows.items(), key=lambda row: row[0][:2]))
    table = []
    heads = ("requests/s", "p50 ms", "p99 ms", "CPU ms", "failed", "at half")
    print(f"{'':36}{'clients':>8}" + "".join(f"{head:>11}" for head in heads))
    for (name, n_clients, who), found in rows.items():
        values = [statistics.median(each) for each in zip(*found, strict=True)]
        table.append([name, n_clients, who, *values])
        print(f"{who:36}{n_clients:8}" + "".join(f"{value:11.2f}" for value in values))
    for ours, theirs in zip(table[::2], table[1::2], strict=True):
        print(
            f"{theirs[0]}, {theirs[1]} clients: {ours[3] / theirs[3]:.2f} times as many requests, "
            f"{theirs[6] / ours[6]:.2f} times as many for the same processor time"
        )
    if given.out:
        given.out.write_text(json.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
    main()
