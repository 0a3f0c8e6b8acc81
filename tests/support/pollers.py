"""Pollers that run in the test's own process, so that limits can be small and a single poll can be made."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from services.common.hashing import Hasher
from services.common.kafka import Publisher
from services.common.lifecycle import Heartbeat, Stop
from services.common.settings import Settings
from services.fetcher.clock_check import ClockCheck
from services.fetcher.poller import Poller, PollerResources
from services.imap.host_policy import resolve
from services.imap.limits import SessionLimits
from services.imap.tls import tls_context
from services.registry.leases import LeasedMailbox, Leases
from services.signin.access_tokens import AccessTokens


def make_resources(
    publisher: Publisher,
    hasher: Hasher,
    settings: Settings,
    *,
    limits: SessionLimits | None = None,
    tokens: AccessTokens | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> PollerResources:
    return PollerResources(
        settings=settings,
        publisher=publisher,
        hasher=hasher,
        tokens=tokens or AccessTokens(settings.oauth2),
        tls_context=lambda: tls_context(settings.imap.ca_file),
        resolve=resolve,
        clock_check=ClockCheck(clock),
        limits=limits or SessionLimits(),
    )


def make_poller(
    leases: Leases,
    publisher: Publisher,
    hasher: Hasher,
    settings: Settings,
    *,
    limits: SessionLimits | None = None,
    tokens: AccessTokens | None = None,
    stop: Stop | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Poller:
    """A poller that settles each poll at once."""
    resources = make_resources(publisher, hasher, settings, limits=limits, tokens=tokens, clock=clock)
    return Poller(leases, resources, stop=stop or Stop(), heartbeat=Heartbeat(60))


def leased_mailbox(**changes: Any) -> LeasedMailbox:
    """The values of a leased mailbox, without a lease in the registry."""
    now = datetime(2026, 7, 1, 12, tzinfo=UTC)
    leased = LeasedMailbox(
        company_id="c1", mailbox_id="m1", account_id="a1", host="imap.mail.test", port=993, user="seller@mail.test",
        password="x", sent_override=(), epoch=1, now=now, connected_at=now, complete_from=None, complete_through=None,
        reconcile_after=None, failures=0,
    )  # fmt: skip
    return replace(leased, **changes)
