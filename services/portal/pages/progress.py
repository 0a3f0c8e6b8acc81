"""Fourth step: the test as it runs, its result, and what to do next.

The page follows the test live. Without JavaScript it stands still (WCAG 2.2, 2.2.1 and 3.2.5): a link on it leads to the result, and its answer
is held until there is one.
"""

from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from services.aggregator.judge import rules
from services.connect import consent, texts
from services.connect.completeness import SettlingRule, forecast_numbers
from services.portal.pages import address, folders, live, requests
from services.portal.pages.requests import RequestView
from services.portal.pages.seller import Seller, SellerGate
from services.portal.pages.templates import render
from services.registry.portal_sessions import PortalSessions

RULE_SET: Final = "default"
STEPS: Final = {"look-up": 2, "connect": 4, "reconnect": 4}
"""Purpose of a request → the step of connecting a mailbox that its page belongs to; no step of it for others."""


def routes(gate: SellerGate) -> APIRouter:
    """The routes of the step."""
    router = APIRouter()

    @router.get("/connect/requests/{request_id}")
    def show(seller: Annotated[Seller, Depends(gate.reader)], request_id: str) -> Response:
        view = requests.read(seller, request_id)
        if view.purpose == "look-up" and (view.is_passed or view.code == "server-unknown"):
            return gate.redirect(f"{address.LOGIN_PATH}?request={request_id}")
        if view.is_list:
            return folders.page(seller, view)
        return seller.page("progress.html", step=STEPS.get(view.purpose), **_values(seller, view))

    @router.get("/connect/requests/{request_id}/result")
    async def show_result(seller: Annotated[Seller, Depends(gate.reader)], request_id: str) -> Response:
        await live.hold(lambda: requests.read(seller, request_id).is_finished)
        return gate.redirect(f"/connect/requests/{request_id}")

    @router.get("/connect/requests/{request_id}/events")
    async def follow(seller: Annotated[Seller, Depends(gate.reader)], request_id: str) -> Response:
        await run_in_threadpool(requests.read, seller, request_id)
        return live.follow(lambda: _part(seller, requests.read(seller, request_id)))

    return router


def _part(seller: Seller, view: RequestView) -> str | None:
    """What changes while a request is carried out; None when it is finished."""
    if view.is_finished:
        return None
    return render(
        "progress_part.html", seller.language, session=seller.session, csrf=seller.csrf, **_values(seller, view)
    )


def _values(seller: Seller, view: RequestView) -> dict[str, Any]:
    return {
        "view": view,
        "forecast": _forecast(seller, view.mailbox_id) if view.is_connected else "",
        "remains": consent.load().remains[seller.language],
    }


def _forecast(seller: Seller, mailbox_id: str) -> str:
    """From when on the numbers are complete, and when they can be seen; "" when the mailbox is gone."""
    with seller.database() as connection:
        mailboxes = {mailbox["mailbox_id"]: mailbox for mailbox in PortalSessions(connection).own_mailboxes()}
    mailbox = mailboxes.get(mailbox_id, {})
    since: datetime | None = mailbox.get("complete_from") or mailbox.get("expected_from")
    if since is None:
        return ""
    rule_set = rules.load(RULE_SET, None)
    settling = SettlingRule(
        rule_set.name, rule_set.zone, rule_set.target_seconds, rule_set.window_days, rule_set.settle_days
    )
    return texts.forecast(forecast_numbers(since, settling, seller.resources.clock()), settling, seller.language)
