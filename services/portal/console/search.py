"""The first page: search for a company, an account, a mailbox or an inquiry by its id or the beginning of it."""

from typing import Any, Final

from fastapi import APIRouter
from psycopg import Connection
from starlette.requests import Request
from starlette.responses import Response

from services.common.postgres import Statements
from services.portal.console.lookups import SQL
from services.portal.console.staff import Staff, StaffGate
from services.registry.keyset import KeysetRange
from services.registry.lists import RegistryLists
from services.registry.staff_actions import StaffActions

KINDS: Final = ("companies", "accounts", "mailboxes", "inquiries")
MOST: Final = 20
"""Results of a kind that are shown."""
ID_CHARACTERS: Final = 128


def routes(gate: StaffGate) -> APIRouter:
    """The route of the page."""
    router = APIRouter()

    @router.get("/")
    def search(request: Request) -> Response:
        staff = gate.reader(request)
        query = request.query_params.get("q", "").strip()
        results = _results(staff, query) if 0 < len(query) <= ID_CHARACTERS and query.isprintable() else None
        return staff.page(
            "console_search.html", "search", query=query, results=results, kinds=KINDS, most=MOST,
            is_too_long=len(query) > ID_CHARACTERS, has_address="@" in query,
        )  # fmt: skip

    return router


def _results(staff: Staff, query: str) -> dict[str, list[dict[str, Any]]]:
    with staff.transaction() as connection:
        results = {kind: _hits(connection, kind, query) for kind in KINDS}
        counts = {kind: len(hits) for kind, hits in results.items() if hits}
        if counts:
            # What was typed may be anything; the ids of what it led to are enough.
            companies = {hit["company_id"] for hits in results.values() for hit in hits}
            StaffActions(connection).note_each("search", companies, **counts)
    return results


def _hits(connection: Connection, kind: str, query: str) -> list[dict[str, Any]]:
    """At most MOST results of a kind, an exact one first."""
    ids = KeysetRange.of(query)
    if kind == "companies":
        return RegistryLists(connection).companies(ids, "", MOST)
    return Statements(connection, SQL).all(kind, **ids.values, limit=MOST)
