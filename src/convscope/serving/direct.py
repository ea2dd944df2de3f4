"""Addresses of most requests: their functions read the request themselves."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from convscope.serving.door import Scope, Send
from convscope.serving.limits import Receive, RefusedError

BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
"""What the description of the API says of a body of bytes."""

_Function = TypeVar("_Function", bound=Callable[..., Awaitable[Response]])


class Direct:
    """ASGI application in front of another, which gets all requests but those of its own addresses.

    FastAPI's way from a request to a function takes as long as a small network. It has these
    addresses, too: for its description of the API, and to refuse other methods.

    Args:
        app: The application behind.
    """

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._routes: list[tuple[Route, Callable[..., Awaitable[Response]]]] = []

    def post(self, path: str, **described: Any) -> Callable[[_Function], _Function]:
        """Return a decorator that makes a function the answer to POST requests to a path.

        The function gets the request and what the path names, and may raise `RefusedError`.

        Args:
            path: Path, with placeholders.
            described: What the description of the API says, as for `FastAPI.post`.
        """

        def added(function: _Function) -> _Function:
            self._app.post(path, **described)(function)
            self._routes.append((Route(path, function), function))
            return function

        return added

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let the application behind do it."""
        if scope["type"] == "http" and scope["method"] == "POST":
            # The place where another application has mounted this one is before the path.
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            for route, function in self._routes:
                if found := route.path_regex.match(path):
                    scope["route"] = route
                    try:
                        response = await function(Request(scope, receive), **found.groupdict())
                    except RefusedError as refusal:
                        response = refused(refusal)
                    await response(scope, receive, send)
                    return
        await self._app(scope, receive, send)


def refused(error: RefusedError) -> Response:
    """Return the answer to a request that is refused."""
    headers = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
    return JSONResponse({"error": error.text}, error.status, headers)
