"""When a mailbox is polled next: `imap.poll_interval_seconds` with jitter, later when nothing was sent for days, sooner near
an open deadline of its account. Pure, but for `Pacing`, which brings the facts.

So a seller who answers in the last minutes is seen before the deadline passes, and a mailbox that sleeps costs little.
Never sooner than a provider lets one mailbox log in (providers.toml, `logins_per_hour`).
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from logging import getLogger
from typing import Final

import psycopg

from services.common import metrics
from services.common.lifecycle import Stop
from services.common.postgres import Statements, load_statements
from services.providers import catalog

log = getLogger(__name__)

SQL: Final = load_statements("services.registry", "pacing.sql")
SOONEST: Final = 0.2
"""Of the interval: no two polls come closer, however near a deadline is."""
LATEST: Final = 6.0
"""Intervals: no two polls are further apart, however long a mailbox sleeps."""
JITTER: Final = 0.1
EVERY_SECONDS: Final = 60.0
MOST: Final = 1_000
"""Mailboxes that are drawn forward at once."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Least, usual and most seconds between two polls of a mailbox; least ≤ usual ≤ most."""

    least_seconds: float
    usual_seconds: float
    most_seconds: float


def pace(interval_seconds: float, logins_per_hour: int | None = None) -> Pace:
    """The pace for an interval, where a provider allows one mailbox so many logins in an hour (None: not known)."""
    allowed = 3600 / logins_per_hour if logins_per_hour else 0.0
    return Pace(
        max(interval_seconds * SOONEST, allowed),
        max(interval_seconds, allowed),
        max(interval_seconds * LATEST, allowed),
    )


def pace_of(interval_seconds: float, host: str) -> Pace:
    """The pace for a mailbox at an IMAP server."""
    provider = catalog.load().by_host(host)
    return pace(interval_seconds, provider.limits.logins_per_hour if provider is not None else None)


def again_seconds(host: str) -> float:
    """Seconds from one poll to the next at the earliest, however near a deadline is and whoever waits for it: 0 where the
    provider does not count logins."""
    return pace_of(0, host).least_seconds


def following(now: datetime, active_at: datetime, due_at: datetime | None, pace: Pace, jitter: float) -> datetime:
    """When to poll next after a poll at `now`. `active_at`: last sign of life; `due_at`: the next open deadline, None when
    there is none; `jitter` in [0, 1)."""
    idle_days = max((now - active_at) / timedelta(days=1), 0.0)
    seconds = pace.usual_seconds * (1 + idle_days) * (1 - JITTER + 2 * JITTER * jitter)
    regular = now + timedelta(seconds=min(max(seconds, pace.least_seconds), pace.most_seconds))
    return regular if due_at is None else min(regular, before(now, due_at, pace, jitter))


def before(last: datetime, due_at: datetime, pace: Pace, jitter: float) -> datetime:
    """The poll that a deadline asks for when the last one was at `last`: shortly before it, or as soon as may be."""
    least = timedelta(seconds=pace.least_seconds)
    return max(due_at - least * (0.5 + 0.5 * jitter), last + least)


class Pacing:
    """Facts from Postgres over one connection (autocommit); not to be shared by threads."""

    def __init__(
        self, connection: psycopg.Connection, interval_seconds: float, chance: Callable[[], float] = random.random
    ) -> None:
        self._sql = Statements(connection, SQL)
        self._interval = interval_seconds
        self._chance = chance

    def next_seconds(
        self, company_id: str, mailbox_id: str, account_id: str, host: str, connected_at: datetime
    ) -> float:
        """Seconds until the next poll of a mailbox whose poll ends now, complete."""
        row = self._sql.one("facts", company_id=company_id, mailbox_id=mailbox_id, account_id=account_id)
        assert row is not None
        now, active_at = row["now"], max(row["active_at"] or connected_at, connected_at)
        at = following(now, active_at, row["due_at"], pace_of(self._interval, host), self._chance())
        return float((at - now).total_seconds())

    def draw(self) -> int:
        """Draw mailboxes forward whose account has a deadline before their next poll; returns how many."""
        usual = pace(self._interval)
        rows = self._sql.all(
            "near", within_seconds=usual.most_seconds, lead_seconds=usual.least_seconds * 0.5, most=MOST
        )
        drawn = []
        for row in rows:
            last = row["last_attempt_at"] or row["now"] - timedelta(days=1)
            at = max(before(last, row["due_at"], pace_of(self._interval, row["host"]), self._chance()), row["now"])
            if at < row["next_poll_at"]:
                drawn.append((row["company_id"], row["mailbox_id"], at))
        done = draw(self._sql.connection, drawn)
        metrics.POLLS_DRAWN.inc(done)
        return done


def draw(connection: psycopg.Connection, polls: Sequence[tuple[str, str, datetime]]) -> int:
    """Polls (company, mailbox, when) that come sooner than they were to; returns how many. A mailbox that is being read or
    that waits after a failure is left alone. The instants are the caller's: none sooner than `again_seconds` allows."""
    if not polls:
        return 0
    companies, mailboxes, ats = zip(*polls, strict=True)
    sql = Statements(connection, SQL)
    return len(sql.all("draw", company_ids=list(companies), mailbox_ids=list(mailboxes), ats=list(ats)))


def run(connection: psycopg.Connection, interval_seconds: float, stop: Stop) -> None:
    """Draw mailboxes forward now and every minute until `stop` is set. TransientError when Postgres goes away."""
    pacing = Pacing(connection, interval_seconds)
    while not stop.is_set():
        if drawn := pacing.draw():
            log.info("polled sooner for a deadline", extra={"action": "polls-drawn", "mailboxes": drawn})
        stop.wait(EVERY_SECONDS)
