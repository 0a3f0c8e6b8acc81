"""Mailboxes: the page of one, with everything that happened to it; and all of them by state, provider and reason."""

from collections import Counter
from typing import Annotated, Any, Final
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Depends, Form
from psycopg import Connection
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from services.common.postgres import Statements
from services.connect import texts
from services.portal.api.mailboxes import as_mailbox
from services.portal.api.problems import ApiProblem
from services.portal.api.values import decode_cursor, encode_cursor
from services.portal.console.lookups import SQL, checked_id
from services.portal.console.operate.mailbox_changes import READ_AGAIN_IN, MailboxAction, change, offered
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
DONE_STATES: Final[dict[str, tuple[str, ...]]] = {"pause": ("paused",), "resume": ("active",), "rescan": READ_AGAIN_IN}
"""Action → states in which the page may say that it was done."""
Kind = tuple[str, str, str]
"""State, provider and reason; a server that is in no provider's entry stands for itself."""


def routes(gate: StaffGate) -> APIRouter:
    """The routes of the pages."""
    router = APIRouter()

    @router.get("/companies/{company_segment}/mailboxes/{mailbox_segment}")
    def show_mailbox(request: Request, company_segment: str, mailbox_segment: str) -> Response:
        return _mailbox_page(gate.reader(request), *_ids(company_segment, mailbox_segment))

    @router.post("/companies/{company_segment}/mailboxes/{mailbox_segment}/{action}")
    def change_mailbox(
        staff: Annotated[Staff, Depends(gate.operating_sender)],
        company_segment: str,
        mailbox_segment: str,
        action: MailboxAction,
        etag: Annotated[str, Form(max_length=200)],
    ) -> Response:
        company_id, mailbox_id = _ids(company_segment, mailbox_segment)
        if not change(staff, company_id, mailbox_id, action, etag):
            return _mailbox_page(staff, company_id, mailbox_id, is_refused=True)
        return RedirectResponse(f"{_path(company_id, mailbox_id)}?done={action}", 303)

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


def _ids(company_segment: str, mailbox_segment: str) -> tuple[str, str]:
    return checked_id(path_id(company_segment)), checked_id(path_id(mailbox_segment))


def _path(company_id: str, mailbox_id: str) -> str:
    return f"/companies/{quote(company_id, safe='')}/mailboxes/{quote(mailbox_id, safe='')}"


def _mailbox_page(staff: Staff, company_id: str, mailbox_id: str, *, is_refused: bool = False) -> Response:
    """The page of a mailbox, also after an action that was refused because the mailbox has changed. ConsoleProblem without such a one."""
    with staff.transaction() as connection:
        lists, key = RegistryLists(connection), {"company_id": company_id, "mailbox_id": mailbox_id}
        try:
            mailbox = as_mailbox(lists.mailbox(company_id, mailbox_id))
        except RegistryError:
            raise ConsoleProblem("not-found") from None
        staff.note(connection, "mailbox", Subject(company_id, mailbox.account_id, mailbox_id))
        stored = lists.history(company_id, mailbox_id)
        health = Statements(connection, SQL).one("health", **key)
    for changed in stored["history"]:
        changed["reason_text"] = texts.state_reason(changed["reason"], staff.language) if changed["reason"] else ""
    done = staff.request.query_params.get("done", "")
    return staff.page(
        "console_mailbox.html", "mailboxes", status=409 if is_refused else 200, mailbox=mailbox, health=health,
        history=stored["history"], consents=stored["consents"], state_names=_state_names(staff), is_refused=is_refused,
        here=f"{_path(company_id, mailbox_id)}?lang=" if is_refused else None,
        done=done if mailbox.state in DONE_STATES.get(done, ()) else "",
        actions=offered(company_id, mailbox_id, mailbox.state) if staff.session.is_operator else {},
    )  # fmt: skip


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
