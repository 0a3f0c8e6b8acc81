"""The first page: search for a company, an account, a mailbox or an inquiry."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from services.portal.console.staff import StaffGate


def routes(gate: StaffGate) -> APIRouter:
    """The route of the page."""
    router = APIRouter()

    @router.get("/")
    def search(request: Request) -> Response:
        return gate.reader(request).page("console_search.html", "search")

    return router
