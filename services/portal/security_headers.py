"""Headers of every response: nothing from another origin runs, no other site can frame a page, pages are not cached,
and their addresses do not reach other sites.
"""

from collections.abc import Sequence
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'"
)
"""No inline script or style, so text that was escaped wrongly still runs nothing."""
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # A path may contain the token of a link or the code of a sign-in, and proxies log Referer also with requests for style sheets. With
    # `no-referrer`, browsers would send `Origin: null` with our own forms.
    "Referrer-Policy": "strict-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
}
STRICT_TRANSPORT: Final = "max-age=31536000; includeSubDomains"
STATIC_CACHE: Final = "public, max-age=86400"


def framed_by(origins: Sequence[str]) -> str:
    """The policy of a page that the pages of some origins may frame."""
    return POLICY.replace("frame-ancestors 'none'", f"frame-ancestors {' '.join(origins)}")


class SecurityHeaders:
    """Adds the headers to every answer. A pure ASGI middleware around everything else, so pages of refusals and of errors have them too."""

    def __init__(self, app: ASGIApp, *, is_https: bool) -> None:
        """`is_https`: the public address of the portal begins with https://."""
        self._app = app
        self._is_https = is_https

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and its answer back with the headers."""

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if scope["path"].startswith("/static/"):
                    headers.setdefault("Cache-Control", STATIC_CACHE)
                add_security_headers(headers, is_https=self._is_https)
            await send(message)

        await self._app(scope, receive, answer)


def add_security_headers(headers: MutableHeaders, *, is_https: bool) -> None:
    """Add the headers to those of an answer, which may have a policy of its own. It is not cached unless it says so."""
    # An own policy says who may frame the page; X-Frame-Options knows no list of origins.
    has_policy = "Content-Security-Policy" in headers
    for name, value in HEADERS.items():
        if name != "X-Frame-Options" or not has_policy:
            headers.setdefault(name, value)
    if is_https:
        headers.setdefault("Strict-Transport-Security", STRICT_TRANSPORT)
    headers.setdefault("Cache-Control", "no-store")
