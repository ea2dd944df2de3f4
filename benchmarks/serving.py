"""Speed of `convscope serve` beside the engine that it uses, in one run.

    python benchmarks/serving.py cats.onnx photo.jpg ... [--seconds 5] [--per-request 1]

The engine: the same decoder and ONNX Runtime in a loop of one process, for one image at a time and
for batches. The server: a process of its own at a loopback address, asked by processes that keep
their connections: 1, 8 and 64 at once, and 64 at half the rate of 8. The two take turns, so that
both have the same machine.
"""

import argparse
import asyncio
import functools
import json
import multiprocessing
import random
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import convscope

BATCH = 32


def engine_rate(classifier, files, batch, seconds):
    """Return images per second of decoding and predicting, and ms per call."""
    times = []
    end = time.perf_counter() + seconds
    number = 0
    while time.perf_counter() < end:
        start = time.perf_counter()
        chosen = [files[(number + index) % len(files)] for index in range(batch)]
        classifier.predict_on_batch(np.stack([classifier.decode(file) for file in chosen]))
        number += batch
        times.append(time.perf_counter() - start)
    return batch / statistics.mean(times), 1000 * statistics.median(times)


async def _client(port, path, bodies, kind, end, times, offset, *, pause):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    number = offset
    due = time.perf_counter() + pause * random.random()
    while time.perf_counter() < end:
        body = bodies[number % len(bodies)]
        number += 1
        # At a fixed rate a late answer does not put off the next request: its wait counts.
        start = due if pause else time.perf_counter()
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        due += pause
        head = (
            f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        said = await reader.readuntil(b"\r\n\r\n")
        status = int(said.split(b" ", 2)[1])
        length = int(re.search(rb"content-length: (\d+)", said)[1])
        await reader.readexactly(length)
        times.append((status, time.perf_counter() - start))
    writer.close()


def _ask(port, path, bodies, kind, n_clients, seconds, results, pause):
    async def run():
        times = []
        end = time.perf_counter() + seconds
        ask = functools.partial(_client, port, path, bodies, kind, end, times, pause=pause)
        await asyncio.gather(*(ask(7 * n) for n in range(n_clients)))
        return times

    results.put(asyncio.run(run()))


def server_rate(port, bodies, kind, n_clients, seconds, pause=0.0, path="/predict?top_k=1"):
    """Return requests per second, p50 and p99 in ms, and the number of answers that are not 200."""
    results = multiprocessing.Queue()
    process = multiprocessing.Process(
        target=_ask, args=(port, path, bodies, kind, n_clients, seconds, results, pause)
    )
    process.start()
    times = results.get()
    process.join()
    good = sorted(took for status, took in times if status == 200)
    p50, p99 = (1000 * good[min(len(good) - 1, int(share * len(good)))] for share in (0.5, 0.99))
    return len(good) / seconds, p50, p99, len(times) - len(good)


def _form(files):
    parts = [
        b'--b\r\nContent-Disposition: form-data; name="f"; filename="x"\r\n\r\n' + file + b"\r\n"
        for file in files
    ]
    return b"".join(parts) + b"--b--\r\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--per-request", type=int, default=1)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    files = [path.read_bytes() for path in given.photos]
    bodies, kind = files, "image/png"
    if given.per_request > 1:
        many = (files * given.per_request)[: max(len(files), given.per_request)]
        bodies, kind = [_form(many[: given.per_request])], "multipart/form-data; boundary=b"
    command = [sys.executable, "-m", "convscope", "serve", str(given.model), "--port", "0"]
    server = subprocess.Popen(
        [*command, "--no-log-requests", "--queue", str(128 * given.per_request + 512)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    port = int(re.search(r":(\d+) ", server.stdout.readline())[1])
    classifier = convscope.Classifier(given.model)
    rows = {}
    try:
        for _ in range(given.rounds):
            for batch in (1, BATCH):
                rate, ms = engine_rate(classifier, files, batch, given.seconds)
                rows.setdefault(f"engine, batch {batch}", []).append((rate, ms, ms, 0))
            for n_clients in (1, 8, 64):
                rate, *rest = server_rate(port, bodies, kind, n_clients, given.seconds)
                name = f"server, {n_clients} clients"
                rows.setdefault(name, []).append((rate * given.per_request, *rest))
                if n_clients == 8:
                    half = server_rate(port, bodies, kind, 64, given.seconds, 64 / (rate / 2))
                    found = (half[0] * given.per_request, *half[1:])
                    rows.setdefault("server, half of that", []).append(found)
    finally:
        server.terminate()
        server.wait()
    table = {
        name: [round(statistics.median(column), 2) for column in zip(*found, strict=True)]
        for name, found in rows.items()
    }
    print(f"{'':24}{'images/s':>10}{'p50 ms':>10}{'p99 ms':>10}{'failed':>8}")
    for name, (rate, p50, p99, failed) in table.items():
        print(f"{name:24}{rate:10.0f}{p50:10.2f}{p99:10.2f}{failed:8.0f}")
    if given.out:
        given.out.write_text(json.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
    main()
