"""Addresses of most requests: their functions read the request themselves."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from starlette.responses import Response
from starlette.routing import Route

from convscope.serving.door import Scope, Send, own_path
from convscope.serving.limits import Receive

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

        The function gets the request and what the path names. What it raises, a refusal or a
        defect, is answered by the `Door` in front.

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
            path = own_path(scope)
            for route, function in self._routes:
                if found := route.path_regex.match(path):
                    scope["route"] = route
                    response = await function(Request(scope, receive), **found.groupdict())
                    await response(scope, receive, send)
                    return
        await self._app(scope, receive, send)
