"""The page of a mailbox: its state, everything that happened to it, and what operators do with it."""

from typing import Annotated, Final
from urllib.parse import quote

from fastapi import APIRouter, Depends, Form
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from services.common.postgres import Statements
from services.connect import texts
from services.portal.api.mailboxes import as_mailbox
from services.portal.console import advice
from services.portal.console.lookups import SQL, checked_id
from services.portal.console.mailbox_lists import state_names
from services.portal.console.operate.mailbox_changes import READ_AGAIN_IN, change, offered
from services.portal.console.problems import ConsoleProblem
from services.portal.console.seller_links import RECONNECTED_FROM
from services.portal.console.staff import Staff, StaffGate
from services.portal.id_paths import path_id
from services.registry.errors import RegistryError
from services.registry.lists import RegistryLists
from services.registry.mailboxes import MailboxAction
from services.registry.staff_actions import Subject

DONE_STATES: Final[dict[str, tuple[str, ...]]] = {"pause": ("paused",), "resume": ("active",), "rescan": READ_AGAIN_IN}
"""Action → states in which the page may say that it was done."""


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
        history=stored["history"], consents=stored["consents"], state_names=state_names(staff), is_refused=is_refused,
        here=f"{_path(company_id, mailbox_id)}?lang=" if is_refused else None,
        done=done if mailbox.state in DONE_STATES.get(done, ()) else "",
        actions=offered(company_id, mailbox_id, mailbox.state) if staff.session.is_operator else {},
        advice=advice.about_state(mailbox.state, staff.language), can_have_link=mailbox.state in RECONNECTED_FROM,
    )  # fmt: skip
