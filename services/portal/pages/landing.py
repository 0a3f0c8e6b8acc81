"""The page at the root: what this site is, for somebody who typed its address."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse

from services.portal.pages.templates import page, preferred_language


def routes() -> APIRouter:
    """The route of the page."""
    router = APIRouter()

    @router.get("/", response_class=HTMLResponse)
    def landing(request: Request) -> HTMLResponse:
        return page(request, "landing.html", preferred_language(request))

    return router
