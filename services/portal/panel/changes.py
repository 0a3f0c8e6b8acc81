"""Why a number that was final is another one today; and what explains a rate that is 0 or missing."""

from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from services.common.postgres import Statements
from services.portal.panel.findings import findings
from services.portal.panel.overview import missing
from services.portal.panel.reader import PanelGate
from services.portal.panel.scope import SQL, chosen_scope

PAGE_ROWS: Final = 50


def routes(gate: PanelGate) -> APIRouter:
    """The routes of the pages."""
    router = APIRouter()

    @router.get("/panel/changes")
    def list_changes(request: Request) -> Response:
        scope = chosen_scope(gate.reader(request))
        rows, following = scope.page("corrections", PAGE_ROWS, request.query_params.get("after"))
        return scope.reader.page(
            "panel_changes.html", scope=scope, here_name="changes", corrections=rows, following=following
        )

    @router.get("/panel/diagnosis")
    def show_diagnosis(request: Request) -> Response:
        scope = chosen_scope(gate.reader(request))
        with scope.reader.transaction() as connection:
            statements = Statements(connection, SQL)
            rate = statements.one("rate", **scope.key())
            mailboxes = statements.all("mailboxes", **scope.own_key())
        return scope.reader.page(
            "panel_diagnosis.html", scope=scope, here_name="diagnosis", rate=rate, findings=findings(scope),
            missing=None if rate is None else missing(rate, scope), mailboxes=mailboxes,
        )  # fmt: skip

    return router
