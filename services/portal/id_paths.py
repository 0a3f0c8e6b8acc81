"""Paths with ids: the platform may give a company, an account or a mailbox any id, also one with `/`."""

import re
from typing import Final
from urllib.parse import unquote

from starlette.types import ASGIApp, Receive, Scope, Send

_SPECIAL: Final = re.compile(r"[%/\x00-\x1f\x7f]")


class IdPaths:
    """Middleware in front of all routes: makes paths with ids routable, whatever the ids contain."""

    def __init__(self, app: ASGIApp, prefixes: tuple[str, ...]) -> None:
        """`prefixes`: what such paths begin with."""
        self._app = app
        self._prefixes = prefixes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] == "http" and scope["path"].startswith(self._prefixes):
            scope["path"] = routable(scope.get("raw_path") or scope["path"].encode())
        await self._app(scope, receive, send)


def routable(raw_path: bytes) -> str:
    """The path with its escapes resolved but those of `/`, `%` and control characters: in an id they are none of the path's, and
    routes match no line feed."""
    segments = raw_path.partition(b"?")[0].decode("latin-1").split("/")
    return "/".join(_SPECIAL.sub(lambda match: f"%{ord(match[0]):02X}", unquote(segment)) for segment in segments)


def path_id(segment: str) -> str:
    """The id that a segment of a routable path stands for."""
    return unquote(segment)
