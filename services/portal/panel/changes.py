"""Why a number that was final is another one today; and what explains a rate that is 0 or missing."""

from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from services.common.postgres import Statements
from services.portal.panel.findings import findings
from services.portal.panel.overview import missing
from services.portal.panel.reader import PanelGate
from services.portal.panel.scope import SQL, PanelScope, chosen_scope
from services.portal.panel.steps import offer, withdrawable

PAGE_ROWS: Final = 50
CONCERNED: Final = 20
"""Accounts that the page of the company leads to; it says how many more there are."""


def routes(gate: PanelGate) -> APIRouter:
    """The routes of the pages."""
    router = APIRouter()

    @router.get("/panel/changes")
    def list_changes(request: Request) -> Response:
        scope = chosen_scope(gate.reader(request))
        with scope.reader.transaction() as connection:
            rows, following = scope.page(connection, "corrections", PAGE_ROWS, request.query_params.get("after"))
        return scope.reader.page(
            "panel_changes.html", scope=scope, here_name="changes", corrections=rows, following=following
        )

    @router.get("/panel/diagnosis")
    def show_diagnosis(request: Request) -> Response:
        scope = chosen_scope(gate.reader(request))
        with scope.reader.transaction() as connection:
            statements = Statements(connection, SQL)
            rate = statements.one("rate", **scope.key())
            mailboxes = statements.all("mailboxes", **scope.own_key()) if scope.whose == "own" else []
            concerned, more_concerned = _accounts_concerned(scope, statements)
            shown_findings = findings(scope, connection)
        offers = {
            finding.cause: offer(finding.step, scope.whose, mailboxes, is_framed=scope.reader.session.is_framed)
            for finding in shown_findings
        }
        withdrawals = {
            finding.cause: withdrawable(finding.cause, scope.whose, mailboxes, is_framed=scope.reader.session.is_framed)
            for finding in shown_findings
        }
        return scope.reader.page(
            "panel_diagnosis.html", scope=scope, here_name="diagnosis", rate=rate, findings=shown_findings,
            missing=None if rate is None else missing(rate, scope), offers=offers, withdrawals=withdrawals, concerned=concerned,
            more_concerned=more_concerned,
        )  # fmt: skip

    return router


def _accounts_concerned(scope: PanelScope, statements: Statements) -> tuple[list[str], int]:
    """The accounts without a rate above 0, if the page is about the company, and the number of further ones. Which cause is whose is shown
    to each itself."""
    if scope.whose != "company":
        return [], 0
    rates = statements.all("accounts_concerned", **scope.key(), limit=CONCERNED)
    return [rate["account_id"] for rate in rates], rates[0]["total"] - len(rates) if rates else 0
