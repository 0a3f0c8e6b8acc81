"""Mailboxes: the page of one, with everything that happened to it; and all of them by state, provider and reason."""

from collections import Counter
from typing import Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter
from psycopg import Connection
from starlette.requests import Request
from starlette.responses import Response

from services.common.postgres import Statements
from services.connect import texts
from services.portal.api.mailboxes import as_mailbox
from services.portal.api.problems import ApiProblem
from services.portal.api.values import decode_cursor, encode_cursor
from services.portal.console.lookups import SQL, checked_id
from services.portal.console.problems import ConsoleProblem
from services.portal.console.staff import Staff, StaffGate
from services.portal.id_paths import path_id
from services.providers import catalog
from services.registry import states
from services.registry.errors import RegistryError
from services.registry.keyset import KeysetRange
from services.registry.lists import MailboxFilter, RegistryLists
from services.registry.staff_actions import StaffActions, Subject

PAGE_ROWS: Final = 50
Kind = tuple[str, str, str]
"""State, provider and reason; a server that is in no provider's entry stands for itself."""


def routes(gate: StaffGate) -> APIRouter:
    """The routes of the pages."""
    router = APIRouter()

    @router.get("/companies/{company_segment}/mailboxes/{mailbox_segment}")
    def show_mailbox(request: Request, company_segment: str, mailbox_segment: str) -> Response:
        staff = gate.reader(request)
        company_id = checked_id(path_id(company_segment))
        mailbox_id = checked_id(path_id(mailbox_segment))
        with staff.transaction() as connection:
            lists, key = RegistryLists(connection), {"company_id": company_id, "mailbox_id": mailbox_id}
            try:
                mailbox = as_mailbox(lists.mailbox(company_id, mailbox_id))
            except RegistryError:
                raise ConsoleProblem("not-found") from None
            staff.note(connection, "mailbox", Subject(company_id, mailbox.account_id, mailbox_id))
            stored = lists.history(company_id, mailbox_id)
            health = Statements(connection, SQL).one("health", **key)
        for change in stored["history"]:
            change["reason_text"] = texts.state_reason(change["reason"], staff.language) if change["reason"] else ""
        return staff.page(
            "console_mailbox.html", "mailboxes", mailbox=mailbox, health=health, history=stored["history"],
            consents=stored["consents"], state_names=_state_names(staff),
        )  # fmt: skip

    @router.get("/mailboxes")
    def show_kinds(request: Request) -> Response:
        return _kinds_page(gate.reader(request))

    @router.get("/mailboxes/list")
    def list_mailboxes(request: Request) -> Response:
        staff = gate.reader(request)
        state, provider, reason = chosen = _chosen(request)
        hosts = None if not provider else (catalog.load().hosts_of(provider) or [provider])
        wanted = MailboxFilter(
            KeysetRange.of(""), states=[state] if state else None, reason=reason or None, hosts=hosts
        )
        try:
            company, mailbox = decode_cursor(request.query_params.get("after"), ("", ""))
        except ApiProblem:
            raise ConsoleProblem("not-found") from None
        with staff.transaction() as connection:
            stored = RegistryLists(connection).mailboxes(wanted, (company, mailbox), PAGE_ROWS)
            StaffActions(connection).note_each(
                "mailbox-list", {mailbox["company_id"] for mailbox in stored}, state=state, provider=provider, reason=reason,
                mailboxes=len(stored),
            )  # fmt: skip
        following = None
        if len(stored) == PAGE_ROWS:
            following = _list_address(*chosen, encode_cursor(stored[-1]["company_id"], stored[-1]["mailbox_id"]))
        return staff.page(
            "console_mailbox_list.html", "mailboxes", mailboxes=[as_mailbox(mailbox) for mailbox in stored], chosen=chosen,
            following=following, first=_list_address(*chosen) if company else None, state_names=_state_names(staff),
            reason_text=lambda code: texts.state_reason(code, staff.language),
        )  # fmt: skip

    return router


def _kinds_page(staff: Staff) -> Response:
    """The counts, as far as the filters of the request choose them."""
    chosen = _chosen(staff.request)
    with staff.transaction() as connection:
        kinds = _kinds(connection)
    shown = [
        {"state": state, "provider": provider, "reason": reason, "mailboxes": mailboxes}
        for (state, provider, reason), mailboxes in sorted(kinds.items(), key=lambda entry: (-entry[1], entry[0]))
        if all(value in ("", part) for value, part in zip(chosen, (state, provider, reason), strict=True))
    ]
    return staff.page(
        "console_mailboxes.html", "mailboxes", kinds=shown, total=sum(kind["mailboxes"] for kind in shown),
        chosen=chosen, choices=[sorted({kind[part] for kind in kinds} - {""}) for part in range(3)],
        state_names=_state_names(staff), reason_text=lambda code: texts.state_reason(code, staff.language), listed=_list_address,
    )  # fmt: skip


def _chosen(request: Request) -> Kind:
    """The filters in a query; "": every one."""
    state, provider, reason = (request.query_params.get(name, "")[:253] for name in ("state", "provider", "reason"))
    if any("\x00" in value for value in (state, provider, reason)):
        raise ConsoleProblem("not-found")
    return state, provider, reason


def _kinds(connection: Connection) -> Counter[Kind]:
    directory, kinds = catalog.load(), Counter[Kind]()
    for stored in Statements(connection, SQL).all("kinds"):
        provider = directory.by_host(stored["host"])
        kinds[stored["state"], stored["host"] if provider is None else provider.id, stored["state_reason"] or ""] += (
            stored["mailboxes"]
        )
    return kinds


def _state_names(staff: Staff) -> dict[str, str]:
    return {state: name.text(staff.language) for state, name in states.load().names.items()}


def _list_address(state: str, provider: str, reason: str, after: str = "") -> str:
    """The address of the list of the mailboxes of a kind."""
    values: dict[str, Any] = {"state": state, "provider": provider, "reason": reason, "after": after}
    return f"/mailboxes/list?{urlencode({name: value for name, value in values.items() if value})}"
