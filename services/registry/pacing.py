"""When a mailbox is polled next: `imap.poll_interval_seconds` with jitter, later when nothing was sent for days, sooner near
an open deadline of its account. Pure, except for `Pacing`, which reads the facts from Postgres.

A seller who answers in the last minutes is seen before the deadline passes, and an idle mailbox costs little. Polls are
never closer than a provider lets one mailbox log in (providers.toml, `logins_per_hour`).
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from logging import getLogger
from typing import Any, Final

from services.common import metrics
from services.common.lifecycle import Stop
from services.common.postgres import ConnectionSource, Statements, load_statements
from services.providers import catalog

log = getLogger(__name__)

SQL: Final = load_statements("services.registry", "pacing.sql")
SOONEST: Final = 0.2
"""Fraction of the interval: two polls are never closer, however near a deadline is."""
LATEST: Final = 6.0
"""Intervals: two polls are never further apart, however long a mailbox is idle."""
JITTER: Final = 0.1
EVERY_SECONDS: Final = 60.0
NEW_SECONDS: Final = 5 * EVERY_SECONDS
"""Deadlines that became known since are looked at: several looks, since a judgement may take a while to be committed."""
MOST: Final = 1_000
"""Mailboxes whose poll is advanced at once."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Least, usual and most seconds between two polls of a mailbox; least ≤ usual ≤ most."""

    least_seconds: float
    usual_seconds: float
    most_seconds: float


def pace(interval_seconds: float, logins_per_hour: int | None = None) -> Pace:
    """The pace for an interval. `logins_per_hour`: what a provider permits for one mailbox; None: not known."""
    spacing = 3600 / logins_per_hour if logins_per_hour else 0.0
    return Pace(
        max(interval_seconds * SOONEST, spacing),
        max(interval_seconds, spacing),
        max(interval_seconds * LATEST, spacing),
    )


def pace_of(interval_seconds: float, host: str) -> Pace:
    """The pace for a mailbox at an IMAP server."""
    provider = catalog.load().by_host(host)
    return pace(interval_seconds, provider.limits.logins_per_hour if provider is not None else None)


def again_seconds(host: str) -> float:
    """Minimum of seconds between two polls, however near a deadline is: 0 where the provider does not count logins."""
    return pace_of(0, host).least_seconds


def next_poll_at(now: datetime, active_at: datetime, due_at: datetime | None, pace: Pace, jitter: float) -> datetime:
    """When to poll next after a poll at `now`. `active_at`: when the mailbox was last active; `due_at`: the next open
    deadline, None when there is none; `jitter` in [0, 1)."""
    idle_days = max((now - active_at) / timedelta(days=1), 0.0)
    seconds = pace.usual_seconds * (1 + idle_days) * (1 - JITTER + 2 * JITTER * jitter)
    regular = now + timedelta(seconds=min(max(seconds, pace.least_seconds), pace.most_seconds))
    return regular if due_at is None else min(regular, poll_before_deadline(now, due_at, pace, jitter))


def poll_before_deadline(last: datetime, due_at: datetime, pace: Pace, jitter: float) -> datetime:
    """When to poll for a deadline after a poll at `last`: shortly before it, or as soon as the pace permits."""
    least = timedelta(seconds=pace.least_seconds)
    return max(due_at - least * (0.5 + 0.5 * jitter), last + least)


@dataclass(frozen=True, slots=True)
class PacedMailbox:
    """What the pace of a mailbox depends on, besides the facts of the registry."""

    company_id: str
    mailbox_id: str
    account_id: str
    host: str
    connected_at: datetime


class Pacing:
    """Reads facts and advances polls over one connection (autocommit, not to be shared by threads) or a pool."""

    def __init__(
        self, connection: ConnectionSource, interval_seconds: float, chance: Callable[[], float] = random.random
    ) -> None:
        self._sql = Statements(connection, SQL)
        self._interval = interval_seconds
        self._chance = chance

    def next_seconds(self, mailboxes: Sequence[PacedMailbox]) -> list[float]:
        """Seconds until the next polls of mailboxes whose polls end now and were complete."""
        if not mailboxes:
            return []
        facts = self._sql.all(
            "facts",
            company_ids=[mailbox.company_id for mailbox in mailboxes],
            mailbox_ids=[mailbox.mailbox_id for mailbox in mailboxes],
            account_ids=[mailbox.account_id for mailbox in mailboxes],
        )
        return [self._next_seconds(mailbox, fact) for mailbox, fact in zip(mailboxes, facts, strict=True)]

    def _next_seconds(self, mailbox: PacedMailbox, fact: Mapping[str, Any]) -> float:
        now, active_at = fact["now"], max(fact["active_at"] or mailbox.connected_at, mailbox.connected_at)
        next_at = next_poll_at(now, active_at, fact["due_at"], pace_of(self._interval, mailbox.host), self._chance())
        return float((next_at - now).total_seconds())

    def advance_for_deadlines(self) -> int:
        """Advance the poll of mailboxes whose account has a deadline before it; returns how many."""
        usual = pace(self._interval)
        mailboxes = self._sql.all(
            "before_deadline",
            within_seconds=usual.most_seconds,
            lead_seconds=usual.least_seconds * 0.5,
            new_seconds=NEW_SECONDS,
            most=MOST,
        )
        polls = []
        for mailbox in mailboxes:
            now, last_at = mailbox["now"], mailbox["last_attempt_at"]
            mailbox_pace = pace_of(self._interval, mailbox["host"])
            poll_at = poll_before_deadline(
                last_at or now - timedelta(days=1), mailbox["due_at"], mailbox_pace, self._chance()
            )
            poll_at = max(poll_at, now)
            if poll_at < mailbox["next_poll_at"]:
                polls.append((mailbox["company_id"], mailbox["mailbox_id"], poll_at))
        count = advance(self._sql.connection, polls)
        metrics.POLLS_DRAWN.inc(count)
        return count


def advance(connection: ConnectionSource, polls: Sequence[tuple[str, str, datetime]]) -> int:
    """Advance polls (company, mailbox, when) to an earlier time; returns how many were. A mailbox that is being read or that
    waits after a failure is left alone. The caller makes sure that no instant is earlier than `again_seconds` permits."""
    if not polls:
        return 0
    company_ids, mailbox_ids, instants = zip(*polls, strict=True)
    sql = Statements(connection, SQL)
    return len(
        sql.all("advance", company_ids=list(company_ids), mailbox_ids=list(mailbox_ids), instants=list(instants))
    )


def run(connection: ConnectionSource, interval_seconds: float, stop: Stop) -> None:
    """Advance polls for deadlines now and every minute until `stop` is set. TransientError when Postgres is away."""
    pacing = Pacing(connection, interval_seconds)
    while not stop.is_set():
        if advanced := pacing.advance_for_deadlines():
            log.info("polled sooner for a deadline", extra={"action": "polls-drawn", "mailboxes": advanced})
        stop.wait(EVERY_SECONDS)
