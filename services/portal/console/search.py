"""The first page: search for a company, an account, a mailbox or an inquiry by its id or the beginning of it. An empty search lists companies."""

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlencode

from fastapi import APIRouter
from psycopg import Connection
from starlette.requests import Request
from starlette.responses import Response

from services.common.postgres import Statements
from services.portal.api.figures import Rows
from services.portal.console.lookups import SQL, cursor_ids, page_by
from services.portal.console.problems import ConsoleProblem
from services.portal.console.staff import Staff, StaffGate
from services.registry.keyset import KeysetRange
from services.registry.lists import RegistryLists
from services.registry.staff_actions import StaffActions

KINDS: Final[Mapping[str, Sequence[str]]] = {
    "companies": ("company_id",), "accounts": ("account_id", "company_id"), "mailboxes": ("mailbox_id", "company_id"),
    "inquiries": ("inquiry_id", "company_id"),
}  # fmt: skip
"""What is searched → the columns by which it is in order."""
MOST: Final = 20
"""Results of a kind on a page."""
ID_CHARACTERS: Final = 128


def routes(gate: StaffGate) -> APIRouter:
    """The route of the page."""
    router = APIRouter()

    @router.get("/")
    def search(request: Request) -> Response:
        staff = gate.reader(request)
        typed, kind = request.query_params.get("q"), request.query_params.get("kind")
        query = (typed or "").strip()
        results, following = None, {}
        if typed is not None and len(query) <= ID_CHARACTERS and query.isprintable():
            pages = _pages(staff, query, kind, request.query_params.get("after"))
            results = {name: rows for name, (rows, _) in pages.items()}
            following = {
                name: f"/?{urlencode({'q': query, 'kind': name, 'after': cursor})}"
                for name, (_, cursor) in pages.items()
                if cursor is not None
            }
        return staff.page(
            "console_search.html", "search", query=query, results=results, most=MOST, following=following,
            first=f"/?{urlencode({'q': query})}" if kind else None, is_too_long=len(query) > ID_CHARACTERS,
            is_printable=query.isprintable(), has_address="@" in query,
        )  # fmt: skip

    return router


def _pages(staff: Staff, query: str, kind: str | None, after: str | None) -> dict[str, tuple[Rows, str | None]]:
    """The first page of results of every kind, or with `kind` the page of that kind behind `after`; each with the cursor of its next page, None
    if it is the last. An empty query lists companies only. ConsoleProblem for an unknown kind or a malformed cursor."""
    kinds = list(KINDS) if query else ["companies"]
    if kind is not None:
        if kind not in kinds:
            raise ConsoleProblem("not-found")
        kinds = [kind]
    with staff.transaction() as connection:
        pages = {name: _page(connection, name, query, after if kind else None) for name in kinds}
        counts = {name: len(rows) for name, (rows, _) in pages.items() if rows}
        if counts:
            # What was typed may be anything; the ids of what it led to are enough.
            companies = {hit["company_id"] for rows, _ in pages.values() for hit in rows}
            StaffActions(connection).note_each("search", companies, **counts)
    return pages


def _page(connection: Connection, kind: str, query: str, after: str | None) -> tuple[Rows, str | None]:
    """At most MOST results of a kind behind a cursor, an exact one first, and the cursor behind them."""
    ids, columns = KeysetRange.of(query), KINDS[kind]
    position = cursor_ids(after, len(columns))
    if kind == "companies":
        rows = RegistryLists(connection).companies(ids, position[0], MOST + 1)
    else:
        rows = Statements(connection, SQL).all(
            kind, **ids.values, after=position[0], after_company=position[1], limit=MOST + 1
        )
    return page_by(columns, rows, MOST)
