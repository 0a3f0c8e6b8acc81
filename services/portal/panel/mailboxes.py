"""The mailboxes of the reader's own account: how each is, what to do about it, and the test mail."""

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from services.common.postgres import Statements
from services.connect import texts
from services.portal.panel.reader import PanelGate, PanelReader
from services.portal.panel.scope import SQL, chosen_scope
from services.portal.panel.steps import can_reconnect
from services.registry import states


def routes(gate: PanelGate) -> APIRouter:
    """The route of the page."""
    router = APIRouter()

    @router.get("/panel/mailboxes")
    def list_mailboxes(request: Request) -> Response:
        scope = chosen_scope(gate.reader(request))
        with scope.reader.transaction() as connection:
            statements = Statements(connection, SQL)
            mailboxes = [described(mailbox, scope.reader) for mailbox in statements.all("mailboxes", **scope.own_key())]
            account = statements.one("own_account", **scope.own_key())
        return scope.reader.page(
            "panel_mailboxes.html", scope=scope, here_name="mailboxes", mailboxes=mailboxes, account=account
        )

    return router


def described(mailbox: dict[str, Any], reader: PanelReader) -> dict[str, Any]:
    """A mailbox with its state, reason and advice in words, and what its page offers: an attempt to connect one has no page."""
    language = reader.language
    return mailbox | {
        "state_text": states.load().names[mailbox["state"]].text(language),
        "reason_text": texts.state_reason(mailbox["state_reason"], language),
        # The stored advice is for platforms, which can resume a mailbox.
        "advice": reader.says("mailboxes.paused") if mailbox["state"] == "paused" else mailbox[f"advice_{language}"],
        "can_reconnect": can_reconnect(mailbox["state"]),
        "can_choose_folders": states.can_choose_folders(mailbox["state"]),
        "was_connected": mailbox["state"] not in states.NEVER_CONNECTED,
    }
