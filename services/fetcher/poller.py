"""One worker of the fetcher: polls one mailbox after the other, for as long as the service runs.

1. Take a leased mailbox, the one that has been due for longest, with slots for its login (mailbox_queue.py).
2. Connect and log in (mailbox_login.py).
3. Find its Sent folders and record which of them are read.
4. Read each folder and publish its messages (folder_reader.py, publication.py).
5. If the folders were chosen by hand: after the daily scan, count the messages of other folders for sent mail.
6. Log out. A good poll is settled with others (settlement.py): complete through its start, or to be continued. A failed one
   releases its lease at once, with a reason and the time of the next attempt.

Each worker thread has one IMAP session at a time; the connections to Postgres are shared. A cursor moves only after everything
that it passes has been acknowledged by Kafka, and only while the lease holds. A mailbox that fails costs only itself.
"""

import random
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from services.common.errors import TransientError
from services.common.hashing import Hasher
from services.common.kafka import Publisher
from services.common.lifecycle import Heartbeat, Stop
from services.common.settings import FetcherConfig
from services.common.tracing import OFF, Tracer
from services.fetcher.clock_check import ClockCheck
from services.fetcher.delays import DEPENDENCY_SECONDS, FAILURE, THROTTLE, spaced
from services.fetcher.folder_reader import FolderReader, is_rescan_due
from services.fetcher.mailbox_login import MailboxLogin, MailboxSession
from services.fetcher.mailbox_queue import MailboxQueue
from services.fetcher.poll_budget import PollBudget
from services.fetcher.poll_report import PollReport, mailboxes_postponed, metrics_from_zero
from services.fetcher.poll_tally import PollTally
from services.fetcher.postponements import Postponements
from services.fetcher.publication import BatchPublisher
from services.fetcher.settlement import FinishedPoll, Settlement
from services.imap.connection import Connection
from services.imap.errors import (
    CommandRefused,
    LoginRefused,
    LoginUnclear,
    MailboxError,
    NoSentFolder,
    ServerBroken,
    SessionLimitReached,
    Throttled,
)
from services.imap.host_policy import HostPolicy, Resolver
from services.imap.limits import SessionLimits
from services.imap.tls_sessions import TlsSessions
from services.registry import states
from services.registry.leases import LeasedMailbox, LeaseLost, Leases, PollEnd
from services.registry.login_slots import LoginSlots, NoSlotFree, Postponed, SlotPair
from services.registry.pacing import Pacing
from services.signin.access_tokens import AccessTokens

MAX_LOGIN_REFUSALS: Final = 3
MAX_FRUITLESS: Final = 3
"""Polls in a row that may end at a limit without progress in a folder known before; later ones back off."""


@dataclass(frozen=True, slots=True)
class PollerResources:
    """What all workers of a process share."""

    settings: FetcherConfig
    publisher: Publisher
    hasher: Hasher
    tokens: AccessTokens
    tls_context: Callable[[], ssl.SSLContext]
    resolve: Resolver
    clock_check: ClockCheck
    limits: SessionLimits = field(default_factory=SessionLimits)
    tracer: Tracer = OFF
    postponements: Postponements = field(default_factory=Postponements)
    tally: PollTally = field(default_factory=PollTally)
    tls_sessions: TlsSessions = field(default_factory=TlsSessions)


class Poller:
    """One worker. `run` until `stop` is set."""

    def __init__(
        self, leases: Leases, resources: PollerResources, *, stop: Stop, heartbeat: Heartbeat,
        finish: Callable[[FinishedPoll], None] | None = None,
    ) -> None:  # fmt: skip
        """`finish` settles a poll that ended well, now or later; None: settle it at once."""
        imap = resources.settings.imap
        self._leases = leases
        self._resources = resources
        self._stop = stop
        self._heartbeat = heartbeat
        self._slots = LoginSlots(leases.connection, imap)
        settlement = Settlement(leases, Pacing(leases.connection, imap.poll_interval_seconds))
        self._finish = finish or (lambda poll: settlement.settle([poll]))
        self._login = MailboxLogin(
            HostPolicy.of(imap, resources.resolve),
            self._slots,
            resources.tokens,
            resources.tls_context,
            resources.tls_sessions,
            resources.limits,
        )
        metrics_from_zero()

    def run(self, queue: MailboxQueue) -> None:
        """Poll the mailboxes of the queue until `stop` is set. TransientError when Postgres goes away."""
        while not self._stop.is_set():
            self._heartbeat.beat()
            mailbox = queue.take()
            if mailbox is not None:
                try:
                    self.poll(mailbox.leased, mailbox.slots)
                finally:
                    queue.ended(mailbox)

    def poll(self, leased: LeasedMailbox, slots: SlotPair | None = None) -> None:
        """Read one leased mailbox and release it, whatever happens. `slots`: what was taken for its login; None: nothing yet."""
        report = PollReport(leased, self._resources.tracer, self._resources.tally)
        finished = None
        try:
            finished = self._poll(leased, slots, report)
        finally:
            if finished is None:
                report.close()
        if finished is not None:
            self._finish(finished)

    def _poll(self, leased: LeasedMailbox, slots: SlotPair | None, report: PollReport) -> FinishedPoll | None:
        """Read a mailbox; None when its lease was ended already, since the poll failed."""
        budget = PollBudget(self._resources.limits, self._stop)
        try:
            with self._login.session(leased, self._leases.token_store(leased), slots) as session:
                visible_from = self._read(leased, session, budget, report)
            report.read()
            return self._finished(leased, visible_from, budget, report)
        except NoSlotFree as error:
            # The provider's login limit is reached for all mailboxes together: each waits for its own turn.
            waiting = Postponed(leased.company_id, leased.mailbox_id, leased.epoch)
            seconds = self._slots.postpone([waiting], error)
            report.postponed()
            mailboxes_postponed(error, seconds, 1, self._resources.tally, self._resources.postponements)
        except LeaseLost:
            report.lease_lost()
        except MailboxError as error:
            self._mailbox_failed(leased, error, report)
        except TransientError as error:
            # Kafka or Postgres, not the mailbox: it is due again soon, and this is not counted against it.
            report.dependency_away(error)
            self._leases.fail_poll(leased, reason=None, next_seconds=spaced(leased, DEPENDENCY_SECONDS), counts=False)
            self._stop.wait(1)
        except Exception as error:
            report.crashed()
            delay = spaced(leased, FAILURE.delay(leased.failures + 1, random.random()))
            self._leases.fail_poll(leased, reason=f"internal-{type(error).__name__}", next_seconds=delay, counts=True)
        return None

    def _read(
        self, leased: LeasedMailbox, session: MailboxSession, budget: PollBudget, report: PollReport
    ) -> datetime | None:
        """Read the Sent folders. Returns the earliest date from which the provider shows mail, or None without a known limit."""
        resources = self._resources
        publisher = BatchPublisher(
            leased, self._leases, resources.publisher, resources.hasher, self._heartbeat, report
        )  # fmt: skip
        reader = FolderReader(leased, self._leases, session, publisher, budget, report, resources.settings)
        try:
            return self._read_folders(leased, session, reader, budget, report)
        except SessionLimitReached:
            if not (report.published or budget.searched):
                raise
            budget.exhaust()
            return None

    def _read_folders(
        self,
        leased: LeasedMailbox,
        session: MailboxSession,
        reader: FolderReader,
        budget: PollBudget,
        report: PollReport,
    ) -> datetime | None:
        visible_from: list[datetime] = []
        folders = session.connection.sent_folders(leased.sent_override)
        if not leased.cursors.keys() <= {folder.name for folder in folders}:
            self._leases.set_sent_folders(leased, [folder.name for folder in folders])
        refused: CommandRefused | None = None
        # Each poll starts with another folder, so that one with more new mail than a poll may read starves no other.
        start = leased.epoch % len(folders)
        for folder in [*folders[start:], *folders[:start]]:
            if budget.must_end():
                break
            try:
                if (visible := reader.read(folder.name)) is not None:
                    visible_from.append(visible)
            except CommandRefused as error:
                if error.stage != "examine":
                    raise
                # The other folders are read all the same, but the mailbox is not complete: this one may contain sent mail.
                refused = refused or error
                report.folder_refused()
        if refused is not None:
            raise refused
        if budget.ended_without_reading():
            # It would be due again at once, and the same would happen for ever.
            raise SessionLimitReached("search", "a whole poll in which nothing could be read")
        # Others: where a person chose the folders, every other one for sent mail; and the folders below a Sent folder.
        scanned = is_rescan_due(leased) or leased.complete_through is None
        if scanned and not budget.exhausted:
            self._count_unread_folders(leased, session.connection, [folder.name for folder in folders], report)
        return max(visible_from, default=None)

    def _count_unread_folders(
        self, leased: LeasedMailbox, connection: Connection, read: Sequence[bytes], report: PollReport
    ) -> None:
        """Once a day: count the messages in folders for sent mail that are not read, without looking at any.

        An error here does not count as a failure of the mailbox: its own folders have been read.
        """
        counts: dict[bytes, int] = {}
        try:
            for name in connection.other_sent_folders(read):
                with suppress(ServerBroken):
                    counts[name] = connection.examine(name).messages
        except MailboxError as error:
            report.folders_uncounted(error)
            connection.drop()
            return
        self._leases.set_unread_folders(leased, counts)

    def _finished(
        self, leased: LeasedMailbox, visible_from: datetime | None, budget: PollBudget, report: PollReport
    ) -> FinishedPoll:
        """The end of a poll that read what it could."""
        complete = budget.complete and not self._resources.clock_check.is_ahead(leased.now + report.elapsed)
        fruitless = budget.exhausted and not budget.progressed and not self._stop.is_set()
        rescanned = is_rescan_due(leased)
        horizon = leased.now - timedelta(days=self._resources.settings.horizon_days)
        # Only a scan determines the earliest date from which the provider shows mail; it is reused until the next scan.
        visible = visible_from if rescanned else visible_from or leased.complete_from
        next_seconds = 0.0
        if budget.exhausted:
            # A server that renames its folders in each LIST gives every poll new ones, and none gets further.
            fruitless_polls = leased.fruitless_polls + 1 if fruitless else 0
            if fruitless_polls > MAX_FRUITLESS:
                next_seconds = FAILURE.delay(fruitless_polls - MAX_FRUITLESS, random.random())
            next_seconds = spaced(leased, next_seconds)
        end = PollEnd(
            leased,
            complete=complete,
            reconciled=rescanned and complete,
            complete_from=horizon if visible is None else max(horizon, visible),
            next_seconds=next_seconds,
            fruitless=fruitless,
        )
        return FinishedPoll(end, report, paced=not budget.exhausted)

    def _mailbox_failed(self, leased: LeasedMailbox, error: MailboxError, report: PollReport) -> None:
        """Release the lease with the error as reason; repeated refusals of the login need the mailbox's owner."""
        refused = isinstance(error, LoginRefused)
        # Refusals in a row, whatever else failed between them: an outage in between is no wrong password.
        given_up = isinstance(error, LoginRefused) and (error.definite or leased.refusals + 1 >= MAX_LOGIN_REFUSALS)
        state = states.load().events["login-given-up"].to if given_up else None
        backoff = THROTTLE if isinstance(error, Throttled | LoginUnclear) else FAILURE
        delay = spaced(leased, backoff.delay(leased.failures + 1, random.random()))
        report.failed(error, delay)
        self._leases.fail_poll(
            leased, reason=error.code, next_seconds=delay, counts=True, refused=refused,
            interrupted=is_owners_doing(error), state=state,
        )  # fmt: skip


def is_owners_doing(error: MailboxError) -> bool:
    """Whether the owner of a mailbox can cause this error: a wrong password, IMAP switched off, a Sent folder removed."""
    return isinstance(error, LoginRefused | NoSentFolder) or (
        isinstance(error, CommandRefused) and error.stage == "examine"
    )
