"""The page for somebody without a session."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from services.portal.console.links import outside_page
from services.portal.console.problems import SIGN_IN_PATH
from services.portal.console.staff import StaffGate
from services.portal.pages.templates import preferred_language


def routes(gate: StaffGate) -> APIRouter:
    """The routes of the pages."""
    router = APIRouter()

    @router.get(SIGN_IN_PATH)
    def show(request: Request) -> Response:
        return outside_page(
            request, "console_sign_in.html", preferred_language(request), issuer=gate.resources.settings.console.issuer,
            has_signed_out="signed-out" in request.query_params,
        )  # fmt: skip

    return router
