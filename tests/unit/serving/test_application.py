"""What a server answers, and what it refuses."""

import asyncio
import base64
import gzip
import json
import threading
import time
import zlib

import httpx
import numpy as np
import pytest
from serving_server import N_CLASSES, Server, png

from convscope.classifier.classify import Classifier
from convscope.errors import ConfigError
from convscope.serving import app, application, protocol
from convscope.serving.door import OPEN_TO_ALL, usable_key
from convscope.serving.limits import MEGABYTE, Bodies, Limits, RefusedError
from convscope.serving.tensors import LENGTH_HEADER


def test_one_image_comes_as_a_body_as_a_form_and_as_json(server):
    text = base64.b64encode(png(7)).decode()
    for options in (
        {"content": png(7)},
        {"content": png(7), "headers": {"content-type": "application/x-www-form-urlencoded"}},
        {"files": {"anything": ("a.png", png(7))}},
        {"json": {"image": text}},
        {"json": {"images": [f"data:image/png;base64,{text}"]}},
    ):
        said = server.predict(**options)
        assert said.status_code == 200, said.text
        (answer,) = said.json()["predictions"]
        assert answer["class"] == "grey 7"
        assert answer["image"] == ("a.png" if "files" in options else None)
        assert len(answer["probs"]) == 256
        assert next(iter(answer["probs"].items())) == ("grey 7", 0.5)


def test_many_images_are_answered_in_order_with_the_classes_that_one_asks_for(server):
    files = [("f", (f"{value}.png", png(value))) for value in range(40)]
    answers = server.predict(files=files, params={"top_k": 2}).json()["predictions"]
    assert [each["class"] for each in answers] == [f"grey {value}" for value in range(40)]
    # All others are equal; the first of them is named, as `ImagePrediction.top` does.
    second = {0: "grey 1"}
    for value, each in enumerate(answers):
        assert list(each["probs"]) == [f"grey {value}", second.get(value, "grey 0")]
    (said,) = Classifier(server.network, server.spec).predict([png(7)])
    assert list(answers[7]["probs"]) == [name for name, _ in said.top(2)]
    assert max(server.network.batches) <= server.models.get().batcher.max_batch
    zeros = server.predict(png(1), params={"top_k": "0" * 5000 + "2"})
    assert len(zeros.json()["predictions"][0]["probs"]) == 2


def test_a_damaged_image_has_its_own_error_beside_the_answers_of_the_others(server):
    files = [("f", ("a", png(1))), ("f", ("b", b"no image")), ("f", ("c", png(3)))]
    said = server.predict(files=files)
    first, bad, third = said.json()["predictions"]
    assert said.status_code == 200
    assert (first["class"], third["class"]) == ("grey 1", "grey 3")
    assert bad["image"] == "b"
    assert "not a whole image" in bad["error"]
    alone = server.predict(b"no image")
    assert alone.status_code == 400
    assert "not a whole image" in alone.json()["error"]


def test_answers_never_swap_among_many_clients():
    server = Server(max_batch=8)
    generator = np.random.default_rng(0)

    async def client(client, number):
        for round_ in range(4):
            values = generator.integers(0, 256, generator.integers(1, 12)).tolist()
            ids = ["same", f"{number}-{round_}", None][number % 3]
            headers = {} if ids is None else {"x-request-id": ids}
            files = [("f", (str(value), png(value))) for value in values]
            said = await client.post("/predict?top_k=1", files=files, headers=headers)
            found = [each["class"] for each in said.json()["predictions"]]
            assert found == [f"grey {value}" for value in values]
            assert ids in (None, said.headers["x-request-id"])

    async def run():
        async with server.client() as shared:
            await asyncio.gather(*(client(shared, number) for number in range(20)))

    asyncio.run(run())
    assert max(server.network.batches) <= 8
    assert max(server.network.batches) > 1


def test_an_image_of_no_class_is_rejected_where_that_is_asked_for():
    # The energy of every answer of this network: one class at a half, 255 share the rest.
    energy = -(np.log(0.5) + 255 * np.log(0.5 / 255)) / 256
    for reject, below, expected in (
        *((False, energy + 0.1, False), (True, energy + 0.1, True)),
        (True, energy - 0.1, False),
    ):
        server = Server(reject=reject, reject_below=below)
        assert server.predict(png(1)).json()["predictions"][0]["rejected"] is expected
        text = server.ask("GET", "/metrics").text
        assert f'convscope_rejected_total{{model="grey"}} {float(expected)}' in text


def test_a_full_queue_is_503_with_a_time_and_a_late_answer_is_504():
    server = Server(Limits(deadline_ms=300), queue=2)
    free = threading.Event()
    server.network.wait = lambda: free.wait(5)

    async def run():
        async with server.client() as client:
            late = [asyncio.create_task(client.post("/predict", content=png(n))) for n in (1, 2)]
            await asyncio.sleep(0.1)
            full = await client.post("/predict", content=png(3))
            found = await asyncio.gather(*late)
            free.set()
            after = await client.post("/predict", content=png(4))
            return full, found, after

    full, late, after = asyncio.run(run())
    assert full.status_code == 503
    assert full.headers["retry-after"] == "1"
    assert [each.status_code for each in late] == [504, 504]
    assert "300 ms" in late[0].json()["error"]
    assert after.status_code == 200


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("/predict", {"content": png(1)}),
        (
            "/v2/models/grey/infer",
            {"content": png(1), "headers": {LENGTH_HEADER: "0"}},
        ),
    ],
)
def test_a_long_answer_is_written_beside_other_requests_until_the_deadline(
    monkeypatch, path, options
):
    server = Server(Limits(deadline_ms=200))
    for module, name in ((application, "_written"), (protocol, "write_answer")):
        writes = getattr(module, name)
        wait = lambda *given, writes=writes: time.sleep(0.6) or writes(*given)  # noqa: E731
        monkeypatch.setattr(module, name, wait)
        monkeypatch.setattr(module, "MANY_VALUES", N_CLASSES - 1)

    async def run():
        async with server.client() as client:
            late = asyncio.create_task(client.post(path, **options))
            await asyncio.sleep(0.05)
            health = await client.get("/healthz")
            assert not late.done()
            return await late, health

    late, health = asyncio.run(run())
    assert (late.status_code, health.status_code) == (504, 200)


def test_a_client_that_hangs_up_leaves_the_queue():
    server = Server(max_batch=4)
    free, began = threading.Event(), threading.Event()

    def wait():
        began.set()
        free.wait(5)

    server.network.wait = wait

    async def run():
        sent = []

        async def ask(value, gone):
            messages = [{"type": "http.request", "body": png(value)}]

            async def receive():
                if messages:
                    return messages.pop()
                await gone.wait()
                return {"type": "http.disconnect"}

            async def send(message):
                sent.append(message)

            scope = {
                **{"type": "http", "method": "POST", "path": "/predict", "query_string": b""},
                **{"headers": [], "client": ("c", 1), "root_path": "", "scheme": "http"},
            }
            await server.app(scope, receive, send)

        never, soon = asyncio.Event(), asyncio.Event()
        first = asyncio.create_task(ask(1, never))
        await asyncio.to_thread(began.wait, 5)
        leaving = asyncio.create_task(ask(2, soon))
        staying = asyncio.create_task(ask(3, never))
        await asyncio.sleep(0.05)
        soon.set()
        await leaving
        assert not sent
        assert server.models.get().batcher.in_flight == 2
        free.set()
        await asyncio.gather(first, staying)
        assert [each["status"] for each in sent if "status" in each] == [200, 200]

    asyncio.run(run())
    assert server.network.batches == [1, 1]
    assert 'status="499"' in server.ask("GET", "/metrics").text


def test_what_the_engine_says_stays_in_the_log(server, caplog):
    server.network.fails_at = 9
    caplog.set_level("INFO", "convscope.serving")
    said = server.predict(png(9))
    assert said.status_code == 500
    assert said.json().keys() == {"error"}
    assert "secret" not in said.text
    assert said.headers["x-request-id"] in said.json()["error"]
    assert "secret" in caplog.text
    # It is about that image alone.
    assert server.ask("GET", "/healthz").status_code == 200
    server.network.fails_at = 0  # black
    assert server.predict(png(0)).status_code == 500
    assert server.ask("GET", "/healthz").status_code == 503
    assert server.ask("GET", "/v2/health/live").json() == {"live": True}
    assert server.predict(png(8)).status_code == 200
    assert server.ask("GET", "/healthz").status_code == 200


GZIP = {"content-encoding": "gzip"}
FORM = {"content-type": "multipart/form-data; boundary=b"}
JSON = {"content-type": "application/json"}
MEGABYTES = bytes(3_000_000)
CUT_FORM = b'--b\r\ncontent-disposition: form-data; filename="a"\r\n\r\nx'
NO_FILE = b'--b\r\ncontent-disposition: form-data; name="a"\r\n\r\nx\r\n--b--\r\n'


@pytest.fixture(scope="module")
def small_server():
    return Server(Limits(max_body=1_000_000, max_pixels=1_000_000))


@pytest.mark.parametrize(
    ("status", "options"),
    [
        (413, {"content": bytes(2_000_000)}),
        (413, {"content": gzip.compress(MEGABYTES), "headers": GZIP}),
        (413, {"content": zlib.compress(MEGABYTES), "headers": {"content-encoding": "deflate"}}),
        (413, {"content": png(1, size=2000)}),
        (413, {"json": {"images": [""] * 600}}),
        (400, {"content": gzip.compress(bytes(99))[:-9], "headers": GZIP}),
        (400, {"content": b"x", "headers": GZIP}),
        (415, {"content": b"x", "headers": {"content-encoding": "br"}}),
        (400, {"content": b""}),
        (400, {"json": {}}),
        (400, {"json": []}),
        (400, {"json": {"images": []}}),
        (400, {"json": {"images": [3]}}),
        (400, {"json": {"images": "x"}}),
        (400, {"json": {"image": "no base 64!"}}),
        (400, {"json": {"image": "ä"}}),
        (400, {"content": b'{"image": NaN}', "headers": JSON}),
        (400, {"content": b"\xff", "headers": JSON}),
        (400, {"content": b"[" * 100_000, "headers": JSON}),
        (400, {"content": b'{"a":' * 100_000, "headers": JSON}),
        (400, {"content": b"x", "headers": {"content-type": "multipart/form-data"}}),
        (400, {"content": b"x", "headers": FORM}),
        (400, {"content": NO_FILE, "headers": FORM}),
        (400, {"content": CUT_FORM, "headers": FORM}),
        (422, {"content": png(1), "params": {"top_k": "0"}}),
        (422, {"content": png(1), "params": {"top_k": "x"}}),
        (422, {"content": png(1), "params": {"top_k": ""}}),
        (422, {"content": png(1), "params": {"top_k": "٣"}}),
        (422, {"content": png(1), "params": {"top_k": "00000000199999"}}),
        (422, {"content": png(1), "params": {"top_k": "000000001" + "1" * 5000}}),
        (404, {"content": png(1), "params": {"model": "../../etc/passwd"}}),
        (404, {"content": png(1), "params": {"version": "2"}}),
    ],
)
def test_what_cannot_be_answered_is_refused_in_one_line(small_server, status, options):
    server = small_server
    said = server.predict(**options)
    assert said.status_code == status, said.text
    assert said.json().keys() == {"error"}
    assert 5 < len(said.json()["error"]) < 200
    assert "\n" not in said.json()["error"]
    assert server.predict(png(5)).json()["predictions"][0]["class"] == "grey 5"
    assert server.models.get().batcher.in_flight == 0


def test_a_compressed_request_is_read(server):
    said = server.predict(gzip.compress(png(3)), headers={"content-encoding": "gzip"})
    assert said.json()["predictions"][0]["class"] == "grey 3"


def test_a_body_that_does_not_arrive_is_408_and_all_bodies_together_have_a_limit():
    async def slow():
        yield b"x"
        await asyncio.sleep(5)

    async def ask(server, content):
        async with server.client() as client:
            return await client.post("/predict", content=content)

    server = Server(Limits(body_s=0.1))
    assert asyncio.run(ask(server, slow())).status_code == 408
    server = Server(Limits(max_held=1000))
    assert server.predict(bytes(2000)).status_code == 503
    assert server.predict(png(1)).status_code == 200


@pytest.mark.parametrize(("max_body", "room"), [(100, 512), (1024, 2048)])
def test_there_is_room_for_two_of_the_largest_bodies(monkeypatch, max_body, room):
    monkeypatch.setattr("convscope.serving.limits.MEGABYTE", 1)
    bodies = Bodies(Limits(max_body=max_body))

    async def read(n_bytes):
        async def receive():
            return {"type": "http.request", "body": bytes(n_bytes)}

        async with bodies.read(receive, b"", ""):
            await asyncio.sleep(0.01)

    async def run():
        sizes = [max_body] * (room // max_body) + [room % max_body + 1]
        return await asyncio.gather(*map(read, sizes), return_exceptions=True)

    *whole, refused = asyncio.run(run())
    assert whole == [None] * (room // max_body)
    assert refused.status == 503


def test_compressed_bodies_count_as_what_they_unpack_to_and_leave_nothing_behind():
    bodies = Bodies(Limits(max_body=6 * MEGABYTE, max_held=8 * MEGABYTE))
    small, large, huge = (gzip.compress(bytes(n * MEGABYTE)) for n in (1, 5, 9))
    inside = asyncio.Event()

    async def read(content, encoding="gzip"):
        async def receive():
            return {"type": "http.request", "body": content}

        async with bodies.read(receive, b"", encoding) as body:
            held = bodies.held
            inside.set()
            await asyncio.sleep(0.05)
            return len(body), held

    async def refused(status, *given):
        before = bodies.held
        with pytest.raises(RefusedError) as error:
            await read(*given)
        assert error.value.status == status
        assert bodies.held == before

    async def run():
        first = asyncio.create_task(read(large))
        await inside.wait()
        # There is room for 3 MB more, whatever their packed size.
        await refused(503, large)
        assert await read(small) == (MEGABYTE, 6 * MEGABYTE)
        assert await first == (5 * MEGABYTE, 5 * MEGABYTE)
        assert bodies.held == 0
        await refused(413, huge)
        await refused(400, large[:-9])
        await refused(400, b"x" + large)
        await refused(415, large, "br")
        gone = asyncio.create_task(read(large))
        await asyncio.sleep(0.01)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert bodies.held == 0
        # Not compressed after all.
        assert await read(b"abc", "identity") == await read(b"abc", "") == (3, 3)

    asyncio.run(run())
    assert bodies.held == 0


def test_nobody_without_the_key_is_answered_but_by_the_probes_of_health():
    server = Server(api_key="schlüssel")
    key = "schlüssel".encode()
    assert server.predict(png(1)).status_code == 401
    for header in ({"authorization": b"Bearer " + key}, {"x-api-key": key}):
        assert server.predict(png(1), headers=header).status_code == 200
    for header in ({"authorization": b"Basic " + key}, {"x-api-key": key[:-1]}, {"x-api-key": ""}):
        refused = server.predict(png(1), headers=header)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == "Bearer"
    for path in ("/metrics", "/openapi.json", "/v2/models/grey"):
        assert server.ask("GET", path).status_code == 401
    for path in ("/healthz", "/v2/health/live", "/v2/health/ready"):
        assert server.ask("GET", path).status_code == 200


def test_a_key_has_no_blanks_around_it_and_is_not_empty():
    assert usable_key(None) is None
    assert usable_key(" secret\n") == "secret"
    for empty in ("", " \n"):
        with pytest.raises(ConfigError, match="key is empty"):
            usable_key(empty)
        with pytest.raises(ConfigError, match="key is empty"):
            app("none.onnx", api_key=empty)


def test_pages_of_other_sites_cannot_use_a_server_on_this_machine():
    server = Server(hosts={"photos.example", "birds.example:8443"})
    for host, status in (
        *(("localhost:8000", 200), ("127.0.0.1", 200), ("[::1]:8000", 200)),
        *(("photos.example", 200), ("evil.example", 403), ("127.0.0.1.evil.example", 403)),
        *(("Birds.example:8443", 200), ("birds.example", 403), ("birds.example:1", 403)),
    ):
        assert server.predict(png(1), headers={"host": host}).status_code == status, host
    for origin, status in (
        *(("http://localhost", 200), ("https://evil.example", 403), ("null", 403)),
        ("http://localhost:9999", 403),
    ):
        said = server.predict(png(1), headers={"origin": origin})
        assert said.status_code == status, origin
        assert "access-control-allow-origin" not in said.headers


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://photos.example", 200),
        ("http://photos.example", 200),
        ("https://photos.example:9999", 403),
        ("https://evil.example", 403),
        ("https://photos.example.evil.example", 403),
        ("null", 403),
    ],
)
@pytest.mark.parametrize("hosts", [None, {"photos.example"}])
def test_the_page_behind_a_proxy_is_answered_once_its_name_is_known(hosts, origin, status):
    # As nginx does by default, the proxy passes on the name by which it reaches the server.
    headers = {"host": "127.0.0.1:8000", "origin": origin}
    server = Server(hosts=hosts, origins={"photos.example"})
    said = server.predict(png(1), headers=headers)
    assert said.status_code == status
    if status == 403:
        assert "--allow-host" in said.json()["error"]
    assert Server(hosts=hosts).predict(png(1), headers=headers).status_code == 403


def test_every_answer_has_an_id_and_the_headers_of_safety(server):
    for said in (
        server.predict(png(1)),
        server.predict(b"x"),
        server.ask("GET", "/nothing"),
        server.ask("DELETE", "/predict"),
        server.ask("GET", "/metrics"),
    ):
        assert len(said.headers["x-request-id"]) == 16
        assert said.headers["x-content-type-options"] == "nosniff"
        assert said.headers["content-security-policy"].startswith("default-src 'none'")
        assert said.headers["cache-control"] == "no-store"
    assert server.predict(png(1), headers={"x-request-id": "a-1"}).headers["x-request-id"] == "a-1"
    evil = server.predict(png(1), headers={"x-request-id": "a b<script>"})
    assert len(evil.headers["x-request-id"]) == 16


def test_metrics_count_requests_images_classes_and_confidence():
    server = Server()
    server.predict(files=[("f", ("a", png(1))), ("f", ("b", png(1))), ("f", ("c", b"x"))])
    server.predict(b"x")
    text = server.ask("GET", "/metrics").text
    for line in (
        'convscope_requests_total{route="/predict",status="200"} 1.0',
        'convscope_requests_total{route="/predict",status="400"} 1.0',
        'convscope_images_total{model="grey"} 2.0',
        'convscope_unreadable_total{model="grey"} 2.0',
        'convscope_answers_total{class="grey 1",model="grey"} 2.0',
        'convscope_confidence_bucket{le="0.4",model="grey"} 0.0',
        'convscope_confidence_bucket{le="0.5",model="grey"} 2.0',
        'convscope_ready{model="grey"} 1.0',
        'convscope_queue_images{model="grey"} 0.0',
    ):
        assert line in text.splitlines(), line


def test_the_description_of_the_addresses_needs_no_other_host(server):
    said = server.ask("GET", "/openapi.json")
    assert {"/predict", "/v2/models/{name}/infer"} < json.loads(said.text)["paths"].keys()
    assert server.ask("GET", "/docs").status_code == 404


def test_the_description_says_what_comes_and_what_is_answered(server):
    paths = json.loads(server.ask("GET", "/openapi.json").text)["paths"]

    def taken(path):
        return set(paths[path]["post"]["requestBody"]["content"])

    def answered(path, method):
        return set(paths[path][method]["responses"]["200"]["content"])

    assert answered("/metrics", "get") == {"text/plain"}
    assert server.ask("GET", "/metrics").headers["content-type"].startswith("text/plain")
    assert taken("/predict") == {"image/*", "multipart/form-data", "application/json"}
    assert taken("/explain") == {"image/*"}
    both = {"application/json", "application/octet-stream"}
    for path in ("/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer"):
        assert taken(path) == answered(path, "post") == both


def test_it_can_be_mounted_in_another_application(server):
    from fastapi import FastAPI

    other = FastAPI()
    other.mount("/vision", server.app)

    async def run():
        transport = httpx.ASGITransport(other)
        async with httpx.AsyncClient(transport=transport, base_url="http://other") as client:
            return await client.post("/vision/predict", content=png(5))

    assert asyncio.run(run()).json()["predictions"][0]["class"] == "grey 5"


def test_below_another_application_the_same_addresses_need_the_key():
    from fastapi import FastAPI

    other = FastAPI()
    other.mount("/vision", Server(api_key="secret").app)

    async def statuses(*paths):
        transport = httpx.ASGITransport(other)
        async with httpx.AsyncClient(transport=transport, base_url="http://other") as client:
            return [(await client.get(f"/vision{path}")).status_code for path in paths]

    assert asyncio.run(statuses(*OPEN_TO_ALL)) == [200] * len(OPEN_TO_ALL)
    closed = ("/metrics", "/shares", "/v2/models/grey", "/healthz/", "/vision/healthz", "//")
    assert asyncio.run(statuses(*closed)) == [401] * len(closed)


@pytest.mark.parametrize(
    "path", ["/", "/healthz", "/metrics", "/v2/health/live", "/v2/models/none"]
)
def test_a_head_request_is_that_of_get_without_the_body(path, server, caplog):
    caplog.set_level("INFO")
    whole, head = server.ask("GET", path), server.ask("HEAD", path)
    assert head.status_code == whole.status_code != 405
    assert head.headers["content-type"] == whole.headers["content-type"]
    assert int(head.headers["content-length"]) > 0
    assert whole.content
    assert not head.content
    methods = [record.facts["method"] for record in caplog.records if hasattr(record, "facts")]
    assert methods == ["GET", "HEAD"]
    refused = server.ask("HEAD", "/predict")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")


def test_a_misspelt_name_in_the_query_is_refused(server):
    said = server.predict(png(1), params={"topk": 3})
    assert said.status_code == 422
    assert said.json() == {"error": "there is no 'topk'; there are: top_k, model, version"}
