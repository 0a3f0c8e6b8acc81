"""What the fetcher makes of one message, for a person: every value it reads, and every value it drops, with a reason. Pure.

The header is parsed, classified and turned into an event by the very functions that the fetcher calls; only the search
for dropped values is written here.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from services.common.errors import ReplyrateError
from services.common.events import Kind
from services.common.hashing import Hasher
from services.common.header_lists import message_ids, split_addresses
from services.common.normal_forms import normalise_address, normalise_message_id
from services.mail import headers, messages, trust
from services.mail.classify import classify
from services.mail.headers import Headers, Skipped
from services.mail.messages import ParsedMessage
from services.mail.trust import TrustedTime
from services.mail.values import FetchedHeader

Identity = Literal["message-id", "content"]
DropReason = Literal[
    "no-address",
    "not-an-address",
    "no-id",
    "not-an-id",
    "over-limit",
    "repeated",
    "not-a-date",
    "in-the-future",
    "truncated",
]
Situation = Literal["regular-poll", "gap", "first-scan"]

_FIELD: Final = re.compile(rb"([!-9;-~]+)[ \t]*:")
_REGULAR: Final = timedelta(minutes=5)
_GAP: Final = timedelta(hours=12)


class NotAMessage(ReplyrateError):
    """The bytes have no header that the fetcher reads. The text says why."""


@dataclass(frozen=True, slots=True)
class DroppedValue:
    """A value that does not reach the event: its header field in lower case (`header`: the header as a whole), and why."""

    field: str
    reason: DropReason


@dataclass(frozen=True, slots=True)
class Inspection:
    """What the fetcher reads from a message. Addresses and Message-IDs are normalised, in order, each once."""

    message_id: str | None
    identity: Identity
    in_reply_to: tuple[str, ...]
    references: tuple[str, ...]
    recipients: tuple[str, ...]
    senders: tuple[str, ...]
    date: datetime | None
    kind: Kind
    kind_reason: str | None
    dropped: tuple[DroppedValue, ...]
    fetched: FetchedHeader
    """The message as a server would show it to the fetcher."""


def inspect(raw: bytes, size: int, now: datetime) -> Inspection:
    """Inspect a message from its first bytes (at least the whole header). NotAMessage.

    `size` is that of the whole message in octets, as a server reports it (RFC822.SIZE); it is part of the identity of a
    message without a Message-ID. `now`: a Date more than a day later is dropped.
    """
    selected, has_header = select_fields(raw)
    if not has_header:
        what = "binary data" if b"\0" in raw[:4096] else "no header field at its start"
        raise NotAMessage(f"this is not a mail message: {what}; give the message as it is stored or sent (.eml)")
    fetched = FetchedHeader(0, None, None, size, False, selected[: headers.MAX_BYTES])
    parsed = headers.parse(fetched.header)
    if isinstance(parsed, Skipped):
        raise NotAMessage(
            f"the message has none of the header fields that the fetcher reads; it would be dropped (reason: {parsed.reason})"
        )
    fields = headers.split_fields(fetched.header)
    dropped = [DroppedValue("header", "truncated")] if headers.is_cut(selected) else []
    dropped += _dropped_ids(fields) + _dropped_addresses(fields, parsed)
    date, dropped_date = _date(fields, parsed, now)
    message_id = None if parsed.message_id is None else normalise_message_id(f"<{parsed.message_id}>")
    kind, kind_reason = classify(parsed)
    return Inspection(
        message_id=message_id,
        identity="content" if message_id is None else "message-id",
        in_reply_to=_normalised(parsed.in_reply_to, ids=True),
        references=_normalised(parsed.references, ids=True),
        recipients=_normalised(parsed.recipients),
        senders=_normalised(parsed.senders),
        date=date,
        kind=kind,
        kind_reason=kind_reason,
        dropped=(*dropped, *dropped_date),
        fetched=fetched,
    )


def hashes(inspection: Inspection, company_id: str, hasher: Hasher, now: datetime) -> dict[str, str | list[str]]:
    """What the event carries instead of ids and addresses: `message_id` (the identity), `recipients`, `in_reply_to`,
    `references`."""
    parsed = messages.parse_message(company_id, inspection.fetched, hasher)
    assert isinstance(parsed, ParsedMessage)
    event, _ = messages.event(company_id, "", "", parsed, hasher, after=None, first_seen=now)
    return {
        "message_id": event.message_id,
        "recipients": list(event.recipients),
        "in_reply_to": list(event.in_reply_to),
        "references": list(event.references),
    }


def trusted_times(date: datetime | None, now: datetime) -> Mapping[Situation, TrustedTime]:
    """Which time would count for a message with this Date, without INTERNALDATE or SAVEDATE, in each situation.

    `regular-poll`: filed at its Date, between two polls at most an hour apart. `gap`: filed at its Date, between two polls
    further apart (an outage) or found by a rescan. `first-scan`: there when the mailbox was connected. A message without
    Date is taken as filed now.
    """
    filed = now if date is None or date > now else date

    def seen(after: datetime | None, first_seen: datetime) -> TrustedTime:
        return trust.trusted_time(date=date, internal=None, save=None, after=after, first_seen=first_seen)

    return {
        "regular-poll": seen(filed - _REGULAR, filed + _REGULAR),
        "gap": seen(filed - _GAP, filed + _GAP),
        "first-scan": seen(None, now),
    }


def select_fields(raw: bytes) -> tuple[bytes, bool]:
    """The header fields that the fetcher asks for, as a server returns them; and whether there was any field at all."""
    selected: list[bytes] = []
    wanted = has_header = False
    for line in raw.splitlines(keepends=True):
        if line[:1] in (b" ", b"\t"):
            if wanted:
                selected.append(line)
            continue
        match = _FIELD.match(line)
        if match is None:
            if not line.strip(b"\r\n"):
                break
            wanted = False  # the envelope line of an mbox file, or a line that is no field
            continue
        has_header = True
        wanted = match[1].decode("ascii").lower() in headers.FETCHED
        if wanted:
            selected.append(line)
    return b"".join(selected), has_header


def _normalised(values: Sequence[str], *, ids: bool = False) -> tuple[str, ...]:
    texts = (normalise_message_id(f"<{value}>") if ids else normalise_address(value) for value in values)
    return tuple(dict.fromkeys(text for text in texts if text is not None))


def _date(
    fields: Mapping[str, list[str]], parsed: Headers, now: datetime
) -> tuple[datetime | None, list[DroppedValue]]:
    repeated = [DroppedValue("date", "repeated")] * (len(fields.get("date", ())) - 1)
    if parsed.date is None:
        return None, [*([DroppedValue("date", "not-a-date")] if parsed.date_text else []), *repeated]
    if parsed.date > now + messages.MAX_CLOCK_LEAD:
        return None, [DroppedValue("date", "in-the-future"), *repeated]
    return parsed.date, repeated


def _dropped_ids(fields: Mapping[str, list[str]]) -> list[DroppedValue]:
    """Message-IDs that are not used: not one at all, not to be normalised, or too many."""
    dropped: list[DroppedValue] = []
    for field, limited in headers.LIMITED.items():
        values = fields.get(field, [])
        if field == "message-id":
            dropped += [DroppedValue(field, "repeated")] * (len(values) - 1)
            values = values[:1]
        text = " ".join(values)
        ids = message_ids(text)
        if not ids and text.strip():
            dropped.append(DroppedValue(field, "no-id"))
        used = limited(ids)
        dropped += [DroppedValue(field, "over-limit")] * (len(ids) - len(used))
        dropped += [DroppedValue(field, "not-an-id") for text in used if normalise_message_id(f"<{text}>") is None]
    return dropped


def _dropped_addresses(fields: Mapping[str, list[str]], parsed: Headers) -> list[DroppedValue]:
    """Parts of address fields that are not used: without an address, not to be normalised, or too many recipients."""
    dropped: list[DroppedValue] = []
    for field in ("from", "to", "cc", "bcc"):
        parts = [part.strip() for value in fields.get(field, ()) for part in split_addresses(value)]
        for part in parts:
            if part and "@" not in part and "\uff20" not in part:
                dropped.append(DroppedValue(field, "no-address"))
            elif part and normalise_address(part) is None:
                dropped.append(DroppedValue(field, "not-an-address"))
    used = set(parsed.recipients)
    by_field = {"to": parsed.to, "cc": parsed.cc, "bcc": parsed.bcc}
    beyond = {address: field for field, addresses in by_field.items() for address in addresses if address not in used}
    return dropped + [DroppedValue(field, "over-limit") for field in beyond.values()]
