"""Routes that authenticate their caller before they read a body.

FastAPI reads a body before it resolves dependencies, so the body of an unknown caller would be in
memory before the key is checked. `GuardedRoute` resolves the route's caller dependency first, so
that the server can refuse a request after reading only the headers.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from api.dependencies import OwnerWith


class GuardedRoute(APIRoute):
    """A route whose caller is resolved before its body is read."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, which resolves the caller first and counts the request once."""
        handle = super().get_route_handler()
        if self.body_field is None:  # no body is read before the dependencies
            return handle
        calls = [dependency.call for dependency in self.dependant.dependencies]
        guards = [call for call in calls if isinstance(call, OwnerWith)]

        async def guarded(request: Request) -> Response:
            for guard in guards:
                await guard(request)
            return await handle(request)

        return guarded
