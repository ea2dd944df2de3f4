"""Speed of `convscope serve` beside the engine that it uses, in one run.

    python benchmarks/serving.py cats.onnx photo.jpg ... [--seconds 5] [--per-request 1 64]

The engine: the same decoder and ONNX Runtime in a loop of one process, for one image at a time and
for batches. The server: a process of its own at a loopback address, asked over 1, 8 and 64
connections, as fast as it answers, and then at half of that rate, whether it answers or not: a
request that waits for an earlier answer counts its wait. The clients share the cores with the
server, so they do as little as they can. Engine and server take turns, so that both
have the same machine.
"""

import argparse
import asyncio
import functools
import itertools
import json
import math
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
CLIENTS = (1, 8, 64)
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


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


class _Client(asyncio.Protocol):
    """A connection that sends one request after another, in little time of its own.

    Args:
        requests: Whole requests, taken in turn.
        offset: Number of the first one.
        pause: Seconds between two requests; 0 sends each once the one before is answered. At a
            fixed rate a late answer does not put off the next request: its wait counts.
    """

    def __init__(self, requests, offset, pause):
        self.requests = itertools.islice(itertools.cycle(requests), offset, None)
        self.pause = pause
        self.answer = bytearray()
        self.asked = False
        self.times = []
        self.loop = asyncio.get_running_loop()
        self.over = self.loop.create_future()

    def connection_made(self, transport):
        self.transport = transport

    def begin(self, start, end):
        """Send requests from one time of `time.perf_counter` to another."""
        self.due = start + self.pause * random.random()
        self.end = end
        self.next()

    def next(self):
        now = time.perf_counter()
        self.start = self.due if self.pause else now
        if max(self.start, now) >= self.end:
            self.transport.close()
        elif self.start > now:
            self.loop.call_later(self.start - now, self.send)
        else:
            self.send()

    def send(self):
        self.asked = True
        self.due += self.pause
        self.transport.write(next(self.requests))

    def data_received(self, data):
        self.answer += data
        if (head := self.answer.find(b"\r\n\r\n")) < 0:
            return
        length = int(_LENGTH.search(self.answer)[1])
        if len(self.answer) < head + 4 + length:
            return
        self.asked = False
        self.times.append((int(self.answer[9:12]), time.perf_counter() - self.start))
        self.answer.clear()
        self.next()

    def connection_lost(self, error):
        if self.asked:
            self.times.append((0, time.perf_counter() - self.start))
        self.over.set_result(None)


def _ask(port, path, bodies, kind, n_clients, seconds, results, pause):
    requests = [
        f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\n"
        f"content-length: {len(body)}\r\n\r\n".encode()
        + body
        for body in bodies
    ]

    random.seed()  # a fork begins where its parent is: all rounds would have the same pauses

    async def run():
        loop = asyncio.get_running_loop()
        clients = [_Client(requests, 7 * n, pause) for n in range(n_clients)]
        for each in clients:
            await loop.create_connection(lambda each=each: each, "127.0.0.1", port)
        start = time.perf_counter()
        for each in clients:
            each.begin(start, start + seconds)
        for each in clients:
            await each.over
        return [found for each in clients for found in each.times]

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
    if not good:
        return 0.0, math.nan, math.nan, len(times)
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
    parser.add_argument("--per-request", type=int, nargs="+", default=[1])
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    files = [path.read_bytes() for path in given.photos]
    command = [sys.executable, "-m", "convscope", "serve", str(given.model), "--port", "0"]
    server = subprocess.Popen(
        [*command, "--no-log-requests", "--queue", str(128 * max(given.per_request) + 512)],
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
            for n_images, n_clients in itertools.product(given.per_request, CLIENTS):
                bodies, kind = files, "image/png"
                if n_images > 1:
                    many = (files * n_images)[:n_images]
                    bodies, kind = [_form(many)], "multipart/form-data; boundary=b"
                name = f"{n_clients} x {n_images}"
                ask = functools.partial(server_rate, port, bodies, kind, n_clients, given.seconds)
                rate, *rest = ask()
                rows.setdefault(name, []).append((rate * n_images, *rest))
                half, *rest = ask(2 * n_clients / max(rate, 1 / given.seconds))
                rows.setdefault(f"{name}, half of that", []).append((half * n_images, *rest))
    finally:
        server.terminate()
        server.wait()
    table = {
        name: [round(statistics.median(column), 2) for column in zip(*found, strict=True)]
        for name, found in rows.items()
    }
    heads = ("images/s", "p50 ms", "p99 ms", "p99/p50", "failed")
    print(f"{'clients x images':24}" + "".join(f"{head:>10}" for head in heads))
    for name, (rate, p50, p99, failed) in table.items():
        print(f"{name:24}{rate:10.0f}{p50:10.2f}{p99:10.2f}{p99 / p50:10.2f}{failed:10.0f}")
    engine = table[f"engine, batch {BATCH}"]
    for n_images in given.per_request:
        share = table[f"{CLIENTS[-1]} x {n_images}"][0] / engine[0]
        print(f"{CLIENTS[-1]} clients of {n_images}: {share:.0%} of the engine's images/s")
    if 1 in given.per_request:
        print(f"1 client: {table['1 x 1'][1] - table['engine, batch 1'][1]:.2f} ms more")
    if given.out:
        given.out.write_text(json.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
    main()
