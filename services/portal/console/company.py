"""The page of a company: its rates, why they are 0 or missing, accounts, mailboxes, links, and the sessions of its sellers."""

from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from services.aggregator.doctor import diagnosis
from services.common.postgres import Statements
from services.portal.api.figures import DIAGNOSIS, LATEST_RATES
from services.portal.api.mailboxes import as_mailbox
from services.portal.console.lookups import SQL, OpenTransaction, check_stored, checked_id
from services.portal.console.staff import StaffGate
from services.portal.id_paths import path_id
from services.registry.keyset import KeysetRange
from services.registry.lists import MailboxFilter, RegistryLists
from services.registry.staff_actions import Subject

ROWS: Final = 100
"""Accounts, mailboxes, rates and causes that are shown; the lists of mailboxes and the API have all."""
SESSIONS: Final = 20


def routes(gate: StaffGate) -> APIRouter:
    """The route of the page."""
    router = APIRouter()

    @router.get("/companies/{company_segment}")
    def show_company(request: Request, company_segment: str) -> Response:
        staff = gate.reader(request)
        company_id = checked_id(path_id(company_segment))
        with staff.noted("company", Subject(company_id)) as connection:
            check_stored(connection, company_id)
            lists, figures, statements = (
                RegistryLists(connection), OpenTransaction(connection), Statements(connection, SQL),
            )  # fmt: skip
            wanted = MailboxFilter(KeysetRange.of(company_id), company_id)
            mailboxes = [as_mailbox(mailbox) for mailbox in lists.mailboxes(wanted, ("", ""), ROWS)]
            accounts = lists.accounts(company_id, "", ROWS)
            rates = figures.rows(company_id, LATEST_RATES, ROWS)
            causes = figures.rows(company_id, DIAGNOSIS, ROWS)
            links = statements.all("links", company_id=company_id, limit=ROWS)
            sessions = statements.all("sessions", company_id=company_id, limit=SESSIONS)
        return staff.page(
            "console_company.html", "search", company_id=company_id, mailboxes=mailboxes, accounts=accounts, rates=rates,
            causes=causes, links=links, sessions=sessions, rows=ROWS,
            confidence={code: names[staff.language] for code, names in diagnosis.texts()["confidence"].items()},
        )  # fmt: skip

    return router
