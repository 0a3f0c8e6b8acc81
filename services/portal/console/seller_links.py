"""A new link for a seller, who connects a mailbox with it or connects one again; the use case of the API and of the command line.

A link is powerful, so what it may do is narrow (docs/decisions/0098-staff-make-links-for-sellers.md), and the database checks it.
"""

from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Depends, Form
from psycopg import Connection
from starlette.requests import Request
from starlette.responses import Response

from services.common.language import Language
from services.common.normal_forms import normalise_address
from services.portal.console.lookups import checked_id
from services.portal.console.problems import ConsoleProblem
from services.portal.console.staff import Staff, StaffGate
from services.portal.id_paths import path_id
from services.registry import states
from services.registry.accounts import Accounts
from services.registry.addresses import Role
from services.registry.errors import RegistryError
from services.registry.lists import RegistryLists
from services.registry.portal_sessions import LinkRequest, PortalLink, PortalSessions
from services.registry.staff_actions import Subject

MOST_MINUTES: Final = 1440
"""The longest life of a link that staff make; a policy of the table has the same bound."""
RECONNECTED_FROM: Final = states.load().events["reconnected"].froms
"""States in which a link may be made for a mailbox."""
ADDRESS_CHARACTERS: Final = 320


def routes(gate: StaffGate) -> APIRouter:
    """The routes of the pages."""
    router = APIRouter()
    path = "/companies/{company_segment}/accounts/{account_segment}/link"

    @router.get(path)
    def ask(request: Request, company_segment: str, account_segment: str) -> Response:
        staff = gate.reader(request)
        subject = _subject(company_segment, account_segment, request.query_params.get("mailbox", ""))
        with staff.noted("link-form", subject) as connection:
            mailbox = _mailbox(connection, subject)
        values = {"role": "registered", "language": staff.language, "address": ""}
        return _form_page(staff, subject, mailbox, values)

    @router.post(path)
    def make(
        staff: Annotated[Staff, Depends(gate.sender)],
        company_segment: str,
        account_segment: str,
        language: Annotated[Language, Form()],
        role: Annotated[Role, Form()] = "registered",
        mailbox: Annotated[str, Form(max_length=128)] = "",
        address: Annotated[str, Form(max_length=ADDRESS_CHARACTERS)] = "",
    ) -> Response:
        subject = _subject(company_segment, account_segment, mailbox)
        values = {"role": role, "language": language, "address": address}
        with staff.transaction() as connection:
            stored = _mailbox(connection, subject)
            if normalise_address(address.strip()) is None:
                staff.note(connection, "link-form", subject)
                return _form_page(staff, subject, stored, values, {"address": staff.says("new_link.address_wrong")})
            wanted = LinkRequest(
                str(subject.company_id), str(subject.account_id), staff.session.signature,
                role if stored is None else stored["role"], language, subject.mailbox_id,
                address.strip(),
            )  # fmt: skip
            try:
                link = PortalSessions(connection).make_link(wanted, link_minutes(staff))
            except RegistryError as error:
                staff.note(connection, "link-form", subject)
                return _form_page(staff, subject, stored, values, {"link": error.bilingual.text(staff.language)})
            staff.note(connection, "make-link", subject, session_id=link.session_id)
        return _made_page(staff, subject, link, language)

    return router


def link_minutes(staff: Staff) -> int:
    """How long a link of the staff may wait to be opened."""
    return min(staff.resources.settings.portal.link_minutes, MOST_MINUTES)


def _subject(company_segment: str, account_segment: str, mailbox_id: str) -> Subject:
    return Subject(
        checked_id(path_id(company_segment)), checked_id(path_id(account_segment)),
        checked_id(mailbox_id) if mailbox_id else None,
    )  # fmt: skip


def _mailbox(connection: Connection, subject: Subject) -> dict[str, Any] | None:
    """The mailbox that the link is for; None for a new one. ConsoleProblem when there is no such account or mailbox."""
    company_id, account_id = str(subject.company_id), str(subject.account_id)
    try:
        Accounts(connection).get(company_id, account_id)
        if subject.mailbox_id is None:
            return None
        mailbox = RegistryLists(connection).mailbox(company_id, subject.mailbox_id)
    except RegistryError:
        raise ConsoleProblem("not-found") from None
    if mailbox["account_id"] != account_id:
        raise ConsoleProblem("not-found")
    return mailbox


def _form_page(
    staff: Staff, subject: Subject, mailbox: dict[str, Any] | None, values: dict[str, str], errors: dict[str, str] | None = None
) -> Response:  # fmt: skip
    return staff.page(
        "console_new_link.html", "search", status=422 if errors else 200, subject=subject, mailbox=mailbox, values=values,
        errors=errors or {}, hours=max(1, link_minutes(staff) // 60), here=f"{_path(subject)}?lang=" if errors else None,
    )  # fmt: skip


def _made_page(staff: Staff, subject: Subject, link: PortalLink, language: Language) -> Response:
    return staff.page(
        "console_new_link_made.html", "search", status=201, subject=subject, session_id=link.session_id,
        url=link.url(staff.resources.settings.portal.public_url, language), expires_at=link.expires_at,
        here=f"{_path(subject)}?lang=",
    )  # fmt: skip


def _path(subject: Subject) -> str:
    company, account = quote(str(subject.company_id), safe=""), quote(str(subject.account_id), safe="")
    return f"/companies/{company}/accounts/{account}/link"
