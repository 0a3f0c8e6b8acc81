"""From a fetched header to the event that leaves the fetcher: hashes and times, nothing else. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from services.common.codec import EARLIEST
from services.common.events import MessageSent
from services.common.hashing import SEPARATOR, Hasher
from services.mail import trust
from services.mail.classify import classify
from services.mail.headers import Headers, Skipped, parse
from services.mail.values import FetchedHeader

MAX_CLOCK_LEAD: Final = timedelta(days=1)
MAX_SENDERS: Final = 4
COPY_TOLERANCE: Final = timedelta(minutes=10)
"""Two copies of a mail, one saved by the mail program and one by the server, may differ by this much in their Date."""


@dataclass(frozen=True, slots=True)
class ParsedMessage:
    """A parsed message: its identity, and the values that its event is built from."""

    fetched: FetchedHeader
    headers: Headers
    message_id: str
    other_id: str | None = None
    """The identity of the message if another message has its Message-ID; None where it has none."""

    @property
    def filed_at(self) -> datetime | None:
        """When it was filed according to the server; its Date where the server does not report it."""
        return self.fetched.internal_date or self.headers.date


def parse_message(company_id: str, fetched: FetchedHeader, hasher: Hasher) -> ParsedMessage | Skipped:
    """Parse one message. Skipped: a draft (`draft`), or no header (`empty`)."""
    if fetched.draft:
        return Skipped("draft")
    headers = parse(fetched.header, fetched.ids)
    if isinstance(headers, Skipped):
        return headers
    identity = _message_hash(company_id, headers.message_id, hasher) if headers.message_id is not None else None
    if identity is None:
        return ParsedMessage(fetched, headers, hasher.content(company_id, _content(headers, str(fetched.size))))
    ids = SEPARATOR.join((f"<{headers.message_id}>", *headers.in_reply_to, "", *headers.references))
    other_id = hasher.content(company_id, _content(headers, ids))
    return ParsedMessage(fetched, headers, identity, other_id)


def is_copy(event: MessageSent, message: ParsedMessage, hasher: Hasher) -> bool:
    """Whether a message with the Message-ID of a published one is the same mail: no other Date, and no recipient or id that the
    published one lacks.

    A copy may lack Bcc, or Date (docs/decisions/0041-one-id-two-messages.md).
    """
    date = message.headers.date
    if date is not None and event.date_header is not None and abs(date - event.date_header) > COPY_TOLERANCE:
        return False
    headers, company_id = message.headers, event.company_id
    pairs = (
        ({hasher.address(company_id, address) for address in headers.recipients}, event.recipients),
        ({_message_hash(company_id, text, hasher) for text in headers.in_reply_to}, event.in_reply_to),
        ({_message_hash(company_id, text, hasher) for text in headers.references}, event.references),
    )
    return all(hashes - {None} <= set(published) for hashes, published in pairs)


def is_same_filing(event: MessageSent, message: ParsedMessage) -> bool:
    """Whether a message has Date and INTERNALDATE of a published one: it is that message, however an earlier version read its
    addresses and ids."""
    dates = message.headers.date, message.fetched.internal_date
    return None not in dates and dates == (event.date_header, event.internal_date)


def event(
    company_id: str,
    account_id: str,
    mailbox_id: str,
    message: ParsedMessage,
    hasher: Hasher,
    *,
    after: datetime | None,
    first_seen: datetime,
    interrupted: bool = False,
    login: str = "",
) -> tuple[MessageSent, int]:
    """The event, and how many addresses and ids could not be normalised.

    `after` and `first_seen` bound the time in which the message was filed, `interrupted` says that the owner of the mailbox
    may have caused its length (services.mail.trust). `login`: the user name of the mailbox; mail from this address has no
    sender in the event.
    """
    fetched, headers = message.fetched, message.headers
    date, internal, save = (
        _usable(clock, first_seen) for clock in (headers.date, fetched.internal_date, fetched.save_date)
    )
    time = trust.trusted_time(
        date=date, internal=internal, save=save, after=after, first_seen=first_seen, interrupted=interrupted
    )
    kind, reason = classify(headers)
    recipients = [hasher.address(company_id, address) for address in headers.recipients]
    in_reply_to = [_message_hash(company_id, message_id, hasher) for message_id in headers.in_reply_to]
    references = [_message_hash(company_id, message_id, hasher) for message_id in headers.references]
    own_address = hasher.address(company_id, login)
    senders = [hasher.address(company_id, address) for address in headers.senders[:MAX_SENDERS]]
    event_data = MessageSent(
        company_id=company_id,
        account_id=account_id,
        mailbox_id=mailbox_id,
        message_id=message.message_id,
        sent_at=time.sent_at,
        sent_at_basis=time.basis,
        evidence=time.evidence,
        kind=kind,
        kind_reason=reason,
        date_header=date,
        internal_date=internal,
        save_date=save,
        filed_after=after,
        filed_before=first_seen,
        recipients=_unique(recipients),
        in_reply_to=_unique(in_reply_to),
        references=_unique(references),
        senders=_unique([sender for sender in senders if sender != own_address]),
    )
    return event_data, [*recipients, *in_reply_to, *references, *senders].count(None)


def _message_hash(company_id: str, inner: str, hasher: Hasher) -> str | None:
    """Hash of an id by the text between its angle brackets, where a parenthesis is no comment."""
    return hasher.message(company_id, f"<{inner}>")


def _content(headers: Headers, last: str) -> str:
    """Identity of a message without a Message-ID of its own: Date ‖ From ‖ sorted To/Cc ‖ Subject ‖ `last`.

    `last` is the size of a message without Message-ID; of one that shares it with another message, its Message-ID, In-Reply-To and
    References.
    """
    to = ",".join(sorted({*headers.to, *headers.cc}))
    parts = (headers.date_text, headers.from_text, to, headers.subject_text, last)
    return SEPARATOR.join(part.strip() for part in parts)


def _usable(clock: datetime | None, first_seen: datetime) -> datetime | None:
    """A clock's value within the limits of an event, else None: a date far in the future is worth no more than none."""
    return clock if clock is not None and EARLIEST <= clock <= first_seen + MAX_CLOCK_LEAD else None


def _unique(hashes: list[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in hashes if value is not None))
