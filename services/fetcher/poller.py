"""The fetcher's loop: `lease | connect | login | each Sent folder: examine | plan | fetch | parse | publish, acks | save
marks | release`.

Each worker thread owns its Postgres connection and one IMAP session at a time; a mailbox belongs to whoever holds its
lease. Marks move only after everything they pass is acknowledged by Kafka, and only while the lease stands. What goes
wrong with one mailbox is written down there, with a time to try again; the others do not notice.
"""

import itertools
import random
import ssl
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from logging import getLogger
from typing import Final, get_args

from services.common import codec, metrics
from services.common.errors import TransientError
from services.common.events import DeadLetter, Kind
from services.common.hashing import Hasher
from services.common.kafka import Pending, Publisher
from services.common.lifecycle import Heartbeat, Stop
from services.common.retry import Backoff
from services.common.settings import Settings
from services.common.telemetry import NO_SPAN, OFF, Span, Tracing
from services.common.topics import DEAD, SENT
from services.common.trace import TRACEPARENT, trace_id
from services.imap.connection import CHUNK, WINDOW, Connection, connect
from services.imap.session import (
    CommandRefused,
    LoginRefused,
    LoginUnclear,
    MailboxError,
    Resolver,
    ServerBroken,
    SessionLimitReached,
    SessionLimits,
    Throttled,
    check_host,
)
from services.mail import messages, plan
from services.mail.headers import Skipped
from services.mail.plan import Cursor
from services.mail.values import FetchedHeader, FolderView
from services.providers import catalog
from services.registry import pacing, states
from services.registry.leases import LeasedMailbox, LeaseLost, Leases, PublishedMessage, SavedCursor
from services.registry.login_slots import LoginSlots, NoSlotFree
from services.registry.pacing import Pacing
from services.signin import oauth
from services.signin.oauth import AccessTokens

log = getLogger(__name__)

LOGIN_TRIES: Final = 3
IDLE_SECONDS: Final = 0.5
FAILURE: Final = Backoff(60, 2, 6 * 3600)
THROTTLE: Final = Backoff(300, 2, 24 * 3600)
WITNESSES: Final = 3
"""Messages that are asked for to tell a server that fails from mail that cannot be read."""
REFUSED: Final = "the server refuses to show it"
UNPARSABLE: Final = "the server's answer cannot be parsed"
EMPTY: Final[Mapping[str, PublishedMessage]] = {}


@dataclass(slots=True)
class PollState:
    """What one poll has done so far."""

    mailbox: LeasedMailbox
    started: float
    left: int
    published: int = 0
    first: int = 0
    stopped_by_budget: bool = False
    reconciling: bool = False
    visible_from: datetime | None = None
    """From when on the provider shows mail, where that is later than the horizon."""
    dead: list[tuple[bytes, int, int, str]] = field(default_factory=list)
    span: Span = NO_SPAN
    publishing: list[Span] = field(default_factory=list)
    """Spans of batches that are not acknowledged yet."""


@dataclass(frozen=True, slots=True)
class PendingBatch:
    """Messages on their way to Kafka: nothing of them may be saved before every ack is here."""

    uids: Sequence[int]
    records: Sequence[tuple[int, bytes]]
    pendings: Sequence[Pending]
    remembered: Mapping[str, PublishedMessage]
    unreadable: list[tuple[int, str]]
    now: datetime
    span: Span


class Poller:
    """One worker. `run` until `stop` is set."""

    def __init__(
        self,
        owner: str,
        leases: Leases,
        publisher: Publisher,
        hasher: Hasher,
        settings: Settings,
        context: Callable[[], ssl.SSLContext],
        *,
        version: str,
        resolve: Resolver,
        clock: Callable[[], datetime],
        stop: Stop,
        heartbeat: Heartbeat,
        budgets: SessionLimits,
        tokens: AccessTokens | None = None,
        tracing: Tracing = OFF,
    ) -> None:
        """`tokens`: access tokens of this process; its own when None."""
        self._owner = owner
        self._leases = leases
        self._publisher = publisher
        self._hasher = hasher
        self._settings = settings
        self._context = context
        self._version = version
        self._resolve = resolve
        self._clock = clock
        self._stop = stop
        self._heartbeat = heartbeat
        self._budgets = budgets
        self._tokens = tokens or AccessTokens(settings.oauth2)
        self._tracing = tracing
        self._horizon = timedelta(days=settings.horizon_days)
        self._allowance = LoginSlots(leases.connection, settings.imap)
        self._pacing = Pacing(leases.connection, settings.imap.poll_interval_seconds)
        metrics.from_zero(metrics.RECORDS_REJECTED, ["fetcher"], metrics.REASONS["fetcher"])
        metrics.from_zero(metrics.LOGINS, ["done", *_codes(MailboxError)])
        metrics.from_zero(metrics.MESSAGES_SEEN, get_args(Kind))

    def run(self) -> None:
        """Poll whatever is due until `stop` is set. TransientError when Postgres goes away."""
        while not self._stop.is_set():
            self._heartbeat.beat()
            self._tokens.save(self._leases.connection)
            leased = self._leases.lease(self._owner, self._settings.fetcher.lease_seconds)
            if leased is None:
                self._stop.wait(IDLE_SECONDS)
            else:
                self.poll(leased)

    def poll(self, leased: LeasedMailbox) -> None:
        """Read one leased mailbox and release it, whatever happens."""
        work = PollState(leased, time.monotonic(), self._budgets.messages, span=self._tracing.start("poll"))
        try:
            self._poll(work)
        finally:
            for span in work.publishing:
                span.failed("not-acknowledged")
                span.end()
            work.span.set(published=work.published, new=work.first)
            work.span.end()

    def _poll(self, work: PollState) -> None:
        leased = work.mailbox
        due = leased.reconcile_after
        work.reconciling = leased.complete_through is not None and due is not None and due <= leased.now
        try:
            with self._allowance.session(leased.host):
                self._read(work)
            self._finish(work)
        except NoSlotFree as error:
            # Together we come too often; a little apart, so that those who wait do not come all at once.
            seconds = error.again_seconds + 30 * random.random()
            _ended(work, "postponed")
            self._allowance.postpone(leased.company_id, leased.mailbox_id, leased.epoch, seconds)
            log.info(
                "%s", error,
                extra={"action": "mailbox-postponed", "again_seconds": round(seconds), **_ids(leased), **_trace(work)},
            )  # fmt: skip
        except LeaseLost:
            _ended(work, "lease-lost")
            log.warning("nothing was written", extra={"action": "mailbox-lease-lost", **_ids(leased), **_trace(work)})
        except MailboxError as error:
            self._mailbox_failed(work, error)
        except TransientError as error:
            # Kafka or Postgres, not the mailbox: it is due again soon, and nothing is held against it.
            _ended(work, "dependency-away")
            log.warning("%s", error, extra={"action": "dependency-away", **_ids(leased), **_trace(work)})
            self._leases.failed(leased, reason=None, next_seconds=_spaced(leased, 5), counts=False)
            self._stop.wait(1)
        except Exception as error:
            _ended(work, "crashed")
            log.exception(
                "a poll failed unexpectedly", extra={"action": "mailbox-failed", **_ids(leased), **_trace(work)}
            )
            delay = _spaced(leased, FAILURE.delay(leased.failures + 1, random.random()))
            self._leases.failed(leased, reason=f"internal-{type(error).__name__}", next_seconds=delay, counts=True)

    def _read(self, work: PollState) -> None:
        leased, settings = work.mailbox, self._settings.imap
        endpoint = check_host(
            leased.host,
            leased.port,
            allowed_networks=settings.allowed_private_networks,
            private_hosts=settings.private_hosts,
            allowed_ports=settings.allowed_ports,
            resolve=self._resolve,
        )
        connection = connect(endpoint, self._context(), self._budgets)
        try:
            self._login(connection, leased)
            folders = connection.sent_folders(leased.sent_override)
            self._leases.watch(leased, [folder.name for folder in folders])
            for folder in folders:
                if self._pause(work):
                    break
                try:
                    self._folder(work, connection, folder.name)
                except CommandRefused as error:
                    # One that only has the name of a Sent folder must not take the mailbox with it; one that was read
                    # before holds what was sent, and without it nothing is complete.
                    must_open = error.stage != "examine" or folder.found_by != "name" or len(folders) == 1
                    if must_open or self._leases.marks(leased, folder.name) is not None:
                        raise
                    log.warning("a folder cannot be opened", extra={"action": "mailbox-failed", **_ids(leased)})
            if work.stopped_by_budget and work.left == self._budgets.messages and not self._stop.is_set():
                # It would be due again at once, and go on so for ever.
                raise SessionLimitReached("search", "a whole poll in which nothing could be read")
            # Without somebody's choice every folder with the name is read.
            if (
                leased.sent_override
                and not work.stopped_by_budget
                and (work.reconciling or leased.complete_through is None)
            ):
                self._others(work, connection, [folder.name for folder in folders])
        except SessionLimitReached:
            if not work.published:
                raise
            work.stopped_by_budget = True
        finally:
            connection.logout()

    def _login(self, connection: Connection, leased: LeasedMailbox) -> None:
        try:
            if leased.kind == oauth.KIND:
                tries = itertools.count()

                def attempt(token: str) -> None:
                    # The second one is a login more of the hour; without one the first refusal counts.
                    try:
                        budget = self._allowance.session(leased.host) if next(tries) else nullcontext()
                        with budget:
                            connection.login_with_token(leased.user, token, self._version)
                    except NoSlotFree:
                        raise LoginRefused("login", code="oauth2-login-refused") from None

                keeping = self._leases.token_store(leased)
                self._tokens.log_in(leased.host, leased.user, leased.password, keeping, attempt)
            else:
                connection.login(leased.user, leased.password, self._version)
        except MailboxError as error:
            metrics.LOGINS.labels(_code(type(error))).inc()
            raise
        metrics.LOGINS.labels("done").inc()

    def _folder(self, work: PollState, connection: Connection, folder: bytes) -> None:
        look_back = self._settings.imap.look_back
        view = connection.examine(folder)
        held = self._leases.marks(work.mailbox, folder)
        due, began = work.mailbox.reconcile_after, None if held is None else held.scan_began_at
        # Once for each reconcile: a scan that took several polls must not begin again in the last of them.
        reconcile = work.reconciling and due is not None and began is not None and began < due
        why = plan.why_scan(None if held is None else held.marks, view, reconcile=reconcile)
        if why is not None:
            newest = self._newest(connection, view)
            held = SavedCursor(plan.begin(view, newest, look_back), work.mailbox.complete_through)
            self._leases.save(work.mailbox, folder, held, messages=view.messages, restarted=True)
            log.info(
                "reading everything within the horizon",
                extra={"action": "mailbox-scan", "why": why, "messages": view.messages, **_ids(work.mailbox)},
            )
        else:
            assert held is not None
            held = self._new_mail(work, connection, folder, view, held)
        if not held.marks.complete:
            held = self._scan(work, connection, folder, view, held)
        if held.marks.complete and (work.mailbox.complete_from is None or work.reconciling):
            self._window(work, connection, view)

    def _window(self, work: PollState, connection: Connection, view: FolderView) -> None:
        """How far back a provider shows the folder that is open, if it hides old mail (QQ: 30 days, Yahoo: 10,000).

        What it hides is no mail that was not sent: it is outside of what we are complete for. A window of days is open
        when older mail is seen; where nothing is seen there, nothing is known of it.
        """
        leased = work.mailbox
        provider = catalog.load().of_mailbox(leased.user, leased.host)
        days, most = (provider.limits.visible_days, provider.limits.visible_messages) if provider else (None, None)
        if days is None and (most is None or view.messages < most):
            return
        uids = connection.search_window(view, 1, 1, None)[:1] if view.messages else []
        first = next((found.internal_date for found in connection.fetch_headers(uids)), None) if uids else None
        if days is not None:
            begins = leased.now - timedelta(days=days)
            hidden = begins if first is None or first > begins - timedelta(days=2) else None
        else:
            hidden = first or leased.now
        if hidden is not None:
            work.visible_from = max(work.visible_from or hidden, hidden)

    def _others(self, work: PollState, connection: Connection, watched: Sequence[bytes]) -> None:
        """Once a day: how much lies in folders that are named like Sent and are not read. Nothing of it is looked at, and
        no trouble with it is held against the mailbox: what is read was read."""
        counts: dict[bytes, int] = {}
        try:
            for name in connection.other_sent_folders(watched):
                with suppress(ServerBroken):
                    counts[name] = connection.examine(name).messages
        except MailboxError as error:
            log.info("other folders are not counted: %s", error, extra={"action": "mailbox-scan", **_ids(work.mailbox)})
            connection.drop()
            return
        self._leases.others(work.mailbox, counts)

    def _newest(self, connection: Connection, view: FolderView) -> list[int]:
        """UIDs of the newest messages: enough for the look-back window."""
        window = next(plan.windows(view.messages, WINDOW), None)
        if window is None:
            return []
        found = connection.search_window(view, *window, None)
        return found[-max(self._settings.imap.look_back, 1) :]

    def _new_mail(
        self, work: PollState, connection: Connection, folder: bytes, view: FolderView, held: SavedCursor
    ) -> SavedCursor:
        """What came since the last poll, oldest first, and what appeared late in the look-back window."""
        look_back = self._settings.imap.look_back
        low = plan.search_low(held.marks, look_back)
        found = self._search(connection, view, held.marks, low)
        uids = plan.unseen(held.marks, found, work.left + 1)
        if len(uids) > work.left:
            work.stopped_by_budget = True
        uids = uids[: work.left]
        if not uids and held.marks.uidnext == view.uidnext:
            return held
        for chunk in _chunks(uids):
            if self._pause(work):
                return held
            batch = self._publish(
                work, connection, chunk, after=work.mailbox.complete_through, witnesses=held.marks.recent
            )
            remembered = self._acknowledged(work, view.uidvalidity, batch)
            held = replace(held, marks=plan.published(held.marks, chunk, look_back))
            self._leases.save(work.mailbox, folder, held, messages=view.messages, remembered=remembered)
        if not work.stopped_by_budget:
            passed, there = plan.passed(held.marks, view, found)
            held = replace(held, marks=plan.looked(held.marks, view))
            self._leases.save(work.mailbox, folder, held, messages=view.messages, passed=passed, found=there)
        return held

    def _search(self, connection: Connection, view: FolderView, marks: Cursor, low: int) -> list[int]:
        """UIDs from `low` on: one round trip, unless so many came that the answer would not fit into a line."""
        if view.messages <= WINDOW or (view.uidnext is not None and view.uidnext - low <= WINDOW):
            return connection.search_from(low)
        found: list[int] = []
        for first, last in plan.windows(view.messages, WINDOW):
            uids = connection.search_window(view, first, last, None)
            found += [uid for uid in uids if uid >= low]
            if not uids or uids[0] < low:
                break
        return sorted(found)

    def _scan(
        self, work: PollState, connection: Connection, folder: bytes, view: FolderView, held: SavedCursor
    ) -> SavedCursor:
        """Older mail, newest first, down to the horizon; as much as this poll may."""
        since: date | None = (work.mailbox.now - self._horizon - timedelta(days=2)).date()
        sent: PendingBatch | None = None  # on its way while the next one is fetched and read
        try:
            for first, last in plan.windows(view.messages, WINDOW):
                found = connection.search_window(view, first, last, since)
                if (
                    not found
                    and since is not None
                    and last == view.messages
                    and self._is_newer(connection, view, since)
                ):
                    since = None  # a server that finds nothing where something is: its search is not asked again
                    found = connection.search_window(view, first, last, None)
                marks = held.marks if sent is None else plan.scanned(held.marks, sent.uids)
                while uids := plan.older(marks, found, min(CHUNK, max(work.left, 0))):
                    if self._pause(work):
                        return self._scanned(work, folder, view, held, sent)
                    lower = held.lower_bound_at
                    following = self._publish(
                        work,
                        connection,
                        uids,
                        after=lower,
                        witnesses=held.marks.recent,
                        ahead=sent.remembered if sent else EMPTY,
                        again=lower is not None,
                    )
                    held = self._scanned(work, folder, view, held, sent)
                    marks, sent = plan.scanned(marks, uids), following
                if self._pause(work) or (work.left <= 0 and plan.older(marks, found, 1)):
                    work.stopped_by_budget = True
                    return self._scanned(work, folder, view, held, sent)
        except MailboxError:
            # What went out before is not lost with this session: else a scan could break at one place for ever.
            self._scanned(work, folder, view, held, sent)
            raise
        held = self._scanned(work, folder, view, held, sent)
        held = replace(held, marks=plan.at_horizon(held.marks))
        self._leases.save(work.mailbox, folder, held, messages=view.messages)
        log.info("the horizon is reached", extra={"action": "mailbox-scan", **_ids(work.mailbox)})
        return held

    def _is_newer(self, connection: Connection, view: FolderView, since: date) -> bool:
        """Whether the newest message was filed after a day, as its own time says."""
        newest = self._newest(connection, view)[-1:]
        return any(
            found.internal_date is not None and found.internal_date.date() > since
            for found in (connection.fetch_headers(newest) if newest else ())
        )

    def _scanned(
        self, work: PollState, folder: bytes, view: FolderView, held: SavedCursor, batch: PendingBatch | None
    ) -> SavedCursor:
        """The marks behind a batch of older mail, saved once all of it is acknowledged."""
        if batch is None:
            return held
        remembered = self._acknowledged(work, view.uidvalidity, batch)
        held = replace(held, marks=plan.scanned(held.marks, batch.uids))
        self._leases.save(
            work.mailbox, folder, held, messages=view.messages, remembered=remembered, read=len(batch.uids)
        )
        return held

    def _publish(
        self,
        work: PollState,
        connection: Connection,
        uids: Sequence[int],
        *,
        after: datetime | None,
        witnesses: Sequence[int],
        ahead: Mapping[str, PublishedMessage] = EMPTY,
        again: bool = False,
    ) -> PendingBatch:
        """Fetch, parse and send some messages. `ahead` was sent before and is not saved yet; `witnesses` are known UIDs;
        `again`: a scan of a folder that was read before."""
        leased = work.mailbox
        unreadable: list[tuple[int, str]] = []
        reads: list[messages.ParsedMessage] = []
        for found in self._fetch(connection, uids, unreadable, witnesses):
            try:
                read = messages.parse_message(leased.company_id, found, self._hasher)
            except Exception as error:  # parsing is total; should it not be, one message pays and not the mailbox
                unreadable.append((found.uid, f"parsing failed ({type(error).__name__})"))
                continue
            if not isinstance(read, Skipped):
                reads.append(read)
        known = {key: (one.sent_at, one.record) for key, one in ahead.items()}
        if asked := [read.message_id for read in reads if read.message_id not in known]:
            known |= self._leases.known(leased, asked)
        now = leased.now + timedelta(seconds=time.monotonic() - work.started)
        records: list[tuple[int, bytes]] = []
        remembered: dict[str, PublishedMessage] = {}
        # Behind the matcher's horizon a fact would only become a dead letter; an hour is room for what takes time.
        earliest = now - self._horizon + timedelta(hours=1)
        for read in reads:
            if read.message_id in known:
                sent_at, record = known[read.message_id]
                if sent_at >= earliest:
                    records.append((read.found.uid, record))
            elif again and read.filed_at is not None and read.filed_at < earliest:
                # A search finds some days more than the horizon, and what lies behind it was forgotten: not seen before
                # would mean sent since the last poll, so it would count as sent now.
                continue
            elif read.message_id not in remembered:
                try:
                    first = self._first(leased, read, after=after, now=now)
                except Exception as error:
                    unreadable.append((read.found.uid, f"no event can be made of it ({type(error).__name__})"))
                    continue
                if first.sent_at >= earliest:
                    remembered[read.message_id] = first
                    records.append((read.found.uid, first.record))
        key = leased.company_id.encode()
        span = self._tracing.start("publish", work.span.traceparent)
        work.publishing.append(span)
        headers = _headers(span)
        pendings = [self._publisher.send(SENT, key, record, headers=headers) for _, record in records]
        metrics.BATCH_MESSAGES.observe(len(uids))
        work.left -= len(uids)
        self._heartbeat.beat()
        return PendingBatch(uids, records, pendings, remembered, unreadable, now, span)

    def _acknowledged(self, work: PollState, uidvalidity: int, batch: PendingBatch) -> list[PublishedMessage]:
        """Wait for every ack; returns what is published for the first time."""
        unreadable, remembered = [*batch.unreadable], dict(batch.remembered)
        for index in self._publisher.wait(batch.pendings) if batch.pendings else ():
            uid, record = batch.records[index]
            unreadable.append((uid, "the broker refuses the record"))
            remembered = {key: one for key, one in remembered.items() if one.record != record}
        self._bury(work, uidvalidity, unreadable, batch.now)
        batch.span.set(topic=SENT, records=len(batch.records), rejected=len(unreadable))
        batch.span.end()
        work.publishing.remove(batch.span)
        work.published += len(batch.records)
        work.first += len(remembered)
        metrics.MESSAGES_PUBLISHED.labels("yes").inc(len(batch.records) - len(remembered))
        metrics.MESSAGES_PUBLISHED.labels("no").inc(len(remembered))
        for kind, count in Counter(one.kind for one in remembered.values()).items():
            metrics.MESSAGES_SEEN.labels(kind).inc(count)
        self._heartbeat.beat()
        return list(remembered.values())

    def _fetch(
        self, connection: Connection, uids: Sequence[int], unreadable: list[tuple[int, str]], witnesses: Sequence[int]
    ) -> list[FetchedHeader]:
        """Headers of `uids`. An answer that cannot be parsed is halved until the one message is alone.

        Where not one of several can be read, or the only one is refused, a message that was read before is asked for: if
        that cannot be read either, it is the server and not the mail. Then nothing is given up: ServerBroken.
        """
        bad: list[tuple[int, str]] = []
        found = self._halved(connection, uids, bad)
        alone = len(bad) == 1 and bad[0][1] == UNPARSABLE
        others = [uid for uid in witnesses if uid not in uids][-WITNESSES:]
        if bad and not found and not alone and not any(self._halved(connection, [uid], []) for uid in others):
            raise ServerBroken("fetch", "no message can be read")
        unreadable += bad
        return found

    def _halved(self, connection: Connection, uids: Sequence[int], bad: list[tuple[int, str]]) -> list[FetchedHeader]:
        try:
            return connection.fetch_headers(uids)
        except ServerBroken as error:
            if len(uids) == 1:
                bad.append((uids[0], REFUSED if isinstance(error, CommandRefused) else UNPARSABLE))
                return []
            half = len(uids) // 2
            return self._halved(connection, uids[:half], bad) + self._halved(connection, uids[half:], bad)

    def _first(
        self, leased: LeasedMailbox, read: messages.ParsedMessage, *, after: datetime | None, now: datetime
    ) -> PublishedMessage:
        event, dropped = messages.event(
            leased.company_id,
            leased.account_id,
            leased.mailbox_id,
            read,
            self._hasher,
            after=after,
            first_seen=now,
        )
        metrics.HEADERS_DROPPED.inc(dropped)
        record = codec.encode(event, id=event.message_id, source=f"replyrate/fetcher/{leased.mailbox_id}", time=now)
        return PublishedMessage(event.message_id, event.sent_at, record, event.kind, event.evidence == "suspect")

    def _bury(self, work: PollState, uidvalidity: int, unreadable: Sequence[tuple[int, str]], now: datetime) -> None:
        """One dead letter for each message that cannot be read, acknowledged before the marks move on."""
        leased = work.mailbox
        if not unreadable:
            return
        pendings = []
        for uid, detail in unreadable:
            letter = DeadLetter(
                reason="unreadable-message",
                detail=detail,
                service="fetcher",
                service_version=self._version,
                at=now,
                mailbox_id=leased.mailbox_id,
                uidvalidity=uidvalidity,
                uid=uid,
            )
            identity = f"{leased.mailbox_id}/{uidvalidity}/{uid}"[:128]
            value = codec.encode(letter, id=identity, source="replyrate/fetcher", time=now)
            headers = _headers(work.span)
            pendings.append(self._publisher.send(DEAD, leased.company_id.encode(), value, headers=headers))
            metrics.RECORDS_REJECTED.labels("fetcher", "unreadable-message").inc()
            log.warning("%s", detail, extra={"action": "message-rejected", "uid": uid, **_ids(leased)})
        self._publisher.wait_letters(pendings)

    def _pause(self, work: PollState) -> bool:
        """Whether this poll must end here: messages or time are used up, or the service stops."""
        late = time.monotonic() - work.started > self._budgets.session_seconds * 0.75
        if work.left <= 0 or late or self._stop.is_set():
            work.stopped_by_budget = True
        return work.stopped_by_budget

    def _finish(self, work: PollState) -> None:
        leased = work.mailbox
        complete = not work.stopped_by_budget
        horizon = leased.now - self._horizon
        # Folders are looked at for a window with a scan; what was found then holds until the next one.
        visible = work.visible_from if work.reconciling else work.visible_from or leased.complete_from
        if complete:
            following = self._pacing.next_seconds(
                leased.company_id, leased.mailbox_id, leased.account_id, leased.host, leased.connected_at
            )
        else:
            following = _spaced(leased, 0)
        self._leases.polled(
            leased,
            complete=complete,
            reconciled=work.reconciling and complete,
            complete_from=max(horizon, visible) if visible is not None else horizon,
            next_seconds=following,
        )
        seconds = time.monotonic() - work.started
        _ended(work, "complete" if complete else "stopped")
        metrics.POLL_SECONDS.observe(seconds)
        log.info(
            "complete" if complete else "to be continued",
            extra={
                "action": "mailbox-polled", "published": work.published, "new": work.first,
                "seconds": round(seconds, 3), **_ids(leased), **_trace(work),
            },
        )  # fmt: skip

    def _mailbox_failed(self, work: PollState, error: MailboxError) -> None:
        leased = work.mailbox
        failures = leased.failures + 1
        refused = isinstance(error, LoginRefused)
        # Refusals in a row, whatever else failed between them: an outage before is no wrong password.
        given_up = isinstance(error, LoginRefused) and (error.definite or leased.refusals + 1 >= LOGIN_TRIES)
        state = states.load().events["login-given-up"].to if given_up else None
        backoff = THROTTLE if isinstance(error, Throttled | LoginUnclear) else FAILURE
        delay = _spaced(leased, backoff.delay(failures, random.random()))
        _ended(work, error.code)
        self._leases.failed(leased, reason=error.code, next_seconds=delay, counts=True, refused=refused, state=state)
        log.warning(
            "%s", error,
            extra={
                "action": "mailbox-failed", "code": error.code, "stage": error.stage, "again_seconds": round(delay),
                **_ids(leased), **_trace(work),
            },
        )  # fmt: skip


def _code(kind: type[MailboxError]) -> str:
    """What a login that failed is counted as: whatever a refusal means in particular, alerts count them together."""
    return LoginRefused.code if issubclass(kind, LoginRefused) else kind.code


def _codes(kind: type[MailboxError]) -> set[str]:
    """What logins may be counted as when they fail with this error or a particular one of it."""
    return {_code(kind), *(code for one in kind.__subclasses__() for code in _codes(one))}


def _chunks(uids: Sequence[int]) -> list[Sequence[int]]:
    return [uids[at : at + CHUNK] for at in range(0, len(uids), CHUNK)]


def _spaced(leased: LeasedMailbox, seconds: float) -> float:
    """So many seconds, and not fewer than the provider wants between two logins of a mailbox."""
    return max(seconds, pacing.again_seconds(leased.host))


def _ids(leased: LeasedMailbox) -> dict[str, str]:
    return {"company_id": leased.company_id, "mailbox_id": leased.mailbox_id}


def _trace(work: PollState) -> dict[str, str]:
    """The trace of a poll next to its ids, in the log and nowhere else."""
    made = work.span.traceparent
    return {} if made is None else {"trace_id": trace_id(made)}


def _headers(span: Span) -> list[tuple[str, bytes]]:
    made = span.traceparent
    return [] if made is None else [(TRACEPARENT, made)]


def _ended(work: PollState, result: str) -> None:
    metrics.POLLS.labels(result).inc()
    work.span.set(result=result)
    if result not in ("complete", "stopped", "postponed"):
        work.span.failed(result)
