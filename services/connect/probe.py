"""The test mail: does the server file what a seller sends?

The seller sends a mail to themselves from the program they answer with. The probe does not log in: it makes the mailboxes
due as soon as their provider permits another login, fetchers read them as always (headers only, within their limits), and a
published mail to the sender's own address is recognised by its hash. So the probe needs a running fetcher, and sees no more
than every poll does. The command (services/cli/numbers/probe.py) and the panel (services/portal/panel/probe.py) share it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import psycopg

from services.common.postgres import Statements, load_statements
from services.common.stored_message import MailboxPlace
from services.registry import pacing
from services.registry.errors import RegistryError
from services.registry.published import PublishedMessages

SQL: Final = load_statements("services.connect", "probe.sql")
PROBE_SECONDS: Final = 180
"""How long a probe looks for the mail, unless a provider allows few logins."""
PROBE_MOST_SECONDS: Final = 1800
"""How long it looks at most, for a provider that allows few logins."""
READING_SECONDS: Final = 60
"""From when a mailbox may be read to when its messages have been published."""
ASK_SECONDS: Final = 20
"""Minimum of seconds between two readings for a probe: each of them is a login."""
SEND_SECONDS: Final = 60
"""How long the person has to send the mail where a provider permits fewer logins than that: an earlier reading is wasted."""
CLOCK_SLACK: Final = timedelta(minutes=15)
"""How far the clock of the sender's program may be behind."""
FILE_SECONDS: Final = 30
"""How long a mail program and a server may take to file it: an earlier reading would report that it is not filed."""
MAY_HAVE_MAIL: Final = ("active", "needs_reconnect")
"""States of mailboxes that are looked at."""
Verdict = Literal["filed", "gone", "others", "failing", "not-filed", "not-read"]


@dataclass(frozen=True, slots=True)
class MailboxSighting:
    """What is known of one mailbox since the start of a probe: new messages, those of them to the sender's own address, and
    those that were deleted before they could be read."""

    mailbox_id: str
    state: str
    state_reason: str | None
    failing: bool
    """Its polls fail, or it is no longer read: nothing is known about it now."""
    new: int
    own: int
    gone: int
    read: bool
    """Whether it was read since the mail may have been filed."""
    reading_at: datetime
    """When it is read next if a fetcher is free; after a failure, when the fetcher tries again."""
    spacing_seconds: float
    """Minimum between two readings; 0 where the provider does not count logins."""
    next_poll_at: datetime


@dataclass(frozen=True, slots=True)
class ProbeReading:
    """What polls found since the start. The verdict `filed` is final; any other may change while there is time:

    filed: a mail to the sender's own address is in a Sent folder that is read. gone: something was filed and deleted before
    it was read. others: mail was filed, but none to the own address. failing: a mailbox that may have it cannot be read.
    not-filed: a poll ended and nothing is new. not-read: no poll ended since.
    """

    verdict: Verdict
    mailboxes: tuple[MailboxSighting, ...]

    @property
    def over(self) -> bool:
        """Whether there is nothing to wait for: the mail was found, or no mailbox can be read."""
        return self.verdict == "filed" or all(mailbox.failing for mailbox in self.mailboxes)


@dataclass(frozen=True, slots=True)
class ProbeStart:
    """When a probe began, and what it compares with. `gone_before`: the mailboxes that may have the mail → how many of their messages
    had been deleted before they could be read."""

    since: datetime
    gone_before: Mapping[str, int]


def begin(connection: psycopg.Connection, company_id: str, account_id: str | None) -> ProbeStart:
    """The start of a probe of a company (or one account) at this moment. RegistryError when there is no mailbox that is being read."""
    mailboxes = Statements(connection, SQL).all("begin", company_id=company_id, account_id=account_id)
    active = [mailbox for mailbox in mailboxes if mailbox["state"] == "active"]
    if not active:
        who = company_id if account_id is None else f"{company_id}, account {account_id}"
        states = ", ".join(f"{mailbox['mailbox_id']} is {mailbox['state']}" for mailbox in mailboxes)
        states = states or "none is connected"
        raise RegistryError(f"no mailbox of company {who} is being read ({states})", "mailbox-add")
    # A mailbox whose login was given up may have the mail too, like one whose polls fail.
    gone = {mailbox["mailbox_id"]: int(mailbox["gone"]) for mailbox in mailboxes if mailbox["state"] in MAY_HAVE_MAIL}
    return ProbeStart(active[0]["now"], gone)


class SentMailProbe:
    """Reads what became of a probe, over one connection."""

    def __init__(self, connection: psycopg.Connection, company_id: str, start: ProbeStart) -> None:
        self._sql = Statements(connection, SQL)
        self._published = PublishedMessages(connection)
        self._company_id = company_id
        self._gone_before = start.gone_before
        self.since: Final = start.since

    def request_polls(self, reading: ProbeReading) -> None:
        """Let the fetchers read the mailboxes as soon as their providers permit."""
        polls = [
            (self._company_id, mailbox.mailbox_id, mailbox.reading_at)
            for mailbox in reading.mailboxes
            if not mailbox.failing and mailbox.reading_at < mailbox.next_poll_at
        ]
        pacing.advance(self._sql.connection, polls)

    def read(self) -> ProbeReading:
        """What is known by now."""
        rows = self._sql.all("read", company_id=self._company_id, mailboxes=list(self._gone_before))
        sightings = tuple(self._sighting(mailbox) for mailbox in rows)
        return ProbeReading(verdict(sightings), sightings)

    def _sighting(self, mailbox: Mapping[str, Any]) -> MailboxSighting:
        spacing = pacing.again_seconds(mailbox["host"])
        failing, through = mailbox["state"] != "active" or mailbox["failures"] > 0, mailbox["complete_through"]
        place = MailboxPlace(mailbox["company_id"], mailbox["account_id"], mailbox["mailbox_id"])
        new = self._published.since(place, self.since, self.since - CLOCK_SLACK)
        own_hashes = set(mailbox["own_hashes"])
        return MailboxSighting(
            mailbox_id=mailbox["mailbox_id"],
            state=mailbox["state"],
            state_reason=mailbox["state_reason"],
            failing=failing,
            new=len(new),
            own=sum(event is not None and not own_hashes.isdisjoint(event.recipients) for event in new),
            gone=int(max(0, mailbox["gone"] - self._gone_before[mailbox["mailbox_id"]])),
            read=through is not None and through > counts_from(self.since, spacing),
            reading_at=mailbox["next_poll_at"]
            if failing
            else reading_at(self.since, mailbox["last_attempt_at"], spacing),
            spacing_seconds=spacing,
            next_poll_at=mailbox["next_poll_at"],
        )


def counts_from(since: datetime, spacing_seconds: float) -> datetime:
    """From when on a reading counts: where the next one is far away, it must not come before the mail."""
    return since + timedelta(seconds=SEND_SECONDS + FILE_SECONDS if spacing_seconds > ASK_SECONDS else 0)


def reading_at(since: datetime, last_attempt_at: datetime | None, spacing_seconds: float) -> datetime:
    """When a mailbox may be read for a probe that began at `since`: never sooner after its last poll than its provider permits
    another login, and not more often than every ASK_SECONDS, however often a probe is begun."""
    earliest = counts_from(since, spacing_seconds)
    if last_attempt_at is None:
        return earliest
    return max(earliest, last_attempt_at + timedelta(seconds=max(spacing_seconds, ASK_SECONDS)))


def waiting_seconds(since: datetime, reading: ProbeReading, wait: int | None = None) -> int:
    """Seconds from the start that a probe waits: `wait` if given, else until the mailboxes that are read seldom are read."""
    if wait is not None:
        return wait
    late = [
        (sighting.reading_at - since).total_seconds() + READING_SECONDS
        for sighting in reading.mailboxes
        if not sighting.failing and not sighting.read and sighting.spacing_seconds > ASK_SECONDS
    ]
    return round(min(max([PROBE_SECONDS, *late]), PROBE_MOST_SECONDS))


def verdict(mailboxes: Sequence[MailboxSighting]) -> Verdict:
    """The verdict over all mailboxes."""
    if any(mailbox.own for mailbox in mailboxes):
        return "filed"
    if any(mailbox.gone for mailbox in mailboxes):
        return "gone"
    if any(mailbox.new for mailbox in mailboxes):
        return "others"
    # Nothing is known about a mailbox that was not read: it may have the mail.
    if any(mailbox.failing for mailbox in mailboxes):
        return "failing"
    return "not-filed" if mailboxes and all(mailbox.read for mailbox in mailboxes) else "not-read"
