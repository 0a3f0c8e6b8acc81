"""What applies to every request to the API: headers that a request collects, and errors that nothing expects."""

from collections.abc import Mapping
from logging import getLogger
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.portal.api.problems import ApiProblem, answer

log = getLogger(__name__)

_HEADERS: Final = "api_headers"


def add_headers(request: Request, headers: Mapping[str, str]) -> None:
    """Add headers to the answer of a request, also when it is a problem."""
    collected: dict[str, str] = request.scope["state"][_HEADERS]
    collected.update(headers)


class ApiEdge:
    """The outermost middleware of the API's own application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        collected: dict[str, str] = {}
        scope.setdefault("state", {})[_HEADERS] = collected
        is_answered = False

        async def send_with_headers(message: Message) -> None:
            nonlocal is_answered
            if message["type"] == "http.response.start":
                is_answered = True
                headers = MutableHeaders(raw=message["headers"])
                for name, value in collected.items():
                    headers.setdefault(name, value)
                message["headers"] = headers.raw
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception:
            log.exception("a request to the API failed", extra={"action": "request-failed"})
            if is_answered:
                raise
            await answer(ApiProblem("server-error"), Request(scope))(scope, receive, send_with_headers)
