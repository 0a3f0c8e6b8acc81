"""The test mail: the seller sends a mail to the own address, and sees whether it appears in a Sent folder that is read.

The web process asks no mail server and sends no request to a fetcher: it makes the mailboxes of the account due, as far as their provider
permits, and reads what fetchers publish (services/connect/probe.py). Within a frame the page explains the test mail, and begins none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from services.common.postgres import Statements, clock
from services.connect import texts
from services.connect.probe import (
    MAY_HAVE_MAIL,
    MailboxSighting,
    ProbeReading,
    ProbeStart,
    SentMailProbe,
    begin,
    counts_from,
    waiting_seconds,
)
from services.portal.pages import live
from services.portal.pages.problems import PageProblem
from services.portal.pages.seller import Seller, SellerGate
from services.portal.pages.templates import render
from services.portal.panel.reader import PanelGate
from services.portal.panel.scope import SQL, PanelScope, chosen_scope
from services.registry import pacing, states
from services.registry.errors import RegistryError
from services.registry.panel_sessions import PanelSessions

PATH: Final = "/panel/test-mail"
LOOK_SECONDS: Final = 2.0
"""Between two looks at what was published: mailboxes are read every 20 seconds at most."""
Result = Literal["looking", "filed", "gone", "others", "failing", "not-filed", "not-read"]
"""`looking` until there is a verdict that stays, or the time is over."""


@dataclass(frozen=True, slots=True)
class ProbeView:
    """What the page shows of a probe. `until`: when it ends at the latest, unless a provider lets us read later."""

    reading: ProbeReading
    since: datetime
    until: datetime
    now: datetime

    @property
    def is_finished(self) -> bool:
        """Whether nothing is waited for any more."""
        return self.reading.over or self.now >= self.until

    @property
    def result(self) -> Result:
        """The verdict, or that the mail is still looked for."""
        return self.reading.verdict if self.is_finished else "looking"

    @property
    def so_far(self) -> str:
        """What is worth knowing while the mail is looked for: `gone` or `others`; else ""."""
        return self.reading.verdict if self.reading.verdict in ("gone", "others") else ""


def routes(gate: PanelGate, sellers: SellerGate) -> APIRouter:
    """The routes of the page."""
    router = APIRouter()

    @router.get(PATH)
    def show(request: Request) -> Response:
        scope = chosen_scope(gate.reader(request))
        mailboxes = _mailboxes(scope)
        view = None if scope.reader.session.is_framed else look(scope)
        return scope.reader.page(
            "panel_test_mail.html", scope=scope, here_name="mailboxes", view=view,
            mailboxes=described(mailboxes, view, scope), can_begin=any(mailbox["state"] == "active" for mailbox in mailboxes),
        )  # fmt: skip

    @router.post(PATH)
    def start(seller: Annotated[Seller, Depends(sellers.sender)], request: Request) -> Response:
        with seller.database() as connection:
            try:
                started = begin(connection, seller.session.company_id, seller.session.account_id)
            except RegistryError:
                pass  # the page says that no mailbox is being read
            else:
                if not PanelSessions(connection).begin_probe(started.gone_before):
                    raise PageProblem("not-found")
        return sellers.redirect(_with_query(PATH, request))

    @router.get(f"{PATH}/result")
    async def show_result(request: Request) -> Response:
        scope = chosen_scope(gate.reader(request))
        await live.hold(lambda: _is_finished(look(scope)), look_seconds=LOOK_SECONDS)
        return sellers.redirect(_with_query(PATH, request))

    @router.get(f"{PATH}/events")
    async def send_events(request: Request) -> Response:
        scope = chosen_scope(gate.reader(request))
        return live.follow(lambda: _changing_part(scope), LOOK_SECONDS)

    return router


def look(scope: PanelScope) -> ProbeView | None:
    """The probe of this session, after asking for the readings that it needs; None while it has begun none. PageProblem when the session is over."""
    with scope.reader.transaction() as connection:
        sessions = PanelSessions(connection)
        if sessions.own_session() is None:
            raise PageProblem("session-ended")
        stored = sessions.own_probe()
        if stored is None:
            return None
        probe = SentMailProbe(connection, scope.company_id, ProbeStart(*stored))
        reading = probe.read()
        view = ProbeView(
            reading,
            probe.since,
            probe.since + timedelta(seconds=waiting_seconds(probe.since, reading)),
            clock(connection),
        )
        if not view.is_finished:
            probe.request_polls(reading)
        return view


def described(
    mailboxes: Sequence[Mapping[str, Any]], view: ProbeView | None, scope: PanelScope
) -> list[dict[str, Any]]:
    """The mailboxes that may have the mail, with their state, and what the probe knows of each."""
    language = scope.reader.language
    sightings = {} if view is None else {sighting.mailbox_id: sighting for sighting in view.reading.mailboxes}
    shown = []
    for mailbox in mailboxes:
        sighting = sightings.get(mailbox["mailbox_id"])
        spacing = pacing.again_seconds(mailbox["host"])
        shown.append(
            {
                "mailbox_id": mailbox["mailbox_id"],
                "address": mailbox["address_masked"],
                "state": mailbox["state"],
                "state_text": states.load().names[mailbox["state"]].text(language),
                "reason_text": texts.state_reason(mailbox["state_reason"], language),
                "spacing_seconds": spacing,
                "sighting": sighting,
                "is_late": sighting is not None and _is_late(sighting, view),
            }
        )
    return shown


def _is_late(sighting: MailboxSighting, view: ProbeView | None) -> bool:
    """Whether the provider lets us read the mailbox only when the mail had some time to arrive."""
    assert view is not None
    return not sighting.read and counts_from(view.since, sighting.spacing_seconds) > view.since


def _mailboxes(scope: PanelScope) -> list[dict[str, Any]]:
    """The mailboxes of the reader's own account that may have the mail."""
    with scope.reader.transaction() as connection:
        mailboxes = Statements(connection, SQL).all("mailboxes", **scope.own_key())
    return [mailbox for mailbox in mailboxes if mailbox["state"] in MAY_HAVE_MAIL]


def _is_finished(view: ProbeView | None) -> bool:
    return view is None or view.is_finished


def _changing_part(scope: PanelScope) -> str | None:
    view = look(scope)
    if view is None or view.is_finished:
        return None
    return render(
        "panel_test_mail_part.html", scope.reader.language, scope=scope, view=view,
        mailboxes=described(_mailboxes(scope), view, scope), **scope.reader.values(),
    )  # fmt: skip


def _with_query(path: str, request: Request) -> str:
    """A page about the same figures as the request's."""
    return f"{path}?{request.url.query}" if request.url.query else path
