"""The page of a company: its rates, why they are 0 or missing, accounts, mailboxes, links, and the sessions of its sellers."""

from typing import Any, Final
from urllib.parse import quote, urlencode

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from services.aggregator.doctor import diagnosis
from services.common.postgres import Statements
from services.portal.api.figures import DIAGNOSIS, LATEST_RATES, Rows
from services.portal.api.mailboxes import as_mailbox
from services.portal.console import advice
from services.portal.console.lookups import (
    SQL,
    OpenTransaction,
    active_rules,
    check_stored,
    checked_id,
    cursor_key,
    page_by,
)
from services.portal.console.staff import StaffGate
from services.portal.id_paths import path_id
from services.registry.keyset import KeysetRange
from services.registry.lists import MailboxFilter, RegistryLists
from services.registry.staff_actions import Subject

ROWS: Final = 50
"""Rows of a table on a page; each table has a link to its next page, that of the mailboxes to their list."""
TABLES: Final = ("rates", "causes", "accounts", "links", "sessions")
"""Tables with pages: the parameter with the cursor of each has its name."""


def routes(gate: StaffGate) -> APIRouter:
    """The route of the page."""
    router = APIRouter()

    @router.get("/companies/{company_segment}")
    def show_company(request: Request, company_segment: str) -> Response:
        staff = gate.reader(request)
        company_id = checked_id(path_id(company_segment))
        path, chosen = f"/companies/{quote(company_id, safe='')}", request.query_params.get("rules")
        after = {name: request.query_params.get(name) for name in TABLES}
        with staff.noted("company", Subject(company_id)) as connection:
            check_stored(connection, company_id)
            lists, figures, statements = (
                RegistryLists(connection), OpenTransaction(connection), Statements(connection, SQL),
            )  # fmt: skip
            wanted = MailboxFilter(KeysetRange.of(company_id), company_id)
            mailboxes = lists.mailboxes(wanted, ("", ""), ROWS + 1)
            rule_set, names = active_rules(connection, chosen)
            tables: dict[str, tuple[Rows, str | None]] = {
                "accounts": page_by(
                    ("account_id",), lists.accounts(company_id, cursor_key(after["accounts"]), ROWS + 1), ROWS
                ),
                "links": page_by(
                    ("other_company_id",),
                    statements.all("links", company_id=company_id, after=cursor_key(after["links"]), limit=ROWS + 1),
                    ROWS,
                ),
                "sessions": page_by(
                    ("session_id",),
                    statements.all(
                        "sessions", company_id=company_id, after=cursor_key(after["sessions"]), limit=ROWS + 1
                    ),
                    ROWS,
                ),
            }
            has_zero_rate = None
            if rule_set is not None:
                ((has_zero_rate,),) = statements.tuples("has_zero_rate", company_id=company_id, rule_set=rule_set.name)
            for name, list_of_figures in (("rates", LATEST_RATES), ("causes", DIAGNOSIS)):
                tables[name] = ([], None)
                if rule_set is not None:
                    tables[name] = figures.page(company_id, list_of_figures, rule_set, after[name], ROWS)
        pages = {
            name: _pages(path, name, {"rules": chosen} if chosen else {}, after[name], following)
            for name, (_, following) in tables.items()
        }
        return staff.page(
            "console_company.html", "search", company_id=company_id, table_pages=pages, rule_set=rule_set, rule_sets=names,
            tables={name: rows for name, (rows, _) in tables.items()}, has_zero_rate=has_zero_rate,
            mailboxes=[as_mailbox(mailbox) for mailbox in mailboxes[:ROWS]], has_more_mailboxes=len(mailboxes) > ROWS,
            about_cause=lambda cause: advice.about_cause(cause["cause"], cause["facts"], staff.language),
            confidence={code: texts[staff.language] for code, texts in diagnosis.texts()["confidence"].items()},
        )  # fmt: skip

    return router


def _pages(
    path: str, table: str, kept_query: dict[str, Any], after: str | None, following: str | None
) -> dict[str, str | None]:
    """The addresses of the first and of the next page of a table; the other tables begin with their first page there."""

    def address(**cursor: str) -> str:
        query = urlencode({**kept_query, **cursor})
        return f"{path}{'?' if query else ''}{query}#{table}-title"

    return {
        "first": address() if after is not None else None,
        "following": None if following is None else address(**{table: following}),
    }
