"""The lists of the pages as CSV and NDJSON: every row of the list that is on the screen, with the same filters."""

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from services.portal.api.figures import ExportFormat
from services.portal.pages.problems import PageProblem
from services.portal.panel.inquiries import outcome_filters
from services.portal.panel.reader import OpenTransactions, PanelGate
from services.portal.panel.scope import LISTS, chosen_scope


def routes(gate: PanelGate) -> APIRouter:
    """The route of the exports."""
    router = APIRouter()

    @router.get("/panel/export/{name}")
    def export(request: Request, name: str, form: Annotated[ExportFormat, Query(alias="format")] = "csv") -> Response:
        reader = gate.reader(request)
        scope = chosen_scope(reader)
        if name not in LISTS or form == "json":
            raise PageProblem("not-found")
        listed = scope.request(name, **(outcome_filters(scope) if name == "outcomes" else {}))
        return replace(listed, caller=OpenTransactions(reader)).export(form)

    return router
