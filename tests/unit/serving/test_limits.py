"""What a body costs: members of gzip, what is held of one that fails, lists in JSON."""

import asyncio
import gzip
import json
import zlib

import pytest

from convscope.serving.limits import Bodies, ClientGoneError, Limits, RefusedError, parse_json


def body_of(content: bytes, encoding: str, limits: Limits | None = None) -> bytes:
    """Return a body as the server reads it; nothing of it is held afterwards."""
    bodies = Bodies(limits or Limits())

    async def receive():
        return {"type": "http.request", "body": content}

    async def read():
        async with bodies.read(receive, b"", encoding) as body:
            return body

    try:
        return asyncio.run(read())
    finally:
        assert bodies.held == 0


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip"])
def test_members_of_gzip_follow_one_another(encoding):
    parts = [b"abc", b"", bytes(range(256)) * 1000, b"def"]
    body = b"".join(gzip.compress(part, compresslevel=0) for part in parts)
    assert body_of(body, encoding) == b"".join(parts)


@pytest.mark.parametrize(
    ("encoding", "body", "status", "words"),
    [
        ("gzip", gzip.compress(b"abc") + b"x", 400, "not valid gzip"),
        ("gzip", gzip.compress(b"abc") + gzip.compress(b"def")[:-1], 400, "ends too early"),
        ("gzip", gzip.compress(b"abc") + zlib.compress(b"def"), 400, "not valid gzip"),
        ("gzip", gzip.compress(bytes(60)) * 2, 413, "the body is over"),
        ("gzip", gzip.compress(b"") * 10_001, 413, "more than 10,000 gzip members"),
        ("deflate", zlib.compress(b"abc") + b"x", 400, "more follows its end"),
        ("deflate", zlib.compress(b"abc") + zlib.compress(b"def"), 400, "more follows its end"),
    ],
    # gzip has the time in it, and processes that share the tests must name them alike.
    ids=lambda value: "" if isinstance(value, bytes) else None,
)
def test_what_follows_a_compressed_body_is_read_or_refused(encoding, body, status, words):
    with pytest.raises(RefusedError, match=words) as refused:
        body_of(body, encoding, Limits(max_body=100 if len(body) < 100 else 1_000_000))
    assert refused.value.status == status
    assert body_of(gzip.compress(b"") * 9_999 + gzip.compress(b"abc"), "gzip") == b"abc"


@pytest.mark.parametrize(
    ("then", "error"), [("silence", RefusedError), ("http.disconnect", ClientGoneError)]
)
def test_nothing_is_held_of_a_body_that_does_not_come_to_its_end(then, error):
    bodies = Bodies(Limits(body_s=0.05))
    held = []

    async def receive():
        held.append(bodies.held)
        if len(held) == 1:
            return {"type": "http.request", "body": bytes(1000), "more_body": True}
        if then == "silence":
            await asyncio.sleep(5)
        return {"type": then}

    async def read():
        async with bodies.read(receive, b"", ""):
            pytest.fail("it is not whole")

    with pytest.raises(error) as raised:
        asyncio.run(read())
    assert getattr(raised.value, "status", 408) == 408
    assert held == [0, 1000]
    assert bodies.held == 0


def test_lists_of_json_are_counted_before_they_are_made(monkeypatch):
    monkeypatch.setattr("convscope.serving.limits._MOST_LISTS", 3)
    assert parse_json(b'{"images":[[]]}') == {"images": [[]]}
    for content in ({"images": [[], [], []]}, {"images": [{}, {}]}):
        with pytest.raises(RefusedError, match="more than 3 lists") as refused:
            parse_json(json.dumps(content).encode())
        assert refused.value.status == 413
