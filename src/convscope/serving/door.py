"""Entrance of a server: who may ask, the body within its limits, and a line in the log for each."""

import asyncio
import hashlib
import hmac
import ipaddress
import json
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any

from convscope.errors import ConfigError
from convscope.serving.limits import Bodies, ClientGoneError, Limits, Receive, RefusedError
from convscope.serving.log import LOG, facts
from convscope.serving.metrics import Metrics

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


OPEN_TO_ALL = ("/", "/healthz", "/v2/health/live", "/v2/health/ready")
"""Paths that need no key: probes of health, and the page, which asks for the key."""

_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]
_POLICY = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
_WATCH_AFTER_S = 0.05
"""Seconds after which a request is worth the task that sees its client hang up."""
CLIENT_GONE = 499
"""Status in the log and the metrics, of a request whose client hung up."""


class Door:
    """ASGI application before the application proper.

    Args:
        app: Application that gets the whole body in one message.
        limits: Limits of requests.
        metrics: Metrics of the server.
        api_key: Key that a client has to send; None lets everybody in.
        hosts: Names under which the server may be addressed, besides IP addresses and "localhost";
            None allows all. A page of another site can otherwise reach a server on this machine
            by a name of its own that leads here.
        origins: Names of sites whose pages may send requests, besides the one that is addressed:
            a proxy in front of the server need not pass on its own name.
        log_requests: Whether each request is a line in the log.
    """

    def __init__(
        self,
        app: App,
        *,
        limits: Limits,
        metrics: Metrics,
        api_key: str | None = None,
        hosts: Collection[str] | None = None,
        origins: Collection[str] = (),
        log_requests: bool = True,
    ) -> None:
        self._app = app
        self._bodies = Bodies(limits)
        self._metrics = metrics
        self._key = None if api_key is None else _digest(api_key.encode())
        self._hosts = hosts
        self._origins = origins
        self._log_requests = log_requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, whatever happens in the application."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        start = time.perf_counter()
        headers = {name.decode("latin-1"): value for name, value in scope["headers"]}
        asked = headers.get("x-request-id", b"").decode("latin-1")
        request_id = asked if _SAFE_ID.fullmatch(asked) else secrets.token_hex(8)
        method = scope["method"]
        status = 0
        over = False

        async def reply(message: Message) -> None:
            nonlocal status, over
            if message["type"] == "http.response.start":
                status = message["status"]
                own = list(message.get("headers", ()))
                if not any(name == _POLICY[0] for name, _ in own):
                    own.append(_POLICY)
                own += [*_HEADERS, (b"x-request-id", request_id.encode())]
                message = {**message, "headers": own}
            else:
                over = not message.get("more_body")
                if method == "HEAD":
                    message = {**message, "body": b""}
            await send(message)

        scope = {**scope, "state": {**scope.get("state", {}), "request_id": request_id}}
        if method == "HEAD":  # at every address that of a GET request, without its body
            scope["method"] = "GET"
        self._metrics.in_progress.inc()
        try:
            self._require_allowed(scope, headers)
            length = headers.get("content-length", b"")
            encoding = headers.get("content-encoding", b"").decode("latin-1").strip().lower()
            async with self._bodies.read(receive, length, encoding) as body:
                task = asyncio.current_task()
                assert task is not None
                gone = False
                watching: asyncio.Future[Message] | None = None

                def hung_up(watching: "asyncio.Future[Message]") -> None:
                    nonlocal gone
                    if not watching.cancelled() and not over:
                        gone = True
                        task.cancel()

                def watch() -> None:
                    # After the body, the one message that can come is that the client hung up.
                    nonlocal watching
                    watching = asyncio.ensure_future(receive())
                    watching.add_done_callback(hung_up)

                later = asyncio.get_running_loop().call_later(_WATCH_AFTER_S, watch)
                try:
                    await self._app(scope, _replay(body), reply)
                except asyncio.CancelledError:
                    if not gone:
                        raise
                    task.uncancel()
                    raise ClientGoneError from None
                finally:
                    over = True
                    later.cancel()
                    if watching is not None:
                        watching.cancel()
        except ClientGoneError:
            status = CLIENT_GONE
        except RefusedError as refusal:
            await _refuse(reply, refusal)
        except Exception:
            LOG.exception("defect", extra=facts(id=request_id))
            if not status:
                text = f"the server failed; its log says why, at request {request_id}"
                await _refuse(reply, RefusedError(500, text))
        finally:
            self._metrics.in_progress.dec()
            seconds = time.perf_counter() - start
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.request(route, status, seconds)
            if self._log_requests:
                LOG.info(
                    "request", extra={"facts": _facts(scope, method, request_id, status, seconds)}
                )

    def _require_allowed(self, scope: Scope, headers: dict[str, bytes]) -> None:
        """Check the host, the origin and the key.

        Raises:
            RefusedError: If the request may not be answered (401, 403).
        """
        host = headers.get("host", b"").decode("latin-1")
        if self._hosts is not None and not is_local_name(host, self._hosts):
            raise RefusedError(
                403, "this host name is not served; start the server with --allow-host"
            )
        origin = headers.get("origin", b"").decode("latin-1")
        # With its port: at another one of the same machine is another site.
        site = origin.partition("://")[2]
        if (
            origin
            and scope["method"] not in ("GET", "OPTIONS")
            and site != host
            and site not in self._origins
        ):
            raise RefusedError(
                403,
                "pages of other sites may not send requests to this server; if this is its own "
                "page, let the proxy pass on the header Host, or start the server with "
                "--allow-host and the page's host name (and port, if its address has one)",
            )
        if self._key is None or own_path(scope) in OPEN_TO_ALL:
            return
        sent = headers.get("x-api-key", b"")
        scheme, _, token = headers.get("authorization", b"").partition(b" ")
        if not sent and scheme.lower() == b"bearer":
            sent = token.strip()
        if not hmac.compare_digest(_digest(sent), self._key):
            raise RefusedError(
                401, "send the server's key in the header 'Authorization: Bearer KEY'"
            )


def own_path(scope: Scope) -> str:
    """Return the path of a request, below the place where another application mounted this one."""
    path: str = scope["path"]
    below = path.removeprefix(scope.get("root_path", ""))
    return below if below.startswith("/") else path


def usable_key(api_key: str | None) -> str | None:
    """Return the key that clients have to send; None lets everybody in.

    Without blanks around it: a file that holds a secret mostly ends with a new line, which no
    header can hold.

    Raises:
        ConfigError: If nothing is left of it.
    """
    if api_key is not None and not api_key.strip():
        raise ConfigError(
            "the API key is empty; set one, or omit it (--api-key, CONVSCOPE_API_KEY)"
        )
    return None if api_key is None else api_key.strip()


def _digest(key: bytes) -> bytes:
    # Of one length, so that comparing takes the same time for every key.
    return hashlib.sha256(key).digest()


def is_local_name(host: str, allowed: Collection[str]) -> bool:
    """Return whether a header "host" has an IP address, "localhost" or an allowed name.

    An allowed name may have a port.
    """
    name = host.rpartition(":")[0] if re.search(r":\d*$", host) else host
    name = name.strip("[]").lower()
    if name == "localhost" or name in allowed or host.lower() in allowed:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _replay(body: bytes) -> Receive:
    """Return a source of messages with a whole body."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return messages.pop() if messages else await asyncio.Future()

    return receive


async def _refuse(send: Send, refusal: RefusedError) -> None:
    headers = [(b"content-type", b"application/json")]
    if refusal.retry_after is not None:
        headers.append((b"retry-after", str(refusal.retry_after).encode()))
    if refusal.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    body = json.dumps({"error": refusal.text}).encode()
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _facts(
    scope: Scope, method: str, request_id: str, status: int, seconds: float
) -> dict[str, object]:
    client = scope.get("client")
    return {
        "id": request_id,
        "client": client[0] if client else "",
        "method": method,
        "path": scope["path"][:200],
        "status": status,
        "ms": round(1000 * seconds, 2),
        **scope["state"].get("facts", {}),
    }
