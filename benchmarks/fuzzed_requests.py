"""Thousands of wrong requests against `convscope serve`: none may crash it or show its insides.

    convscope serve cats.onnx
    python benchmarks/fuzzed_requests.py localhost:8000 cats --n 10000

Damaged images of each format, damaged JSON, forms, tensors, compressed bodies, headers and paths.
Every answer has to be an error of the client (4xx), 200, 503 (queue full) or 504 (deadline), in
JSON, without a path or a traceback; at the end a good image is answered as at the beginning.
"""

import argparse
import base64
import collections
import gzip
import http.client
import io
import json
import random
import re
import struct

from PIL import Image

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF")
INSIDES = re.compile(rb"Traceback|File \"|/src/|site-packages|/home/|/root/|/tmp/|\.py\b")
PATHS = (
    *(
        "/predict",
        "/predict?top_k=3",
        "/predict?top_k=-1",
        "/predict?top_k=1e9",
        "/predict?model=x",
    ),
    *("/predict?model=..%2f..%2fetc%2fpasswd", "/predict?version=%00", "/predict/../metrics"),
    *("/v2/models/{m}/infer", "/v2/models/{m}/versions/1/infer", "/v2/models/{m}/versions/9/infer"),
    *(
        "/v2/models/..%2f/infer",
        "/v2/models/%ff/infer",
        "/v2/repository/models/%00/load",
        "/%2e%2e/x",
    ),
    *("/v2/repository/index", "/healthz", "/metrics", "/openapi.json", "//", "/" + "a" * 3000),
)
TYPES = (
    "",
    "image/png",
    "application/json",
    "multipart/form-data; boundary=b",
    "text/html",
    "\xff",
)


def images(rng):
    picture = Image.frombytes("RGB", (40, 30), rng.randbytes(3600))
    found = []
    for name in FORMATS:
        file = io.BytesIO()
        try:
            picture.save(file, name)
        except (KeyError, OSError):  # this Pillow does not write it
            continue
        found.append(file.getvalue())
    return found


def damaged(content, rng):
    content = bytearray(content)
    for _ in range(rng.choice((0, 1, 3, 20))):
        place = rng.randrange(len(content) or 1)
        match rng.randrange(5):
            case 0 if content:
                content[place] ^= 1 << rng.randrange(8)
            case 1:
                del content[place : place + rng.randrange(50)]
            case 2:
                content[place:place] = rng.randbytes(rng.randrange(20))
            case 3:
                content[place : place + 4] = rng.choice(
                    (b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff")
                )
            case 4:
                del content[place:]
    return bytes(content)


def value(rng, depth=0):
    scalars = [
        None,
        True,
        -1,
        0,
        255,
        256,
        2**63,
        10**400,
        1e308,
        0.5,
        "",
        "UINT8",
        "BYTES",
        "pixels",
    ]
    if depth > 4 or rng.random() < 0.5:
        return rng.choice(scalars)
    if rng.random() < 0.5:
        return [value(rng, depth + 1) for _ in range(rng.randrange(5))]
    keys = ("inputs", "outputs", "name", "shape", "datatype", "data", "parameters", "id", "images")
    return {rng.choice(keys): value(rng, depth + 1) for _ in range(rng.randrange(5))}


def tensor(rng, file):
    good = {
        **{"name": "pixels", "shape": [1], "datatype": "BYTES"},
        "data": [base64.b64encode(file).decode()],
    }
    for _ in range(rng.randrange(3)):
        good[rng.choice(("name", "shape", "datatype", "data", "parameters"))] = value(rng)
    return {"inputs": [good], "outputs": value(rng) if rng.random() < 0.3 else []}


def request(rng, files, model):
    """Return path, body and headers of a request, most of them wrong in one place."""
    file = damaged(rng.choice(files), rng)
    headers = {"Content-Type": rng.choice(TYPES)}
    path = rng.choice(PATHS).replace("{m}", model)
    kind = rng.randrange(6)
    if kind == 0:
        body = file
    elif kind == 1:
        form = b'--b\r\nContent-Disposition: form-data; name="f"; filename="\xc3\xa4.png"\r\n\r\n'
        body, headers["Content-Type"] = damaged(form + file + b"\r\n--b--\r\n", rng), TYPES[3]
    elif kind == 2:
        body = json.dumps({"images": [base64.b64encode(file).decode()]}).encode()
        body, headers["Content-Type"] = damaged(body, rng), TYPES[2]
    elif kind == 3:
        body, path = json.dumps(tensor(rng, file)).encode(), f"/v2/models/{model}/infer"
    elif kind == 4:
        content = tensor(rng, file)
        content["inputs"][0]["parameters"] = {"binary_data_size": len(file) + 4}
        head = json.dumps(content).encode()
        body = head + struct.pack("<I", rng.choice((len(file), 0, 2**32 - 1))) + file
        length = rng.choice((len(head), len(head), 0, -1, 10**30, "x"))
        headers["Inference-Header-Content-Length"] = str(length)
        path = f"/v2/models/{model}/infer"
    else:
        body = json.dumps(value(rng)).encode()
        headers["Content-Type"] = TYPES[2]
    if rng.random() < 0.1:
        body = damaged(gzip.compress(body), rng)
        headers["Content-Encoding"] = rng.choice(("gzip", "deflate", "br"))
    if rng.random() < 0.05:
        headers[rng.choice(("X-Request-ID", "Origin", "Host", "Authorization"))] = "a<b>" * 50
    return path, body, headers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("address")
    parser.add_argument("model")
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = random.Random(given.seed)
    files = images(rng)
    statuses: collections.Counter[int] = collections.Counter()

    def ask(path, body, headers):
        connection = http.client.HTTPConnection(given.address, timeout=60)
        try:
            connection.request(rng.choice(("POST", "POST", "POST", "PUT")), path, body, headers)
            said = connection.getresponse()
            return said.status, said.read()
        finally:
            connection.close()

    def good():
        connection = http.client.HTTPConnection(given.address, timeout=60)
        connection.request("POST", "/predict", files[0])
        return connection.getresponse().read()

    expected = good()
    for number in range(given.n):
        path, body, headers = request(rng, files, given.model)
        status, said = ask(path, body, headers)
        statuses[status] += 1
        about = f"request {number}: {status} {path} {headers} {body[:300]!r}: {said[:500]!r}"
        assert status < 500 or status in (503, 504), about
        if status >= 400:
            assert not INSIDES.search(said), about
            assert json.loads(said).keys() == {"error"}, about
    assert good() == expected
    print(f"{given.n:,} requests: {dict(sorted(statuses.items()))}")


if __name__ == "__main__":
    main()
