"""Who may come into the studio: its own browser, with the token, and nobody else."""

import asyncio
import re
import time

import pytest

from convscope.studio.gate import MAX_BODY, Gate

TOKEN = "t" * 43
COOKIE = f"convscope_studio_8100={TOKEN}"


class Studio:
    """Application behind the gate, which keeps the bodies of the requests that came in."""

    def __init__(self):
        self.asked = []

    async def __call__(self, scope, receive, send):
        received = b""
        while scope["type"] == "http":
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            received += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.asked.append(received)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})


def ask(path="/", *, method="GET", query="", kind="http", body=b"", gate=None, **headers):
    """Return (status, headers, body, whether the studio itself was asked)."""
    studio, sent = Studio(), []
    gate = gate or Gate(studio, TOKEN, 8100)

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        sent.append(message)

    fields = {"host": "127.0.0.1:8100", **{k.replace("_", "-"): v for k, v in headers.items()}}
    scope = {
        "type": kind,
        "path": path,
        "query_string": query.encode(),
        "headers": [(k.encode(), v.encode()) for k, v in fields.items()],
    }
    if kind == "http":
        scope["method"] = method
    asyncio.run(gate(scope, receive, send))
    if not sent:
        return None, {}, b"", bool(studio.asked)
    found = {k.decode(): v.decode() for k, v in sent[0].get("headers", ())}
    content = sent[1]["body"] if len(sent) > 1 else b""
    return sent[0].get("status", sent[0].get("code")), found, content, bool(studio.asked)


def led_to(page: bytes) -> str:
    """Return the address to which a page goes by itself."""
    return re.search(r'http-equiv="refresh" content="0; url=([^"]*)"', page.decode())[1]


def test_the_first_visit_gets_a_cookie_and_an_address_without_the_token():
    status, headers, body, asked = ask("/runs", query=f"token={TOKEN}&a=1&b=%22%3E%3Cx")
    # Not a redirect, which browsers follow without the cookie if another site's page began it.
    assert (status, asked) == (200, False)
    assert led_to(body) == "/runs?a=1&amp;b=%22%3E%3Cx"
    assert TOKEN.encode() not in body
    assert headers["set-cookie"].startswith(f"{COOKIE}; ")
    assert "HttpOnly; SameSite=Strict" in headers["set-cookie"]
    assert headers["referrer-policy"] == "no-referrer"
    status, headers, body, asked = ask("/runs", cookie=f"other=1; {COOKIE}")
    assert (status, body, asked) == (200, b"hello", True)
    assert "frame-ancestors 'self'" in headers["content-security-policy"]


@pytest.mark.parametrize(
    "cookie",
    [
        f'other={{"a":1}}; {COOKIE}',
        f"x=a b c; {COOKIE}",
        f"user[name]=x;{COOKIE} ",
        f'{COOKIE}; x="a"b',
        f"none; =; {COOKIE}",
        f"convscope_studio_8100=old; {COOKIE}",
    ],
)
def test_cookies_of_other_programs_do_not_lock_the_studio(cookie):
    assert ask("/runs", cookie=cookie)[0] == 200
    assert ask("/runs", cookie=cookie.replace(TOKEN, "other"))[0] == 401


def test_a_ticket_admits_one_visit_and_soon_none(monkeypatch):
    gate = Gate(Studio(), TOKEN, 8100)
    for query in ("ticket=", "ticket=None"):
        assert ask(query=query, gate=gate)[0] == 401
    first, second = (gate.new_ticket() for _ in range(2))
    assert ask(query=f"ticket={first}", gate=gate)[0] == 401  # a newer one took its place
    status, headers, body, _ = ask("/runs", query=f"ticket={second}&a=1", gate=gate)
    assert status == 200
    assert headers["set-cookie"].startswith(f"{COOKIE}; ")
    assert led_to(body) == "/runs?a=1"
    assert ask(query=f"ticket={second}", gate=gate)[0] == 401
    late = gate.new_ticket()
    began = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: began + 61)
    assert ask(query=f"ticket={late}", gate=gate)[0] == 401


@pytest.mark.parametrize("path", ["//evil.example/x", "/\\evil.example", "/\r\nx: y"])
def test_the_first_visit_leads_to_no_other_host(path):
    location = led_to(ask(path, query=f"token={TOKEN}")[2])
    assert location[0] == "/"
    assert location[1] not in "/\\"
    assert "\r" not in location
    assert "\n" not in location


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"query": "token=wrong"},
        {"cookie": "convscope_studio_8100=wrong"},
        {"cookie": f"convscope_studio_8101={TOKEN}"},
        {"cookie": "\x01=;;="},
        {"method": "POST", "query": f"token={TOKEN}"},
    ],
)
def test_without_the_token_nobody_comes_in(given):
    status, headers, body, asked = ask(accept="text/html", **given)
    assert (status, asked) == (401, False)
    assert b"convscope studio" in body
    assert "set-cookie" not in headers


@pytest.mark.parametrize(
    "given",
    [
        {"host": "evil.example:8100"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:3000"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site", "sec_fetch_mode": "no-cors"},
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "method": "POST"},
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_pages_of_other_sites_are_refused_even_with_the_cookie(given, kind):
    status, _, _, asked = ask(cookie=COOKIE, kind=kind, **given)
    assert (status, asked) == (403 if kind == "http" else 1008, False)


def test_its_own_pages_and_links_to_it_are_let_in():
    own = {"cookie": COOKIE, "origin": "http://127.0.0.1:8100", "sec_fetch_site": "same-origin"}
    assert ask(method="POST", **own)[3]
    assert ask(kind="websocket", **own)[3]
    assert ask(host="localhost:8100", cookie=COOKIE)[3]
    assert ask(cookie=COOKIE, sec_fetch_site="cross-site", sec_fetch_mode="navigate")[3]


def test_a_socket_without_the_cookie_is_closed():
    assert ask(kind="websocket") == (1008, {}, b"", False)


def test_large_bodies_are_refused_by_their_length_and_by_their_bytes():
    assert ask(method="POST", cookie=COOKIE, content_length=str(MAX_BODY + 1))[0] == 413
    assert ask(method="POST", cookie=COOKIE, content_length="x")[0] == 413
    assert ask(method="POST", cookie=COOKIE, body=b"x" * (MAX_BODY + 1))[3] is False
    assert ask(method="POST", cookie=COOKIE, body=b"x" * MAX_BODY)[3] is True
    # Uploads have limits of their own.
    assert ask("/upload/images", method="POST", cookie=COOKIE, body=b"x" * (MAX_BODY + 1))[3]
