"""Limits of a request: its host, its size and how long its body may take. A pure ASGI middleware, so it sees the body as it arrives.

A request for another host is refused, so a forged Host header reaches no link that is sent to anybody. Its scheme is that of the public
address: behind a proxy that ends TLS a request arrives without it.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, Literal
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_BYTES: Final = 64 * 1024
"""Of a form or a JSON document."""
BULK_BYTES: Final = 16 * 1024 * 1024
"""Of a bulk import or a batch of inquiries."""
BULK_FACTOR: Final = 6
"""How many times as long as another body that of a bulk import or a batch may take."""


class RequestRefused(Exception):
    """The request breaks a limit while its body is read."""


LimitCode = Literal["wrong-host", "body-too-large", "body-too-slow"]
Refusal = Callable[[Request, LimitCode, Mapping[str, str | int]], Response]
"""The answer to a refused request: its code and the values of its text (services/portal/api/problems.toml, pages/texts.toml)."""


class RequestLimits:
    """Refuses requests for other hosts (421), bodies that are too large (413) or too slow (408)."""

    def __init__(
        self, app: ASGIApp, *, origin: str, bulk_paths: frozenset[str], body_seconds: int, refusal: Refusal
    ) -> None:
        """`origin`: the public address, whose host alone is answered; `bulk_paths` may have large bodies.

        `body_seconds`: how long the body of a request may take to arrive.
        """
        self._app = app
        self._scheme, self._host = urlsplit(origin)[:2]
        self._bulk_paths = bulk_paths
        self._body_seconds = body_seconds
        self._refusal = refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = {**scope, "scheme": self._scheme}

        async def refuse(code: LimitCode, values: Mapping[str, str | int]) -> None:
            response = self._refusal(Request(scope), code, values)
            response.headers["Connection"] = "close"
            response.headers["Cache-Control"] = "no-store"
            await response(scope, receive, send)

        headers = dict(scope["headers"])
        if headers.get(b"host", b"").decode("latin-1").lower() != self._host:
            await refuse("wrong-host", {})
            return
        is_bulk = scope["path"] in self._bulk_paths
        limit = BULK_BYTES if is_bulk else BODY_BYTES
        seconds = self._body_seconds * (BULK_FACTOR if is_bulk else 1)
        declared = headers.get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > limit:
            await refuse("body-too-large", {"bytes": limit})
            return
        body = _LimitedBody(receive, limit, seconds)
        is_answered = False

        async def answer(message: Message) -> None:
            nonlocal is_answered
            if body.refusal is None or is_answered:
                is_answered = True
                await send(message)

        try:
            # Frameworks turn an error while the body is read into an answer of their own, which is left out.
            await self._app(scope, body.receive, answer)
        except RequestRefused:
            pass
        if body.refusal is not None and not is_answered:
            await refuse(*body.refusal)


class _LimitedBody:
    """The body of one request, counted and timed."""

    def __init__(self, receive: Receive, limit: int, seconds: int) -> None:
        self._receive = receive
        self._limit = limit
        self._seconds = seconds
        self._deadline: float | None = None
        self._received = 0
        self._is_complete = False
        self.refusal: tuple[LimitCode, dict[str, str | int]] | None = None
        """Code and values of its text, once the body has broken a limit."""

    async def receive(self) -> Message:
        if self._is_complete:
            return await self._receive()  # only the end of the connection is left
        now = asyncio.get_running_loop().time()
        self._deadline = self._deadline or now + self._seconds
        try:
            message = await asyncio.wait_for(self._receive(), self._deadline - now)
        except TimeoutError:
            self.refusal = ("body-too-slow", {"seconds": self._seconds})
            raise RequestRefused from None
        self._received += len(message.get("body", b""))
        if self._received > self._limit:
            self.refusal = ("body-too-large", {"bytes": self._limit})
            raise RequestRefused
        self._is_complete = not message.get("more_body", False)
        return message
