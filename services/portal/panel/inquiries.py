"""The inquiries behind the rate, with filters; and why one of them counts as it does."""

from collections.abc import Sequence
from datetime import date
from typing import Any, Final, get_args

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from services.aggregator.explain import explain_inquiry
from services.aggregator.explanation_page import ExplanationPage, explanation_page
from services.aggregator.texts import Texts
from services.common.postgres import Statements, clock
from services.portal.api.explanations import without_mailboxes
from services.portal.api.figure_models import Outcome
from services.portal.pages.problems import PageProblem
from services.portal.panel.reader import PanelGate
from services.portal.panel.scope import SQL, PanelScope, chosen_scope

PAGE_ROWS: Final = 50
OUTCOMES: Final[tuple[str, ...]] = get_args(Outcome)
ID_CHARACTERS: Final = 128


def routes(gate: PanelGate) -> APIRouter:
    """The routes of the pages."""
    router = APIRouter()

    @router.get("/panel/inquiries")
    def list_inquiries(request: Request) -> Response:
        scope = chosen_scope(gate.reader(request))
        filters = outcome_filters(scope)
        after = request.query_params.get("after")
        with scope.reader.transaction() as connection:
            rows, following = scope.page(connection, "outcomes", PAGE_ROWS, after, **filters)
            is_main = scope.reader.session.is_main
            accounts, more = scope.page(connection, "accounts", PAGE_ROWS) if is_main else ([], None)
        listed = [account["account_id"] for account in accounts]
        return scope.reader.page(
            "panel_inquiries.html", scope=scope, here_name="inquiries", rows=rows, following=following, filters=filters,
            outcomes=OUTCOMES, accounts=account_choices(listed, scope.account_id, is_complete=more is None), query=query_of(filters),
        )  # fmt: skip

    @router.get("/panel/due")
    def list_due(request: Request) -> Response:
        scope = chosen_scope(gate.reader(request))
        with scope.reader.transaction() as connection:
            rows, following = scope.page(connection, "due-soon", PAGE_ROWS, request.query_params.get("after"))
            now = clock(connection)
        return scope.reader.page("panel_due.html", scope=scope, here_name="due", due=rows, following=following, now=now)

    @router.get("/panel/why")
    def explain(request: Request) -> Response:
        scope = chosen_scope(gate.reader(request))
        inquiry_id = request.query_params.get("inquiry", "")
        if not 0 < len(inquiry_id) <= ID_CHARACTERS or "\x00" in inquiry_id:
            raise PageProblem("not-found")
        outcome, explanation = _explained(scope, inquiry_id)
        return scope.reader.page(
            "panel_archived.html" if outcome is None else "panel_why.html", scope=scope, here_name="inquiries", outcome=outcome,
            explanation=explanation, inquiry_id=inquiry_id, query=query_of(outcome_filters(scope)),
        )  # fmt: skip

    return router


def outcome_filters(scope: PanelScope) -> dict[str, Any]:
    """The filters of the list in the query: `outcome`, `from` and `to`; what is none is left out."""
    query = scope.reader.request.query_params
    outcome = query.get("outcome")
    return {
        "outcome": outcome if outcome in OUTCOMES else None,
        "from_day": _day(query.get("from", "")),
        "to_day": _day(query.get("to", "")),
    }


def account_choices(listed: Sequence[str], chosen: str | None, *, is_complete: bool) -> list[str] | None:
    """The accounts that the filter offers, the chosen one among them; None when there are too many to list: an id is typed."""
    if not is_complete:
        return None
    return sorted({*listed, chosen}) if chosen is not None else list(listed)


def query_of(filters: dict[str, Any]) -> dict[str, Any]:
    """Filters as they are in a query."""
    return {"outcome": filters["outcome"], "from": filters["from_day"], "to": filters["to_day"]}


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _explained(scope: PanelScope, inquiry_id: str) -> tuple[dict[str, Any] | None, ExplanationPage]:
    """The outcome that is shown (None: the inquiry is archived), and the explanation. PageProblem when the reader may not see it."""
    with scope.reader.transaction() as connection:
        statements, key = Statements(connection, SQL), {**scope.key(), "inquiry_id": inquiry_id}
        outcome = statements.one("outcome", **key)
        if outcome is None and statements.one("archived", **key) is None:
            raise PageProblem("not-found")
        story = explain_inquiry(connection, scope.rule_set, scope.company_id, inquiry_id)
    own_account = scope.reader.session.account_id
    text = Texts("explain", scope.reader.language)
    shown = without_mailboxes(story, own_account, scope.reader.says("why.their_mailbox"))
    return outcome, explanation_page(shown, text, "seller")
