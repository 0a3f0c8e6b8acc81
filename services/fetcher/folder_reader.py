"""Reading one Sent folder: what is new since the last poll, or everything down to the horizon.

1. EXAMINE the folder and load its cursor.
2. Start a scan if one is due (a folder never seen, renumbered UIDs, the daily rescan); else read new mail, oldest first,
   and messages that appeared late in the look-back window.
3. While a scan is not complete, read older mail, newest first, as far as this poll may.
   Each batch: FETCH headers, bisecting around messages that cannot be read (header_fetch.py); publish (publication.py);
   save the cursor once every record is acknowledged. In a scan the next batch is fetched while the last one is on its way
   to Kafka, and each window of sequence numbers that was searched is saved, so that a scan ends at any server speed.
4. Ask again for messages that earlier polls could not read: refused with words that may be temporary, or not answered in time.
5. After a scan, determine the earliest date from which the provider shows mail.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import partial
from typing import Final

from services.common.settings import FetcherConfig
from services.fetcher.header_fetch import fetch_bisecting
from services.fetcher.mailbox_login import MailboxSession
from services.fetcher.poll_budget import PollBudget
from services.fetcher.poll_report import PollReport
from services.fetcher.publication import (
    HORIZON_MARGIN,
    BatchPublisher,
    SentBatch,
    Sighting,
)
from services.imap.connection import CHUNK, WINDOW, Connection
from services.imap.errors import AnswerTooSlow, MailboxError, ServerBroken, SessionLimitReached, Unreachable
from services.mail import cursors
from services.mail.values import FolderView
from services.mail.visibility import FolderExtent, may_hide_mail, visible_from
from services.providers import catalog
from services.registry.folder_records import FolderProgress, Refusal, SavedCursor
from services.registry.leases import LeasedMailbox, Leases
from services.registry.login_slots import NoSlotFree
from services.registry.published import PublishedMessage

REFUSALS_BEFORE_REJECT: Final = 3
REFUSED_BEFORE_REJECT: Final = timedelta(hours=1)
"""A message that is refused with words that may be temporary becomes a dead letter once it was refused this often, over this
time, while other messages can be read."""
MAX_REFUSED: Final = 500
"""Messages of a folder that may wait to be asked for again: more of them are a failing server."""
OLDEST_ASKED: Final = 3
"""Messages at the beginning of a folder that are asked for their time."""
MAX_UNANSWERED_AGAIN: Final = 3
"""How often a poll waits in vain for the answer to a FETCH of messages that earlier polls could not read."""
SINCE_SLACK: Final = timedelta(days=2)
"""SINCE compares days in the server's time zone, so a search reaches this much further back than the horizon."""
NOTHING_IN_FLIGHT: Final[Mapping[str, PublishedMessage]] = {}


@dataclass(frozen=True, slots=True)
class ScanStep:
    """A batch of a scan; or, without UIDs, the end of a window: the scan goes on below the sequence number `below`."""

    uids: Sequence[int]
    below: int | None = None


class FolderReader:
    """Reads the Sent folders of one mailbox in one poll."""

    def __init__(
        self,
        leased: LeasedMailbox,
        leases: Leases,
        session: MailboxSession,
        publisher: BatchPublisher,
        budget: PollBudget,
        report: PollReport,
        settings: FetcherConfig,
    ) -> None:
        self._folder = b""
        self._leased = leased
        self._leases = leases
        self._session = session
        self._publisher = publisher
        self._budget = budget
        self._report = report
        self._look_back = settings.imap.look_back
        self._horizon = timedelta(days=settings.horizon_days)

    @property
    def _connection(self) -> Connection:
        return self._session.connection

    def read(self, folder: bytes) -> datetime | None:
        """Read a folder as far as this poll may. Returns the earliest date from which its provider shows mail, or None if
        there is no known limit.

        MailboxError, LeaseLost, TransientError. Saved cursors stay saved.
        """
        leased, self._folder = self._leased, folder
        view = self._connection.examine(folder)
        saved = self._leases.cursor(leased, folder)
        due, scan_began = leased.reconcile_after, None if saved is None else saved.scan_began_at
        # Once for each reconcile: a scan that took several polls must not start again in the last of them.
        reconcile = is_rescan_due(leased) and due is not None and scan_began is not None and scan_began < due
        why = cursors.why_scan(None if saved is None else saved.cursor, view, reconcile=reconcile)
        before = saved
        if saved is None or why is not None:
            refused = saved.refused if saved is not None and why == "reconcile" else {}
            saved = self._start_scan(folder, view, why or "first", refused)
        else:
            saved = self._read_new(folder, view, saved)
        if not saved.cursor.complete:
            saved = self._scan(folder, view, saved)
        # Not at the beginning: a message that costs the whole time of a poll must not keep new mail from being read.
        waiting = saved.refused.keys() & before.refused.keys() if before is not None else ()
        if waiting and not self._budget.must_end():
            saved = self._ask_again(folder, view, saved, waiting)
        if saved.refused:
            self._budget.incomplete = True
        if before is not None and saved != before:
            self._budget.progressed = True
        is_scanned = saved.cursor.complete and not self._budget.exhausted
        if is_scanned and (leased.complete_from is None or is_rescan_due(leased)):
            return find_visible_from(self._connection, view, leased)
        return None

    def _ask_again(self, folder: bytes, view: FolderView, saved: SavedCursor, waiting: Collection[int]) -> SavedCursor:
        """Ask again for messages of earlier polls, first for those that were asked for least often; those that are refused
        repeatedly over time become dead letters."""
        uids = sorted(waiting, key=lambda uid: (saved.refused[uid].count, uid))[:CHUNK]
        now = self._leased.now + self._report.elapsed
        since, final = self._leased.complete_through, final_refusals(saved, now)
        turn = max(saved.refused[uid].count for uid in uids)
        batch = self._publish(
            view, sorted(uids), read_before(saved), since, final=final, turn=turn, most_unanswered=MAX_UNANSWERED_AGAIN
        )
        new = self._publisher.wait(batch)
        saved = note_refusals(saved, batch, now)
        self._leases.save(self._leased, folder, saved, view.messages, FolderProgress(published=new))
        return saved

    def _start_scan(self, folder: bytes, view: FolderView, why: str, refused: Mapping[int, Refusal]) -> SavedCursor:
        cursor = cursors.start_scan(view, self._newest(view), self._look_back)
        saved = SavedCursor(cursor, self._leased.complete_through, refused=refused)
        self._leases.save(self._leased, folder, saved, view.messages, FolderProgress(scan_started=True))
        self._report.scan_started(why, view.messages)
        return saved

    def _newest(self, view: FolderView) -> list[int]:
        """UIDs of the newest messages: enough for the look-back window."""
        window = next(cursors.windows(view.messages, WINDOW), None)
        if window is None:
            return []
        return self._connection.search_window(view, *window, None)[-max(self._look_back, 1) :]

    def _read_new(self, folder: bytes, view: FolderView, saved: SavedCursor) -> SavedCursor:
        """Read what came since the last poll, oldest first, and what appeared late in the look-back window."""
        leased, budget = self._leased, self._budget
        present = self._search(view, cursors.search_low(saved.cursor, self._look_back))
        uids = cursors.unseen_uids(saved.cursor, present, budget.messages + 1)
        more = len(uids) > budget.messages
        uids = uids[: budget.messages]
        if not uids and saved.cursor.uidnext == view.uidnext:
            return saved
        for chunk in _chunks(uids):
            if budget.must_end():
                return saved
            batch = self._publish(view, chunk, read_before(saved), leased.complete_through)
            new = self._publisher.wait(batch)
            saved = replace(saved, cursor=cursors.advance(saved.cursor, chunk, self._look_back))
            saved = note_refusals(saved, batch, batch.now)
            self._leases.save(leased, folder, saved, view.messages, FolderProgress(published=new))
        if more:
            budget.exhaust()
            return saved
        passed, still_there = cursors.count_assigned(saved.cursor, view, present)
        saved = replace(saved, cursor=cursors.remember_uidnext(saved.cursor, view))
        progress = FolderProgress(uids_passed=passed, uids_found=still_there)
        self._leases.save(leased, folder, saved, view.messages, progress)
        return saved

    def _search(self, view: FolderView, low: int) -> list[int]:
        """UIDs from `low` on: one round trip, unless there may be more than fit into one line of an answer."""
        is_short = view.messages <= WINDOW or (view.uidnext is not None and view.uidnext - low <= WINDOW)
        uids_from_low = self._connection.search_from(low) if is_short else None
        # Some servers find nothing above the last message, and Mailutils never finds anything: an answer that names no message
        # of a folder that is not empty is not believed, and the folder is searched by numbers instead.
        if uids_from_low is not None:
            return uids_from_low
        present: list[int] = []
        for first, last in cursors.windows(view.messages, WINDOW):
            uids = self._connection.search_window(view, first, last, None)
            present += [uid for uid in uids if uid >= low]
            if not uids or uids[0] < low:
                break
        return sorted(present)

    def _scan(self, folder: bytes, view: FolderView, saved: SavedCursor) -> SavedCursor:
        """Read older mail, newest first, down to the horizon or to the end of this poll's budget."""
        in_flight: SentBatch | None = None  # on its way to Kafka while the next batch is fetched and parsed
        try:
            for step in self._older_batches(view, saved):
                if not step.uids:
                    saved = self._save_scanned(folder, view, saved, in_flight)
                    in_flight = None
                    saved = replace(saved, scan_below=step.below)
                    self._leases.save(self._leased, folder, saved, view.messages)
                    self._budget.searched = True
                    continue
                following = self._publish(
                    view, step.uids, read_before(saved), saved.lower_bound_at,
                    in_flight=in_flight.plan.new if in_flight else NOTHING_IN_FLIGHT,
                    rescan=saved.lower_bound_at is not None,
                )  # fmt: skip
                saved = self._save_scanned(folder, view, saved, in_flight)
                in_flight = following
        except MailboxError:
            # The batch in flight must not be lost with this session, or a scan could fail at one place for ever.
            self._save_scanned(folder, view, saved, in_flight)
            raise
        saved = self._save_scanned(folder, view, saved, in_flight)
        if self._budget.exhausted:
            return saved
        saved = replace(saved, cursor=cursors.finish_scan(saved.cursor), scan_below=None)
        self._leases.save(self._leased, folder, saved, view.messages)
        self._report.horizon_reached()
        return saved

    def _older_batches(self, view: FolderView, saved: SavedCursor) -> Iterator[ScanStep]:
        """UIDs below the scan's cursor, newest first, in batches; ends at the horizon or with the budget exhausted.

        Each poll passes at least one window. It starts at the saved one, and a little above it: a server may show older
        messages late, which raises sequence numbers; deletions only lower them.
        """
        since: date | None = (self._leased.now - self._horizon - SINCE_SLACK).date()
        cursor = saved.cursor
        top = view.messages
        if saved.scan_below is not None and view.messages > WINDOW:
            top = min(top, saved.scan_below + min(self._look_back, WINDOW // 2))
        for first, last in cursors.windows(top, WINDOW):
            present = self._connection.search_window(view, first, last, since)
            if not present and since is not None and last == top and self._ignores_since(view, top, since):
                since = None  # the server's SINCE finds nothing where there is something: it is not used again
                present = self._connection.search_window(view, first, last, None)
            while uids := cursors.older_uids(cursor, present, min(CHUNK, max(self._budget.messages, 0))):
                if self._budget.must_end():
                    return
                yield ScanStep(uids)
                cursor = cursors.advance_scan(cursor, uids)
            if first > 1 and not cursors.older_uids(cursor, present, 1):
                yield ScanStep((), first - 1)
            if self._budget.must_end():
                return

    def _ignores_since(self, view: FolderView, top: int, day: date) -> bool:
        """Whether SINCE finds nothing in the newest window although its newest message was filed later."""
        if top < view.messages:
            first, last = next(cursors.windows(view.messages, WINDOW))
            if self._connection.search_window(view, first, last, day):
                return False
        return self._newest_is_after(view, day)

    def _newest_is_after(self, view: FolderView, day: date) -> bool:
        """Whether the newest message was filed after `day`, by the server's own time."""
        newest = self._newest(view)[-1:]
        with suppress(ServerBroken):
            times = self._connection.fetch_times(newest) if newest else {}
            return any(filed_at is not None and filed_at.date() > day for filed_at in times.values())
        return False

    def _save_scanned(
        self, folder: bytes, view: FolderView, saved: SavedCursor, batch: SentBatch | None
    ) -> SavedCursor:
        """The cursor behind a batch of a scan, saved once all of the batch is acknowledged."""
        if batch is None:
            return saved
        new = self._publisher.wait(batch)
        saved = replace(saved, cursor=cursors.advance_scan(saved.cursor, batch.uids))
        saved = note_refusals(saved, batch, batch.now)
        progress = FolderProgress(published=new, messages_scanned=len(batch.uids))
        self._leases.save(self._leased, folder, saved, view.messages, progress)
        return saved

    def _publish(
        self,
        view: FolderView,
        uids: Sequence[int],
        control: Sequence[int],
        since: datetime | None,
        *,
        in_flight: Mapping[str, PublishedMessage] = NOTHING_IN_FLIGHT,
        rescan: bool = False,
        final: Collection[int] = (),
        turn: int = 0,
        most_unanswered: int | None = None,
    ) -> SentBatch:
        """Fetch and send a batch; `wait` is still to be called for it. `control`: UIDs that were read before."""
        leased = self._leased
        batch = fetch_bisecting(
            self._connection,
            view.uidvalidity,
            uids,
            control,
            reopen=partial(reopen_folder, self._session, self._budget, self._folder, view),
            final=final,
            failures=leased.failures,
            turn=turn,
            most_unanswered=most_unanswered,
        )
        sighting = sighting_of(leased, leased.now + self._report.elapsed, since, self._horizon, rescan=rescan)
        sent = self._publisher.send(batch, sighting, in_flight)
        self._budget.spend(len(uids))
        return sent


def reopen_folder(
    session: MailboxSession, budget: PollBudget, folder: bytes, view: FolderView, error: MailboxError
) -> Connection:
    """Another session with the folder open, after one that ended with `error`. MailboxError where there can be none: then
    the poll ends with what it has read."""
    # Bytes that earlier batches of the session have used up are no matter of these messages: the next poll has a session of its own.
    bytes_are_used_up = (
        isinstance(error, SessionLimitReached) and not isinstance(error, AnswerTooSlow) and budget.has_spent
    )
    if not session.may_reopen or bytes_are_used_up or budget.must_end():
        budget.exhaust()
        raise error
    try:
        connection = session.reopen()
        if connection.examine(folder).uidvalidity != view.uidvalidity:
            raise Unreachable("fetch", "the folder was renumbered while it was read") from error
    except NoSlotFree:
        budget.exhaust()
        raise error from None
    except MailboxError:
        budget.exhaust()
        raise
    return connection


def sighting_of(
    leased: LeasedMailbox, now: datetime, since: datetime | None, horizon: timedelta, *, rescan: bool
) -> Sighting:
    """Where and when the messages of a batch of this mailbox were seen; `since`: they were filed after it."""
    return Sighting(
        company_id=leased.company_id,
        account_id=leased.account_id,
        mailbox_id=leased.mailbox_id,
        now=now,
        since=since,
        earliest=now - horizon + HORIZON_MARGIN,
        rescan=rescan,
        interrupted=since is not None and leased.interrupted_at is not None and leased.interrupted_at >= since,
        login=leased.user,
    )


def read_before(saved: SavedCursor) -> list[int]:
    """Messages of the look-back window that are not waiting to be asked for again."""
    return [uid for uid in saved.cursor.recent if uid not in saved.refused]


def final_refusals(saved: SavedCursor, now: datetime) -> set[int]:
    """Messages that become dead letters if they are refused once more."""
    return {
        uid
        for uid, refusal in saved.refused.items()
        if refusal.count + 1 >= REFUSALS_BEFORE_REJECT and now - refusal.first_at >= REFUSED_BEFORE_REJECT
    }


def note_refusals(saved: SavedCursor, batch: SentBatch, now: datetime) -> SavedCursor:
    """The saved cursor when `batch` is acknowledged: which messages are still to be asked for again. ServerBroken."""
    refused = {uid: refusal for uid, refusal in saved.refused.items() if uid not in batch.uids}
    for uid in batch.refused:
        earlier = saved.refused.get(uid)
        refused[uid] = Refusal(earlier.first_at, earlier.count + 1) if earlier is not None else Refusal(now, 1)
    if len(refused) > MAX_REFUSED:
        raise ServerBroken("fetch", "too many messages are refused for now")
    return saved if refused == saved.refused else replace(saved, refused=refused)


def is_rescan_due(leased: LeasedMailbox) -> bool:
    """Whether this poll reads again everything within the horizon (once a day, or because a person asked for it)."""
    due = leased.reconcile_after
    return leased.complete_through is not None and due is not None and due <= leased.now


def find_visible_from(connection: Connection, view: FolderView, leased: LeasedMailbox) -> datetime | None:
    """From when on a provider shows mail of the open folder, if it hides older mail (services/mail/visibility.py)."""
    provider = catalog.load().of_mailbox(leased.user, leased.host)
    if provider is None or not may_hide_mail(provider.limits, view.messages):
        return None
    extent = FolderExtent(view.messages, _earliest(connection, view))
    return visible_from(provider.limits, [extent], leased.now)


def _earliest(connection: Connection, view: FolderView) -> datetime | None:
    """When the first message was filed whose time the server reports; a message that cannot be read is passed over."""
    oldest = connection.search_window(view, 1, min(view.messages, OLDEST_ASKED), None) if view.messages else []
    for uid in oldest[:OLDEST_ASKED]:
        with suppress(ServerBroken):
            if (filed_at := connection.fetch_times([uid]).get(uid)) is not None:
                return filed_at
    return None


def _chunks(uids: Sequence[int]) -> list[Sequence[int]]:
    return [uids[start : start + CHUNK] for start in range(0, len(uids), CHUNK)]
