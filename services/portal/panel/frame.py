"""The panel within a frame on a page of the platform: an empty page whose script fetches the pages of the panel with a token."""

from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse

from services.portal.pages.templates import LANGUAGE_TAGS, page, preferred_language
from services.portal.panel.texts import text
from services.portal.resources import PortalResources
from services.portal.security_headers import framed_by

NOTES: Final = ("lost", "refused", "ended", "asked")
"""What the script says above a page, in the language that the page has by then."""


def routes(resources: PortalResources) -> APIRouter:
    """The route of the page."""
    router = APIRouter()
    origins = resources.settings.portal.frame_origins

    @router.get("/panel/frame", response_class=HTMLResponse)
    def frame(request: Request) -> HTMLResponse:
        language = preferred_language(request)
        response = page(
            request, "panel_frame.html", language, origins=" ".join(origins), waiting=text("frame.waiting", language), no_script=text("frame.no_script", language),
            notes={f"{name}-{tongue}": text(f"frame.{name}", tongue) for name in NOTES for tongue in LANGUAGE_TAGS},
            title=text("nav.label", language),
        )  # fmt: skip
        del response.headers["set-cookie"]  # of the chosen language: a frame sets none
        if origins:
            response.headers["Content-Security-Policy"] = framed_by(origins)
        return response

    return router
