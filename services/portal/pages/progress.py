"""Fourth step: the test as it runs, its result, and what to do next.

The page follows the test live. Without JavaScript it stands still (WCAG 2.2, 2.2.1 and 3.2.5): a link on it leads to the result, and its answer
is held until there is one.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from services.aggregator.judge import rules
from services.connect import consent, texts
from services.connect.completeness import SettlingRule, forecast_numbers
from services.portal.pages import address, requests
from services.portal.pages.problems import PageProblem
from services.portal.pages.requests import RequestView
from services.portal.pages.seller import Seller, SellerGate
from services.portal.pages.templates import render
from services.registry.portal_sessions import PortalSessions

LOOK_SECONDS: Final = 0.5
"""Between two looks at a request."""
STREAM_SECONDS: Final = 15.0
"""How long one answer follows a request; the browser asks again."""
HELD_SECONDS: Final = 10.0
"""How long the answer of the link to the result is held; below the timeouts of proxies (usually 60 s)."""
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
        return seller.page("progress.html", step=STEPS.get(view.purpose), **_values(seller, view))

    @router.get("/connect/requests/{request_id}/result")
    async def show_result(seller: Annotated[Seller, Depends(gate.reader)], request_id: str) -> Response:
        await hold(lambda: requests.read(seller, request_id), HELD_SECONDS)
        return gate.redirect(f"/connect/requests/{request_id}")

    @router.get("/connect/requests/{request_id}/events")
    async def follow(seller: Annotated[Seller, Depends(gate.reader)], request_id: str) -> Response:
        await run_in_threadpool(requests.read, seller, request_id)
        return StreamingResponse(_events(seller, request_id), media_type="text/event-stream")

    return router


async def hold(look: Callable[[], RequestView], seconds: float) -> RequestView:
    """A request as soon as it is finished, or as it is after `seconds`."""
    clock = asyncio.get_running_loop().time
    until = clock() + seconds
    while True:
        view = await run_in_threadpool(look)
        if view.is_finished or clock() >= until:
            return view
        await asyncio.sleep(LOOK_SECONDS)


async def _events(seller: Seller, request_id: str) -> AsyncIterator[str]:
    """The part of the page that changes, whenever it has changed. An event `finished` lets the browser load the whole page again."""
    clock = asyncio.get_running_loop().time
    until, sent = clock() + STREAM_SECONDS, ""
    while clock() < until:
        try:
            view = await run_in_threadpool(requests.read, seller, request_id)
        except PageProblem:
            return  # the session has ended; the next request of the browser is answered with the page that says so
        if view.is_finished:
            yield "event: finished\ndata: \n\n"
            return
        html = await run_in_threadpool(_part, seller, view)
        if html != sent:
            sent = html
            yield "".join(f"data: {line}\n" for line in html.splitlines()) + "\n"
        await asyncio.sleep(LOOK_SECONDS)


def _part(seller: Seller, view: RequestView) -> str:
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
