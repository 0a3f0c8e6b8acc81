"""The test mail: does the server file what a seller sends?

The seller sends a mail to themselves from the program they answer with. Nobody logs in for it: the mailboxes become due as
soon as their provider lets us log in again, the fetchers read them as ever (headers only, within their budgets), and what
they publish of a mail to the sender's own address is recognised by its hash. So the probe needs a fetcher that runs, and
sees no more than every poll does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import psycopg

from services.common.postgres import Statements, load_statements
from services.registry import pacing
from services.registry.errors import RegistryError

SQL: Final = load_statements("services.connect", "probe.sql")
ASK_SECONDS: Final = 20
"""A probe reads a mailbox no more often: every reading is a login."""
SEND_SECONDS: Final = 60
"""What a person is given to send the mail where a provider lets us read less often than that: a reading before it is lost."""
FILE_SECONDS: Final = 30
"""What a program and a server may take to file it: a reading in between would say that it is not filed."""
Verdict = Literal["filed", "gone", "others", "failing", "not-filed", "not-read"]


@dataclass(frozen=True, slots=True)
class MailboxSighting:
    """What is known of one mailbox since the start: messages that are new, those of them to the own address, those that
    were gone before they could be read."""

    mailbox_id: str
    state: str
    state_reason: str | None
    failing: bool
    """Its polls fail, or it is not read any more: nothing can be said of it now."""
    new: int
    own: int
    gone: int
    read: bool
    """Since the mail may be there."""
    reading_at: datetime
    """When it is read next, if a fetcher is free; after a failure the fetcher's own time."""
    spacing_seconds: float
    """The least between two readings; 0 where the provider counts no logins."""
    next_poll_at: datetime


@dataclass(frozen=True, slots=True)
class ProbeReading:
    """What polls found since the start. `verdict` is `filed` as soon as the own mail is there; the others may change
    while there is time:

    filed: a mail to the sender's own address lies in a watched Sent folder. gone: something was filed and deleted before
    it was read. others: mail was filed, none of it to the own address. failing: a mailbox that may hold it cannot be read.
    not-filed: a poll ended and nothing is new. not-read: no poll ended since.
    """

    verdict: Verdict
    mailboxes: tuple[MailboxSighting, ...]

    @property
    def over(self) -> bool:
        """Whether waiting changes nothing: the mail is there, or no mailbox can be read."""
        return self.verdict == "filed" or all(one.failing for one in self.mailboxes)


class TestMailProbe:
    """One test over one connection (autocommit)."""

    def __init__(self, connection: psycopg.Connection, company_id: str, account_id: str | None) -> None:
        """RegistryError when there is no mailbox that is being read."""
        self._connection = connection
        self._sql = Statements(connection, SQL)
        rows = self._sql.all("begin", company_id=company_id, account_id=account_id)
        active = [row for row in rows if row["state"] == "active"]
        if not active:
            who = company_id if account_id is None else f"{company_id}, account {account_id}"
            states = ", ".join(f"{row['mailbox_id']} is {row['state']}" for row in rows) or "none is connected"
            raise RegistryError(f"no mailbox of company {who} is being read ({states})", "mailbox-add")
        self.since: datetime = active[0]["now"]
        self._company_id = company_id
        # One whose login was given up may hold the mail as well as one whose polls fail.
        self._gone = {row["mailbox_id"]: row["gone"] for row in rows if row["state"] in ("active", "needs_reconnect")}

    def ask(self, look: ProbeReading) -> None:
        """Let the fetchers read the mailboxes as soon as their providers allow."""
        sooner = [one for one in look.mailboxes if not one.failing and one.reading_at < one.next_poll_at]
        pacing.draw(self._connection, [(self._company_id, one.mailbox_id, one.reading_at) for one in sooner])

    def look(self) -> ProbeReading:
        """What is known by now."""
        place = {"company_id": self._company_id, "mailboxes": list(self._gone), "since": self.since}
        found = tuple(self._seen(row) for row in self._sql.all("look", **place))
        return ProbeReading(verdict(found), found)

    def _seen(self, row: Mapping[str, Any]) -> MailboxSighting:
        spacing = pacing.again_seconds(row["host"])
        failing, through = row["state"] != "active" or row["failures"] > 0, row["complete_through"]
        return MailboxSighting(
            mailbox_id=row["mailbox_id"],
            state=row["state"],
            state_reason=row["state_reason"],
            failing=failing,
            new=row["new"],
            own=row["own"],
            gone=int(max(0, row["gone"] - self._gone[row["mailbox_id"]])),
            read=through is not None and through > wanted_after(self.since, spacing),
            reading_at=row["next_poll_at"] if failing else reading_at(self.since, row["last_attempt_at"], spacing),
            spacing_seconds=spacing,
            next_poll_at=row["next_poll_at"],
        )


def wanted_after(since: datetime, spacing_seconds: float) -> datetime:
    """The earliest reading that counts: where the next one is far away, it must not come before the mail."""
    return since + timedelta(seconds=SEND_SECONDS + FILE_SECONDS if spacing_seconds > ASK_SECONDS else 0)


def reading_at(since: datetime, last_attempt_at: datetime | None, spacing_seconds: float) -> datetime:
    """When a mailbox may be read for a probe that began at `since`: never sooner after its last poll than its provider lets
    us log in, and for the probe's own sake no more often than every ASK_SECONDS."""
    at = wanted_after(since, spacing_seconds)
    if last_attempt_at is None:
        return at
    ours = ASK_SECONDS if last_attempt_at > since else 0
    return max(at, last_attempt_at + timedelta(seconds=max(spacing_seconds, ours)))


def verdict(mailboxes: Sequence[MailboxSighting]) -> Verdict:
    """What was seen of all mailboxes together."""
    if any(one.own for one in mailboxes):
        return "filed"
    if any(one.gone for one in mailboxes):
        return "gone"
    if any(one.new for one in mailboxes):
        return "others"
    # Nothing can be said of a mailbox that was not read: it may hold the mail.
    if any(one.failing for one in mailboxes):
        return "failing"
    return "not-filed" if mailboxes and all(one.read for one in mailboxes) else "not-read"
