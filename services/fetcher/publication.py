"""Publishing a batch of messages: what becomes of each one is decided as values, then sent.

1. Parse the fetched headers (`parse_batch`).
2. Look up which of the messages were published before: in the registry and in the batch that is still in flight.
3. `decide`: each message is new, published before, dropped with a reason code, or unreadable.
4. Send the record of each new message, and the stored record of each message published before, byte for byte.
5. Wait until the broker has acknowledged every record. A record that the broker rejects because of the record itself counts as unreadable.
6. Send a dead letter for each unreadable message and wait for it as well.

Only then does the reader save the cursor: a crash between two steps repeats the batch and loses nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from services.common import codec
from services.common.events import DeadLetter
from services.common.hashing import Hasher
from services.common.kafka import Pending, Publisher
from services.common.lifecycle import Heartbeat
from services.common.stored_message import sent_event
from services.common.topics import DEAD, HASH_KEY, SENT
from services.common.tracing import Span
from services.common.version import version
from services.fetcher.poll_report import PollReport, trace_headers
from services.mail import messages
from services.mail.headers import Skipped
from services.mail.messages import ParsedMessage
from services.mail.values import FetchedHeader
from services.registry.leases import LeasedMailbox, Leases
from services.registry.published import PublishedMessage

BEHIND_HORIZON: Final = "behind-horizon"
"""Reason of a drop: sent before the horizon (REPLYRATE_HORIZON_DAYS); the matcher would reject it as `late`."""
DUPLICATE: Final = "duplicate"
"""Reason of a drop: another copy of a new message in the same batch; one of them is published."""
HORIZON_MARGIN: Final = timedelta(hours=1)
"""A record must reach the matcher before it falls behind the horizon there."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A message that becomes a dead letter; `detail` says why and holds nothing of the message."""

    uid: int
    detail: str


@dataclass(frozen=True, slots=True)
class DroppedMessage:
    """A message that is not published; `reason` is one of metrics.DROP_REASONS."""

    uid: int
    reason: str


@dataclass(frozen=True, slots=True)
class FetchedBatch:
    """Messages of one folder that were fetched together. Messages that are no longer in the folder are in neither list."""

    uidvalidity: int
    uids: Sequence[int]
    headers: Sequence[FetchedHeader]
    unreadable: Sequence[Unreadable]
    refused: Sequence[int] = ()
    """UIDs that the server refused with words that may be temporary: they are neither read nor given up."""


@dataclass(frozen=True, slots=True)
class ParsedBatch:
    """The messages of a batch after parsing; each fetched header is in exactly one list."""

    messages: Sequence[ParsedMessage]
    unreadable: Sequence[Unreadable]
    dropped: Sequence[DroppedMessage]


@dataclass(frozen=True, slots=True)
class Sighting:
    """Where and when the messages of a batch were seen.

    A message that was not published before was filed after `since` (None: unknown) and no later than `now`. Messages sent
    before `earliest` are not published. `rescan`: a scan of a folder that had been read before.
    """

    company_id: str
    account_id: str
    mailbox_id: str
    now: datetime
    since: datetime | None
    earliest: datetime
    rescan: bool
    interrupted: bool = False
    """Whether since `since` the mailbox was not read for a reason that its owner can cause."""
    login: str = field(default="", repr=False)
    """The user name of the mailbox, which is its address at most providers."""


@dataclass(frozen=True, slots=True)
class PlannedRecord:
    """A record to send, and the UID of its message."""

    uid: int
    record: bytes


@dataclass(frozen=True, slots=True)
class PublicationPlan:
    """What becomes of each message of a batch. `new` is by message id; its records are among `records`."""

    records: Sequence[PlannedRecord]
    new: Mapping[str, PublishedMessage]
    unreadable: Sequence[Unreadable]
    dropped: Sequence[DroppedMessage]
    values_dropped: int
    """Addresses and ids of new messages that could not be normalised."""


@dataclass(frozen=True, slots=True)
class SentBatch:
    """A batch on its way to Kafka. The cursor must not pass it before `BatchPublisher.wait` has returned."""

    uidvalidity: int
    uids: Sequence[int]
    plan: PublicationPlan
    pendings: Sequence[Pending]
    now: datetime
    span: Span
    refused: Sequence[int] = ()
    """UIDs to ask for again in a later poll."""


def parse_batch(company_id: str, batch: FetchedBatch, hasher: Hasher) -> ParsedBatch:
    """Parse each header of a batch. Pure."""
    parsed: list[ParsedMessage] = []
    unreadable = list(batch.unreadable)
    dropped: list[DroppedMessage] = []
    for header in batch.headers:
        try:
            message = messages.parse_message(company_id, header, hasher)
        except (
            Exception
        ) as error:  # the parser should never raise; if it does, that costs a message and not the mailbox
            unreadable.append(Unreadable(header.uid, f"parsing failed ({type(error).__name__})"))
            continue
        if isinstance(message, Skipped):
            dropped.append(DroppedMessage(header.uid, message.reason))
        else:
            parsed.append(message)
    return ParsedBatch(parsed, unreadable, dropped)


def decide(
    batch: ParsedBatch, published: Mapping[str, tuple[datetime, bytes]], sighting: Sighting, hasher: Hasher
) -> PublicationPlan:
    """What becomes of each message of a batch. Pure; the order of the messages does not matter.

    `published` has (sent_at, record) of those that were published before: they are published again unchanged, whatever
    their clocks say now. Of several copies of a new message the one with the lowest UID counts.
    """
    records: list[PlannedRecord] = []
    new: dict[str, PublishedMessage] = {}
    unreadable, dropped = list(batch.unreadable), list(batch.dropped)
    values_dropped = 0
    for parsed in sorted(batch.messages, key=lambda parsed: parsed.fetched.uid):
        message_id = identity(parsed, published, new, hasher, rescan=sighting.rescan)
        message = parsed if message_id == parsed.message_id else replace(parsed, message_id=message_id)
        uid = message.fetched.uid
        if message.message_id in published:
            sent_at, record = published[message.message_id]
            if sent_at >= sighting.earliest:
                records.append(PlannedRecord(uid, record))
            else:
                dropped.append(DroppedMessage(uid, BEHIND_HORIZON))
        elif sighting.rescan and message.filed_at is not None and message.filed_at < sighting.earliest:
            # A rescan's search finds messages up to two days older than the horizon, and the registry has forgotten that
            # they were published. As new messages they would seem to be sent since the last poll, so they would count now.
            dropped.append(DroppedMessage(uid, BEHIND_HORIZON))
        elif message.message_id in new:
            dropped.append(DroppedMessage(uid, DUPLICATE))
        else:
            try:
                first, ignored = first_record(message, sighting, hasher)
            except Exception as error:
                unreadable.append(Unreadable(uid, f"no event can be made of it ({type(error).__name__})"))
                continue
            values_dropped += ignored
            if first.sent_at >= sighting.earliest:
                new[message.message_id] = first
                records.append(PlannedRecord(uid, first.record))
            else:
                dropped.append(DroppedMessage(uid, BEHIND_HORIZON))
    return PublicationPlan(records, new, unreadable, dropped, values_dropped)


def identity(
    message: ParsedMessage,
    published: Mapping[str, tuple[datetime, bytes]],
    new: Mapping[str, PublishedMessage],
    hasher: Hasher,
    *,
    rescan: bool = False,
) -> str:
    """The identity of a message among those published before and the new ones of its batch: its Message-ID, or, if another
    message has that one already, what is in its header. A rescan meets messages that were published before. Pure."""
    by_id, by_content = message.message_id, message.other_id
    if by_content is None or by_content in published or by_content in new:
        return by_content or by_id
    record = published[by_id][1] if by_id in published else new[by_id].record if by_id in new else None
    if record is None:
        return by_id
    event = sent_event(record)
    if event is None or (rescan and messages.is_same_filing(event, message)):
        return by_id
    return by_id if messages.is_copy(event, message, hasher) else by_content


def first_record(message: ParsedMessage, sighting: Sighting, hasher: Hasher) -> tuple[PublishedMessage, int]:
    """The record of a message that was not published before, and how many of its addresses and ids were dropped. Pure."""
    event, ignored = messages.event(
        sighting.company_id, sighting.account_id, sighting.mailbox_id, message, hasher,
        after=sighting.since, first_seen=sighting.now, interrupted=sighting.interrupted, login=sighting.login,
    )  # fmt: skip
    source = f"replyrate/fetcher/{sighting.mailbox_id}"
    record = codec.encode(event, id=event.message_id, source=source, time=sighting.now)
    return PublishedMessage(event, record), ignored


class BatchPublisher:
    """Publishes the batches of one poll."""

    def __init__(
        self,
        leased: LeasedMailbox,
        leases: Leases,
        publisher: Publisher,
        hasher: Hasher,
        heartbeat: Heartbeat,
        report: PollReport,
    ) -> None:
        self._leased = leased
        self._leases = leases
        self._publisher = publisher
        self._hasher = hasher
        self._heartbeat = heartbeat
        self._report = report

    def send(self, batch: FetchedBatch, sighting: Sighting, in_flight: Mapping[str, PublishedMessage]) -> SentBatch:
        """Steps 1 to 4. `in_flight`: new messages of a batch that was sent and is not saved yet."""
        parsed = parse_batch(sighting.company_id, batch, self._hasher)
        published = {key: (message.sent_at, message.record) for key, message in in_flight.items()}
        ids = {id for message in parsed.messages for id in (message.message_id, message.other_id) if id is not None}
        asked = sorted(ids - published.keys())
        if asked:
            published |= self._leases.published(self._leased, asked)
        plan = decide(parsed, published, sighting, self._hasher)
        span = self._report.batch_sent(len(batch.uids))
        key = sighting.company_id.encode()
        headers = [*trace_headers(span), (HASH_KEY, self._hasher.fingerprint().encode())]
        records = [planned.record for planned in plan.records]
        pendings = self._publisher.send_all(SENT, key, records, headers=headers) if records else []
        self._heartbeat.beat()
        return SentBatch(batch.uidvalidity, batch.uids, plan, pendings, sighting.now, span, batch.refused)

    def wait(self, batch: SentBatch) -> list[PublishedMessage]:
        """Steps 5 and 6; returns the messages that were published for the first time."""
        plan = batch.plan
        unreadable, new = list(plan.unreadable), dict(plan.new)
        for index in self._publisher.wait(batch.pendings) if batch.pendings else ():
            refused = plan.records[index]
            unreadable.append(Unreadable(refused.uid, "the broker refuses the record"))
            new = {key: message for key, message in new.items() if message.record != refused.record}
        self._reject(batch, unreadable)
        self._report.batch_acknowledged(batch.span, len(plan.records), len(unreadable), list(new.values()))
        self._report.batch_dropped([dropped.reason for dropped in plan.dropped], plan.values_dropped)
        self._heartbeat.beat()
        return list(new.values())

    def _reject(self, batch: SentBatch, unreadable: Sequence[Unreadable]) -> None:
        """One dead letter for each unreadable message, acknowledged."""
        leased = self._leased
        if not unreadable:
            return
        pendings = []
        for message in unreadable:
            letter = DeadLetter(
                reason="unreadable-message",
                detail=message.detail,
                service="fetcher",
                service_version=version(),
                at=batch.now,
                mailbox_id=leased.mailbox_id,
                uidvalidity=batch.uidvalidity,
                uid=message.uid,
            )
            identity = f"{leased.mailbox_id}/{batch.uidvalidity}/{message.uid}"[:128]
            value = codec.encode(letter, id=identity, source="replyrate/fetcher", time=batch.now)
            headers = self._report.trace_headers()
            pendings.append(self._publisher.send(DEAD, leased.company_id.encode(), value, headers=headers))
            self._report.message_rejected(message.uid, message.detail)
        self._publisher.wait_letters(pendings)
