"""Routes whose functions read the request themselves."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.routing import APIRoute
from starlette.responses import Response

_Function = TypeVar("_Function", bound=Callable[..., Awaitable[Response]])


class DirectRoute(APIRoute):
    """A route whose function gets the request and what its path names, and returns a response.

    FastAPI's own way from a request to arguments takes as long as a small network; its description
    of the API shows such a route like any other.
    """

    def get_route_handler(self) -> Callable[[Request], Any]:
        """Return the function without FastAPI's arguments around it."""

        async def handle(request: Request) -> Response:
            answer: Response = await self.endpoint(request, **request.path_params)
            return answer

        return handle


def direct(app: FastAPI, path: str, **described: Any) -> Callable[[_Function], _Function]:
    """Return a decorator that makes a function the `DirectRoute` of POST requests to a path.

    Args:
        app: Application.
        path: Path, with placeholders.
        described: What the description of the API says, as for `FastAPI.post`.
    """

    def added(function: _Function) -> _Function:
        app.router.add_api_route(
            path, function, methods=["POST"], route_class_override=DirectRoute, **described
        )
        return function

    return added
