"""Headers of every response: nothing from another origin runs, no other site can frame a page, pages are not cached,
and their addresses do not reach other sites.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

Handler = Callable[[Request], Awaitable[Response]]

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'"
)
"""No inline script or style, so text that was escaped wrongly still runs nothing."""
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Other sites learn nothing; with `no-referrer`, browsers would send `Origin: null` with our own forms.
    "Referrer-Policy": "same-origin",
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
    """Middleware that adds the headers; an answer may set a policy of its own."""

    def __init__(self, *, is_https: bool) -> None:
        """`is_https`: the public address of the portal begins with https://."""
        self._headers = HEADERS | ({"Strict-Transport-Security": STRICT_TRANSPORT} if is_https else {})

    async def __call__(self, request: Request, call_next: Handler) -> Response:
        """The answer with the headers."""
        response = await call_next(request)
        if request.url.path.startswith("/static/"):
            response.headers.setdefault("Cache-Control", STATIC_CACHE)
        self.add_to(response)
        return response

    def add_to(self, response: Response) -> None:
        """Add the headers to an answer that is not cached unless it says so."""
        # An own policy says who may frame the page; X-Frame-Options knows no list of origins.
        has_policy = "Content-Security-Policy" in response.headers
        for name, value in self._headers.items():
            if name != "X-Frame-Options" or not has_policy:
                response.headers.setdefault(name, value)
        response.headers.setdefault("Cache-Control", "no-store")
