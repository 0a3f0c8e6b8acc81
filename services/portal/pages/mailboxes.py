"""Where a seller goes on: the mailboxes of the account, connecting one again, and withdrawing the consent to read one."""

from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Depends, Form
from msgspec import structs
from pydantic import BeforeValidator
from starlette.responses import Response

from services.connect import consent, texts
from services.connect.typed_login import TypedLogin
from services.portal.id_paths import path_id
from services.portal.pages import address, requests
from services.portal.pages.cookies import Draft
from services.portal.pages.problems import PageProblem
from services.portal.pages.seller import CONSENT, START, Seller, SellerGate
from services.portal.pages.texts import text
from services.registry import holdings, personal_data, states
from services.registry.addresses import Role
from services.registry.connect_requests import OF_SELLERS, ConnectRequests
from services.registry.errors import RegistryError
from services.registry.portal_sessions import PortalSessions
from services.registry.states import NEVER_CONNECTED, can_choose_folders

PATHS: Final = "/connect/mailboxes/"
"""What the paths with the id of a mailbox begin with."""
MailboxId = Annotated[str, BeforeValidator(path_id)]
"""In a path, percent-encoded: the platform may give a mailbox any id, also one with `/`."""


def routes(gate: SellerGate) -> APIRouter:
    """The routes of the pages."""
    router = APIRouter()

    @router.get(START)
    def start(seller: Annotated[Seller, Depends(gate.reader)]) -> Response:
        mailboxes, running = _mailboxes(seller)
        if not mailboxes and not running:
            # What was typed stays, but there is no mailbox that could be connected again.
            return gate.redirect(
                _first_step(seller), structs.replace(gate.cookies.draft(seller.request), mailbox_id=None)
            )
        return seller.page("mailboxes.html", mailboxes=mailboxes, running=running)

    @router.post("/connect/new")
    def connect_new(
        seller: Annotated[Seller, Depends(gate.sender)], role: Annotated[Role | None, Form()] = None
    ) -> Response:
        return gate.redirect(_first_step(seller), Draft(role=role))

    @router.post("/connect/mailboxes/{mailbox_id}/reconnect")
    def reconnect(seller: Annotated[Seller, Depends(gate.sender)], mailbox_id: MailboxId) -> Response:
        mailbox = own_mailbox(seller, mailbox_id)
        return gate.redirect(_first_step(seller), Draft(mailbox_id=mailbox_id, role=mailbox["role"]))

    @router.get("/connect/mailboxes/{mailbox_id}/stored")
    def show_stored(seller: Annotated[Seller, Depends(gate.reader)], mailbox_id: MailboxId) -> Response:
        mailbox = own_mailbox(seller, mailbox_id)
        with seller.database() as connection:
            tables = holdings.own(connection, seller.session.company_id, mailbox_id)
        horizon_days = seller.resources.settings.horizon_days
        return seller.page(
            "stored.html", mailbox=mailbox, tables=[stored for stored in tables if stored.rows], catalog=personal_data.load(),
            consents=[values for stored in tables if stored.table.name == "registry.consents" for values in stored.shown],
            empty_tables=[stored.table.name for stored in tables if not stored.rows], horizon_days=horizon_days,
            outside=holdings.outside_postgres(seller.language, horizon_days),
        )  # fmt: skip

    @router.get("/connect/mailboxes/{mailbox_id}/withdraw")
    def ask_withdrawal(seller: Annotated[Seller, Depends(gate.reader)], mailbox_id: MailboxId) -> Response:
        return _withdrawal(seller, own_mailbox(seller, mailbox_id), seller.session.consent_by or "")

    @router.post("/connect/mailboxes/{mailbox_id}/withdraw")
    def withdraw(
        seller: Annotated[Seller, Depends(gate.sender)],
        mailbox_id: MailboxId,
        name: Annotated[str, Form(max_length=1000)] = "",
    ) -> Response:
        mailbox = own_mailbox(seller, mailbox_id)
        try:
            consent.check_name("name", name.strip())
        except RegistryError:
            return _withdrawal(seller, mailbox, name, is_wrong=True)
        typed = TypedLogin("", "", name.strip(), "", seller.language)
        return gate.redirect(f"/connect/requests/{requests.submit(seller, 'withdraw', mailbox_id, typed)}")

    return router


def _first_step(seller: Seller) -> str:
    """Where connecting a mailbox begins: at the consent, unless this session has given it."""
    return address.PATH if seller.has_consented else CONSENT


def _mailboxes(seller: Seller) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The connected mailboxes with their state in words, and the requests that wait or run."""
    session = seller.session
    with seller.database() as connection:
        mailboxes = PortalSessions(connection).own_mailboxes()
        running = ConnectRequests(connection).open_requests(session.company_id, session.account_id)
    shown = [
        mailbox | {
            "state_text": states.load().names[mailbox["state"]].text(seller.language),
            "reason_text": texts.state_reason(mailbox["state_reason"], seller.language),
            "can_choose_folders": can_choose_folders(mailbox["state"]),
        }
        for mailbox in mailboxes
        if mailbox["state"] not in NEVER_CONNECTED
    ]  # fmt: skip
    return shown, [request for request in running if request["purpose"] in OF_SELLERS]


def own_mailbox(seller: Seller, mailbox_id: str) -> dict[str, Any]:
    """A mailbox of this session. PageProblem when there is none."""
    for mailbox in _mailboxes(seller)[0]:
        if mailbox["mailbox_id"] == mailbox_id:
            return mailbox
    raise PageProblem("not-found")


def _withdrawal(seller: Seller, mailbox: dict[str, Any], name: str, *, is_wrong: bool = False) -> Response:
    return seller.page(
        "withdraw.html", status=422 if is_wrong else 200, here=f"/connect/mailboxes/{quote(mailbox['mailbox_id'], safe='')}/withdraw?lang=",
        mailbox=mailbox, name=name, errors={"name": text("consent.name_wrong", seller.language)} if is_wrong else {},
        remains=consent.load().remains[seller.language],
    )  # fmt: skip
