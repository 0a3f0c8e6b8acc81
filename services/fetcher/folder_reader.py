"""Reading one Sent folder: what is new since the last poll, or everything down to the horizon.

1. EXAMINE the folder and load its cursor.
2. Start a scan if one is due (a folder never seen, renumbered UIDs, the daily rescan); else read new mail, oldest first,
   and messages that appeared late in the look-back window.
3. While a scan is not complete, read older mail, newest first, as far as this poll may.
   Each batch: FETCH headers, bisecting answers that cannot be parsed; publish (publication.py); save the cursor once
   every record is acknowledged. In a scan the next batch is fetched while the last one is on its way to Kafka.
4. After a scan, look from when on the provider shows mail at all.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Final

from services.common.settings import FetcherConfig
from services.fetcher.poll_budget import PollBudget
from services.fetcher.poll_report import PollReport
from services.fetcher.publication import (
    HORIZON_MARGIN,
    BatchPublisher,
    FetchedBatch,
    SentBatch,
    Sighting,
    Unreadable,
)
from services.imap.connection import CHUNK, WINDOW, Connection
from services.imap.errors import CommandRefused, MailboxError, ServerBroken
from services.mail import plan
from services.mail.values import FetchedHeader, FolderView
from services.mail.visibility import FolderExtent, may_hide_mail, visible_from
from services.providers import catalog
from services.registry.leases import FolderProgress, LeasedMailbox, Leases, PublishedMessage, SavedCursor

CONTROL_MESSAGES: Final = 3
"""Messages read before that are fetched again, to distinguish a failing server from unreadable mail."""
REFUSED: Final = "the server refuses to show it"
UNPARSABLE: Final = "the server's answer cannot be parsed"
OMITTED: Final = "the server counts it and omits it from its answers"
EMPTY: Final = "its header is empty"
PATIENCE: Final = 3
"""Polls that fail in a row before a message that the server omits becomes a dead letter."""
MANY_EMPTY: Final = 3
EMPTY_SHARE: Final = 0.1
"""As many empty headers in a batch are a fault of the server and not of the messages."""
SINCE_SLACK: Final = timedelta(days=2)
"""SINCE compares days in the server's time zone, so a search reaches this much further back than the horizon."""
NOTHING_IN_FLIGHT: Final[Mapping[str, PublishedMessage]] = {}


class FolderReader:
    """Reads the Sent folders of one mailbox in one poll."""

    def __init__(
        self,
        leased: LeasedMailbox,
        leases: Leases,
        connection: Connection,
        publisher: BatchPublisher,
        budget: PollBudget,
        report: PollReport,
        settings: FetcherConfig,
    ) -> None:
        self._leased = leased
        self._leases = leases
        self._connection = connection
        self._publisher = publisher
        self._budget = budget
        self._report = report
        self._look_back = settings.imap.look_back
        self._horizon = timedelta(days=settings.horizon_days)

    def read(self, folder: bytes) -> datetime | None:
        """Read a folder as far as this poll may; from when on its provider shows mail, where that is known to be limited.

        MailboxError, LeaseLost, TransientError. Saved cursors stay saved.
        """
        leased = self._leased
        view = self._connection.examine(folder)
        saved = self._leases.cursor(leased, folder)
        due, scan_began = leased.reconcile_after, None if saved is None else saved.scan_began_at
        # Once for each reconcile: a scan that took several polls must not start again in the last of them.
        reconcile = is_rescan_due(leased) and due is not None and scan_began is not None and scan_began < due
        why = plan.why_scan(None if saved is None else saved.cursor, view, reconcile=reconcile)
        if saved is None or why is not None:
            saved = self._start_scan(folder, view, why or "first")
        else:
            saved = self._read_new(folder, view, saved)
        if not saved.cursor.complete:
            saved = self._scan(folder, view, saved)
        if saved.cursor.complete and (leased.complete_from is None or is_rescan_due(leased)):
            return find_visible_from(self._connection, view, leased)
        return None

    def _start_scan(self, folder: bytes, view: FolderView, why: str) -> SavedCursor:
        cursor = plan.start_scan(view, self._newest(view), self._look_back)
        saved = SavedCursor(cursor, self._leased.complete_through)
        self._leases.save(self._leased, folder, saved, view.messages, FolderProgress(scan_started=True))
        self._report.scan_started(why, view.messages)
        return saved

    def _newest(self, view: FolderView) -> list[int]:
        """UIDs of the newest messages: enough for the look-back window."""
        window = next(plan.windows(view.messages, WINDOW), None)
        if window is None:
            return []
        return self._connection.search_window(view, *window, None)[-max(self._look_back, 1) :]

    def _read_new(self, folder: bytes, view: FolderView, saved: SavedCursor) -> SavedCursor:
        """Read what came since the last poll, oldest first, and what appeared late in the look-back window."""
        leased, budget = self._leased, self._budget
        present = self._search(view, plan.search_low(saved.cursor, self._look_back))
        uids = plan.unseen_uids(saved.cursor, present, budget.messages + 1)
        more = len(uids) > budget.messages
        uids = uids[: budget.messages]
        if not uids and saved.cursor.uidnext == view.uidnext:
            return saved
        for chunk in _chunks(uids):
            if budget.must_end():
                return saved
            batch = self._publish(view, chunk, saved.cursor.recent, leased.complete_through)
            new = self._publisher.wait(batch)
            saved = replace(saved, cursor=plan.advance(saved.cursor, chunk, self._look_back))
            self._leases.save(leased, folder, saved, view.messages, FolderProgress(published=new))
        if more:
            budget.exhaust()
            return saved
        passed, still_there = plan.count_assigned(saved.cursor, view, present)
        saved = replace(saved, cursor=plan.remember_uidnext(saved.cursor, view))
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
        for first, last in plan.windows(view.messages, WINDOW):
            uids = self._connection.search_window(view, first, last, None)
            present += [uid for uid in uids if uid >= low]
            if not uids or uids[0] < low:
                break
        return sorted(present)

    def _scan(self, folder: bytes, view: FolderView, saved: SavedCursor) -> SavedCursor:
        """Read older mail, newest first, down to the horizon or to the end of this poll's budget."""
        in_flight: SentBatch | None = None  # on its way to Kafka while the next batch is fetched and parsed
        try:
            for uids in self._older_batches(view, saved):
                following = self._publish(
                    view, uids, saved.cursor.recent, saved.lower_bound_at,
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
        saved = replace(saved, cursor=plan.finish_scan(saved.cursor))
        self._leases.save(self._leased, folder, saved, view.messages)
        self._report.horizon_reached()
        return saved

    def _older_batches(self, view: FolderView, saved: SavedCursor) -> Iterator[list[int]]:
        """UIDs below the scan's cursor, newest first, in batches; ends at the horizon or with the budget exhausted."""
        since: date | None = (self._leased.now - self._horizon - SINCE_SLACK).date()
        cursor = saved.cursor
        for first, last in plan.windows(view.messages, WINDOW):
            present = self._connection.search_window(view, first, last, since)
            if not present and since is not None and last == view.messages and self._newest_is_after(view, since):
                since = None  # the server's SINCE finds nothing where there is something: it is not used again
                present = self._connection.search_window(view, first, last, None)
            while uids := plan.older_uids(cursor, present, min(CHUNK, max(self._budget.messages, 0))):
                if self._budget.must_end():
                    return
                yield uids
                cursor = plan.advance_scan(cursor, uids)
            if self._budget.must_end():
                return

    def _newest_is_after(self, view: FolderView, day: date) -> bool:
        """Whether the newest message was filed after `day`, by the server's own time."""
        newest = self._newest(view)[-1:]
        return any(
            header.internal_date is not None and header.internal_date.date() > day
            for header in (self._connection.fetch_headers(newest) if newest else ())
        )

    def _save_scanned(
        self, folder: bytes, view: FolderView, saved: SavedCursor, batch: SentBatch | None
    ) -> SavedCursor:
        """The cursor behind a batch of a scan, saved once all of the batch is acknowledged."""
        if batch is None:
            return saved
        new = self._publisher.wait(batch)
        saved = replace(saved, cursor=plan.advance_scan(saved.cursor, batch.uids))
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
    ) -> SentBatch:
        """Fetch and send a batch; `wait` is still to be called for it. `control`: UIDs that were read before."""
        leased = self._leased
        batch = fetch_bisecting(self._connection, view.uidvalidity, uids, control, failures=leased.failures)
        now = leased.now + self._report.elapsed
        sighting = Sighting(
            company_id=leased.company_id,
            account_id=leased.account_id,
            mailbox_id=leased.mailbox_id,
            now=now,
            since=since,
            earliest=now - self._horizon + HORIZON_MARGIN,
            rescan=rescan,
        )
        sent = self._publisher.send(batch, sighting, in_flight)
        self._budget.spend(len(uids))
        return sent


def is_rescan_due(leased: LeasedMailbox) -> bool:
    """Whether this poll reads again everything within the horizon (once a day, or because a person asked for it)."""
    due = leased.reconcile_after
    return leased.complete_through is not None and due is not None and due <= leased.now


def fetch_bisecting(
    connection: Connection, uidvalidity: int, uids: Sequence[int], control: Sequence[int], *, failures: int = 0
) -> FetchedBatch:
    """Headers of `uids`. An answer that cannot be parsed is asked for in halves until one message is left.

    Messages that the answer omits, and those whose header is empty, are asked for once more. If none of several messages can be
    read, or the only one is refused, messages that were read before (`control`) are asked for again. If they cannot be read
    either, the server is at fault and not the mail: ServerBroken, and no message is given up
    (docs/decisions/0015-witnesses.md). The same while messages are omitted in one of the first polls (`failures`: polls that failed
    in a row), and while many headers are empty.
    """
    unreadable: list[Unreadable] = []
    headers = _bisect(connection, uids, unreadable)
    headers, empty = _ask_for_empty(connection, headers)
    answered = {header.uid for header in headers} | {message.uid for message in unreadable} | set(empty)
    headers, omitted = _ask_for_omitted(connection, headers, [uid for uid in uids if uid not in answered])
    if omitted and failures < PATIENCE:
        raise ServerBroken("fetch", "messages that the server still counts are missing in its answers")
    if len(empty) >= MANY_EMPTY and len(empty) > len(uids) * EMPTY_SHARE:
        raise ServerBroken("fetch", "many headers are empty")
    unreadable += [Unreadable(uid, OMITTED) for uid in omitted] + [Unreadable(uid, EMPTY) for uid in empty]
    unparsable_alone = len(unreadable) == 1 and unreadable[0].detail == UNPARSABLE
    if unreadable and not headers and not unparsable_alone:
        asked = [uid for uid in control if uid not in uids][-CONTROL_MESSAGES:]
        if not any(header.header.strip() for uid in asked for header in _bisect(connection, [uid], [])):
            raise ServerBroken("fetch", "no message can be read")
    return FetchedBatch(uidvalidity, uids, headers, unreadable)


def _ask_for_empty(connection: Connection, headers: Sequence[FetchedHeader]) -> tuple[list[FetchedHeader], list[int]]:
    """Headers that are not empty, and UIDs of messages whose header stays empty although the message is larger than that.

    Some servers (hoodiecrow, go-imap v2) send an empty literal for a part of a header. The whole headers are requested at once,
    then the first of those that are still empty alone.
    """
    empty = [header for header in headers if _is_suspiciously_empty(header)]
    if not empty:
        return list(headers), []
    repeated = _bisect(connection, [header.uid for header in empty], [], partial=False)
    for header in [header for header in repeated if _is_suspiciously_empty(header)][:CONTROL_MESSAGES]:
        repeated += _bisect(connection, [header.uid], [], partial=False)
    whole = {header.uid: header for header in repeated if not _is_suspiciously_empty(header)}
    complete = [whole.get(header.uid, header) for header in headers]
    readable = [header for header in complete if not _is_suspiciously_empty(header)]
    return readable, [header.uid for header in complete if _is_suspiciously_empty(header)]


def _is_suspiciously_empty(header: FetchedHeader) -> bool:
    return not header.header.strip() and header.size > len(header.header)


def _ask_for_omitted(
    connection: Connection, headers: list[FetchedHeader], missing: Sequence[int]
) -> tuple[list[FetchedHeader], list[int]]:
    """The headers with those that a second answer contains, and UIDs that are in no answer although the server counts them.

    A message that is deleted meanwhile is rightly missing: the folder is opened again and searched.
    """
    present = connection.still_present(missing) if missing else []
    if not present:
        return headers, []
    repeated = {header.uid: header for header in _bisect(connection, present, [])}
    return [*headers, *repeated.values()], [uid for uid in present if uid not in repeated]


def _bisect(
    connection: Connection, uids: Sequence[int], unreadable: list[Unreadable], *, partial: bool = True
) -> list[FetchedHeader]:
    try:
        return connection.fetch_headers(uids) if partial else connection.fetch_headers(uids, partial=False)
    except ServerBroken as error:
        if len(uids) == 1:
            unreadable.append(Unreadable(uids[0], REFUSED if isinstance(error, CommandRefused) else UNPARSABLE))
            return []
        half = len(uids) // 2
        return [
            header
            for part in (uids[:half], uids[half:])
            for header in _bisect(connection, part, unreadable, partial=partial)
        ]


def find_visible_from(connection: Connection, view: FolderView, leased: LeasedMailbox) -> datetime | None:
    """From when on a provider shows mail of the open folder, if it hides older mail (services/mail/visibility.py)."""
    provider = catalog.load().of_mailbox(leased.user, leased.host)
    if provider is None or not may_hide_mail(provider.limits, view.messages):
        return None
    oldest = connection.search_window(view, 1, 1, None)[:1] if view.messages else []
    headers = connection.fetch_headers(oldest) if oldest else []
    extent = FolderExtent(view.messages, headers[0].internal_date if headers else None)
    return visible_from(provider.limits, [extent], leased.now)


def _chunks(uids: Sequence[int]) -> list[Sequence[int]]:
    return [uids[start : start + CHUNK] for start in range(0, len(uids), CHUNK)]
