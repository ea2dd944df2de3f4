"""Entrance of the studio: only the browser of the person who started it comes in."""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from html import escape
from typing import Any
from urllib.parse import parse_qsl, urlencode

from convscope.serving.door import is_local_name

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

UPLOADS = "/upload"
"""Path of uploads, which have limits of their own."""

MAX_BODY = 4 * 1024**2
"""Largest body of any other request, in bytes."""

_TICKET_S = 60
"""Seconds within which a browser that is started opens its page."""

_POLICY = (
    # NiceGUI compiles the templates of its elements in the browser, and starts with a script in
    # the page; nothing comes from another host.
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "media-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'self'"
)
_HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"SAMEORIGIN",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"content-security-policy": _POLICY.encode(),
}
_CLOSED = (
    "<!doctype html><meta charset=utf-8><meta name=viewport content='width=device-width'>"
    "<title>convscope studio</title><body style='font:17px/1.5 system-ui;max-width:34em;"
    "margin:15vh auto;padding:0 1em'><h1 style='font-size:1.3em'>This studio is locked</h1>"
    "<p>Open the address that <code>convscope studio</code> printed in its terminal: it ends in a "
    "token, which your browser then remembers.</p>"
)
_WELCOME = (
    "<!doctype html><meta charset=utf-8><title>convscope studio</title>"
    '<meta http-equiv="refresh" content="0; url={place}"><a href="{place}">Open the studio</a>'
)


class _Refused(Exception):  # noqa: N818 - an answer, not a failure
    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Gate:
    """ASGI application before the studio.

    Args:
        app: Application that answers whoever may come in.
        token: Secret in the address; after the first visit a cookie has it.
        port: Port of the studio: cookies are shared by all ports of a host.
    """

    def __init__(self, app: App, token: str, port: int) -> None:
        self._app = app
        self._token = token
        self._cookie = f"convscope_studio_{port}"
        self._ticket, self._expires = "", 0.0

    def new_ticket(self) -> str:
        """Return what admits one visit in the next minute, in place of the token."""
        self._ticket, self._expires = secrets.token_urlsafe(32), time.monotonic() + _TICKET_S
        return self._ticket

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        try:
            _require_own(scope, headers)
            if self._is_first_visit(scope):
                await self._welcome(scope, send)
                return
            if not self._is_known(headers):
                raise _Refused(401, "open the address that 'convscope studio' printed")
            if scope["type"] == "http" and not scope["path"].startswith(UPLOADS):
                receive = _limited(headers, receive)
            await self._answer(scope, receive, _with_headers(send))
        except _Refused as refusal:
            await _refuse(scope, headers, send, refusal)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = False

        async def watched() -> Message:
            nonlocal gone
            message = await receive()
            gone = gone or message["type"] == "http.disconnect"
            return message

        try:
            await self._app(scope, watched, send)
        except RuntimeError:
            # Starlette complains that nobody was answered, if the browser left before.
            if not gone:
                raise

    def _is_first_visit(self, scope: Scope) -> bool:
        if scope["type"] != "http" or scope["method"] != "GET":
            return False
        asked = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        if "ticket" in asked and _equal(asked["ticket"], self._ticket):
            valid, self._ticket = bool(self._ticket) and time.monotonic() < self._expires, ""
            return valid
        return "token" in asked and _equal(asked["token"], self._token)

    def _is_known(self, headers: dict[str, str]) -> bool:
        # Python's own reader gives up at what it cannot read, such as the {"a":1} of another
        # program of this machine, whose cookies come too.
        pairs = (each.partition("=") for each in headers.get("cookie", "").split(";"))
        sent = [value.strip() for name, _, value in pairs if name.strip() == self._cookie]
        return any(_equal(value, self._token) for value in sent)

    async def _welcome(self, scope: Scope, send: Send) -> None:
        """Give the cookie, and lead to the same page without the token."""
        pairs = parse_qsl(scope["query_string"].decode("latin-1"))
        rest = urlencode([(key, value) for key, value in pairs if key not in ("token", "ticket")])
        # One slash: two would name another host.
        place = "/" + scope["path"].lstrip("/\\") + (f"?{rest}" if rest else "")
        place = escape(re.sub(r"[^\x21-\x7e]", "", place))
        cookie = f"{self._cookie}={self._token}; Path=/; HttpOnly; SameSite=Strict; Max-Age=2592000"
        # A page that goes on by itself, not a redirect: after a click on the address in a page of
        # another site, browsers would follow that without the cookie, as the other site's wish.
        body = _WELCOME.format(place=place).encode()
        fields = [(b"content-type", b"text/html; charset=utf-8"), (b"set-cookie", cookie.encode())]
        fields += [(b"cache-control", b"no-store"), (b"content-length", str(len(body)).encode())]
        await _with_headers(send)({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": body})


def _require_own(scope: Scope, headers: dict[str, str]) -> None:
    """Reject what a page of another site, or another name for this machine, could send.

    Raises:
        _Refused: With status 403.
    """
    host = headers.get("host", "")
    if not is_local_name(host, ()):
        raise _Refused(403, "the studio answers at localhost and at IP addresses only")
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != host:
        raise _Refused(403, "pages of other sites may not send requests to the studio")
    # Other ports of this machine are the same site, but not the same origin.
    opened = headers.get("sec-fetch-mode") == "navigate" and scope.get("method") == "GET"
    if headers.get("sec-fetch-site") in ("cross-site", "same-site") and not opened:
        raise _Refused(403, "pages of other sites may not send requests to the studio")


def _equal(sent: str, token: str) -> bool:
    # Digests have one length, so that comparing takes the same time whatever was sent.
    first, second = (hashlib.sha256(each.encode()).digest() for each in (sent, token))
    return hmac.compare_digest(first, second)


def _limited(headers: dict[str, str], receive: Receive) -> Receive:
    """Return the source of a body that is refused once it is too large."""
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > MAX_BODY:
        raise _Refused(413, f"a request has at most {MAX_BODY // 1024**2} MB")
    received = 0

    async def counted() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > MAX_BODY:
            return {"type": "http.disconnect"}
        return message

    return counted


def _with_headers(send: Send) -> Send:
    async def reply(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = list(message.get("headers", ()))
            names = {name.lower() for name, _ in own}
            own += [pair for pair in _HEADERS.items() if pair[0] not in names]
            message = {**message, "headers": own}
        await send(message)

    return reply


async def _refuse(scope: Scope, headers: dict[str, str], send: Send, refusal: _Refused) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    page = refusal.status == 401 and "text/html" in headers.get("accept", "")
    body = (_CLOSED if page else f"{refusal}\n").encode()
    kind = b"text/html; charset=utf-8" if page else b"text/plain; charset=utf-8"
    fields = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    fields.append((b"cache-control", b"no-store"))
    await _with_headers(send)(
        {"type": "http.response.start", "status": refusal.status, "headers": fields}
    )
    await send({"type": "http.response.body", "body": body})
