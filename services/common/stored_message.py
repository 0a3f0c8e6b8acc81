"""What is stored of a published message, so that it can be published again byte for byte: compact, or as it was sent.

Company, account and mailbox, the id, when it was sent and when it was seen are columns or known to the reader. The compact form is
MessagePack of the rest: codes as numbers, clocks as differences in microseconds, each hash once as 16 bytes. A record that cannot be
rebuilt from it, such as one of an earlier release, is stored as it was sent. Pure.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

import msgspec

from services.common import codec
from services.common.errors import InvalidEvent
from services.common.events import Basis, Evidence, Kind, MessageSent
from services.common.topics import ACCEPTED, SENT

BASES: Final[tuple[Basis, ...]] = ("date", "save-date", "internal-date", "interval-end")
EVIDENCES: Final[tuple[Evidence, ...]] = ("verified", "backfill", "suspect")
KINDS: Final[tuple[Kind, ...]] = ("human", "automatic", "bulk", "bounce", "forward")
"""Codes by their stored numbers: new ones are appended."""
HASH_BYTES: Final = 16
JSON_START: Final = b"{"
"""First byte of a record that is stored as it was sent; the compact form is an array."""
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class MailboxPlace:
    """The ids of a mailbox, as its events have them."""

    company_id: str
    account_id: str
    mailbox_id: str

    @property
    def source(self) -> str:
        """The `source` of its records."""
        return f"replyrate/fetcher/{self.mailbox_id}"


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A published message as it is stored. `record`: compact, or as it was sent. `first_seen`: when it was read first; of a row of an
    earlier release, when it was published."""

    message_id: str
    sent_at: datetime
    first_seen: datetime
    record: bytes


class _Compact(msgspec.Struct, array_like=True, frozen=True, gc=False):
    basis: int
    evidence: int
    kind: int
    kind_reason: str | None
    date_header: int | None
    internal_date: int | None
    save_date: int | None
    """Microseconds after `sent_at`."""
    filed_after: int | None
    """Microseconds before `first_seen`."""
    hashes: bytes
    """Recipients, In-Reply-To, References and senders in this order, each hash once."""
    layout: bytes
    """How many recipients, In-Reply-To and References there are; then the number of each hash in `hashes`, senders last."""


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(_Compact)


def stored_message(event: MessageSent, record: bytes, place: MailboxPlace | None = None) -> StoredMessage:
    """What to store of an event that was sent as `record`; `place`: its mailbox, if that may have other ids now."""
    place = place or MailboxPlace(event.company_id, event.account_id, event.mailbox_id)
    first_seen = event.filed_before or event.sent_at
    stored = StoredMessage(event.message_id, event.sent_at, first_seen, _compact(event, first_seen))
    return stored if record_of(stored, place) == record else replace(stored, record=record)


def record_of(stored: StoredMessage, place: MailboxPlace) -> bytes:
    """The record as it was sent, byte for byte."""
    if stored.record.startswith(JSON_START):
        return stored.record
    event = _expand(stored, place)
    return codec.encode(event, id=event.message_id, source=place.source, time=stored.first_seen)


def event_of(stored: StoredMessage, place: MailboxPlace) -> MessageSent | None:
    """The event of a stored message; None when its record is of a version that this release does not read."""
    if not stored.record.startswith(JSON_START):
        return _expand(stored, place)
    return sent_event(stored.record)


def sent_event(record: bytes) -> MessageSent | None:
    """The event in a record; None when it is of a version that this release does not read."""
    try:
        event = codec.decode(record, accept=ACCEPTED[SENT]).data
    except InvalidEvent:
        return None
    return event if isinstance(event, MessageSent) else None


def _compact(event: MessageSent, first_seen: datetime) -> bytes:
    parts = (event.recipients, event.in_reply_to, event.references, event.senders)
    hashes = [value for part in parts for value in part]
    numbers = {value: number for number, value in enumerate(dict.fromkeys(hashes))}
    sent_at = event.sent_at
    return _ENCODER.encode(
        _Compact(
            basis=BASES.index(event.sent_at_basis),
            evidence=EVIDENCES.index(event.evidence),
            kind=KINDS.index(event.kind),
            kind_reason=event.kind_reason,
            date_header=_difference(event.date_header, sent_at),
            internal_date=_difference(event.internal_date, sent_at),
            save_date=_difference(event.save_date, sent_at),
            filed_after=None if event.filed_after is None else (first_seen - event.filed_after) // _MICROSECOND,
            hashes=bytes.fromhex("".join(numbers)),
            layout=bytes([*(len(part) for part in parts[:3]), *(numbers[value] for value in hashes)]),
        )
    )


def _expand(stored: StoredMessage, place: MailboxPlace) -> MessageSent:
    compact, sent_at = _DECODER.decode(stored.record), stored.sent_at
    hashes = compact.hashes.hex()
    width = 2 * HASH_BYTES
    values = (hashes[width * number : width * (number + 1)] for number in compact.layout[3:])
    recipients, in_reply_to, references = (tuple(islice(values, count)) for count in compact.layout[:3])
    return MessageSent(
        company_id=place.company_id,
        account_id=place.account_id,
        mailbox_id=place.mailbox_id,
        message_id=stored.message_id,
        sent_at=sent_at,
        sent_at_basis=BASES[compact.basis],
        evidence=EVIDENCES[compact.evidence],
        kind=KINDS[compact.kind],
        kind_reason=compact.kind_reason,
        date_header=_after(sent_at, compact.date_header),
        internal_date=_after(sent_at, compact.internal_date),
        save_date=_after(sent_at, compact.save_date),
        filed_after=None if compact.filed_after is None else stored.first_seen - compact.filed_after * _MICROSECOND,
        filed_before=stored.first_seen,
        recipients=recipients,
        in_reply_to=in_reply_to,
        references=references,
        senders=tuple(values),
    )


def _difference(clock: datetime | None, sent_at: datetime) -> int | None:
    return None if clock is None else (clock - sent_at) // _MICROSECOND


def _after(sent_at: datetime, microseconds: int | None) -> datetime | None:
    return None if microseconds is None else sent_at + microseconds * _MICROSECOND
