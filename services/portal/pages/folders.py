"""Which Sent folders of a connected mailbox are read: a fetcher lists them with the stored secret, and the seller chooses.

1. A button asks for the list; its page is that of any request (progress.py).
2. The list is the page of the choice.
3. The choice is another request: a fetcher opens the chosen folders read-only before the mailbox is changed.
"""

from typing import Annotated

from fastapi import APIRouter, Depends, Form
from starlette.responses import Response

from services.connect.typed_login import TypedLogin
from services.portal.pages import mailboxes, requests
from services.portal.pages.mailboxes import MailboxId
from services.portal.pages.problems import PageProblem
from services.portal.pages.requests import RequestView
from services.portal.pages.seller import Seller, SellerGate
from services.registry.connect_requests import Purpose


def routes(gate: SellerGate) -> APIRouter:
    """The routes of the forms."""
    router = APIRouter()

    @router.post("/connect/mailboxes/{mailbox_id}/folders")
    def list_folders(seller: Annotated[Seller, Depends(gate.sender)], mailbox_id: MailboxId) -> Response:
        mailboxes.own_mailbox(seller, mailbox_id)
        return gate.redirect(_submitted(seller, "folders", mailbox_id))

    @router.post("/connect/requests/{request_id}/folders")
    def choose(
        seller: Annotated[Seller, Depends(gate.sender)],
        request_id: str,
        folders: Annotated[list[str], Form()] = [],  # noqa: B006 (FastAPI copies it)
    ) -> Response:
        view = requests.read(seller, request_id)
        if not view.is_list:
            raise PageProblem("not-found")
        if not {choice["raw"] for choice in view.folder_choices}.issuperset(folders):
            raise PageProblem("form-incomplete")  # the page offers no such name
        return gate.redirect(_submitted(seller, "folder-choice", view.mailbox_id, tuple(folders)))

    return router


def page(seller: Seller, view: RequestView) -> Response:
    """The page of the choice, for a request that has listed the folders."""
    return seller.page("folders.html", view=view, mailbox=mailboxes.own_mailbox(seller, view.mailbox_id))


def _submitted(seller: Seller, purpose: Purpose, mailbox_id: str, folders: tuple[str, ...] = ()) -> str:
    """Store a request; returns the path of its page."""
    by = seller.session.consent_by or seller.session.session_id
    typed = TypedLogin("", "", by, "", seller.language, sent_folders=folders, session_id=seller.session.session_id)
    return f"/connect/requests/{requests.submit(seller, purpose, mailbox_id, typed)}"
