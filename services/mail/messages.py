"""From what a server told of one message to the event that leaves the fetcher: hashes and times, nothing else. Pure."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from services.common.events import MessageSent
from services.common.hashing import SEPARATOR, Hasher
from services.mail import trust
from services.mail.classify import classify
from services.mail.headers import Headers, Skipped, parse
from services.mail.values import FetchedHeader

EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
LEAD: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class ParsedMessage:
    """A message that was parsed: its identity, and what the event is made of."""

    found: FetchedHeader
    headers: Headers
    message_id: str

    @property
    def filed_at(self) -> datetime | None:
        """When it was filed, as the server says; where it says nothing, its Date."""
        return self.found.internal_date or self.headers.date


def parse_message(company_id: str, found: FetchedHeader, hasher: Hasher) -> ParsedMessage | Skipped:
    """Parse one message. Skipped: a draft (`draft`), or nothing to read (`empty`)."""
    if found.draft:
        return Skipped("draft")
    headers = parse(found.header)
    if isinstance(headers, Skipped):
        return headers
    identity = hasher.message(company_id, headers.message_id) if headers.message_id is not None else None
    return ParsedMessage(found, headers, identity or hasher.content(company_id, _content(headers, found.size)))


def event(
    company_id: str,
    account_id: str,
    mailbox_id: str,
    message: ParsedMessage,
    hasher: Hasher,
    *,
    after: datetime | None,
    first_seen: datetime,
) -> tuple[MessageSent, int]:
    """The event, and how many addresses and ids could not be normalised.

    `after` and `first_seen` bound the time in which the message was filed (services.mail.trust).
    """
    found, headers = message.found, message.headers
    date, internal, save = (_within(at, first_seen) for at in (headers.date, found.internal_date, found.save_date))
    sent = trust.trusted_time(date=date, internal=internal, save=save, after=after, first_seen=first_seen)
    kind, reason = classify(headers)
    recipients = [hasher.address(company_id, address) for address in headers.recipients]
    answers = [hasher.message(company_id, one) for one in headers.in_reply_to]
    references = [hasher.message(company_id, one) for one in headers.references]
    made = MessageSent(
        company_id=company_id,
        account_id=account_id,
        mailbox_id=mailbox_id,
        message_id=message.message_id,
        sent_at=sent.sent_at,
        sent_at_basis=sent.basis,
        evidence=sent.evidence,
        kind=kind,
        kind_reason=reason,
        date_header=date,
        internal_date=internal,
        save_date=save,
        filed_after=after,
        filed_before=first_seen,
        recipients=_present(recipients),
        in_reply_to=_present(answers),
        references=_present(references),
    )
    return made, [*recipients, *answers, *references].count(None)


def _content(headers: Headers, size: int) -> str:
    """Identity of a message without Message-ID: Date ‖ From ‖ sorted To/Cc ‖ Subject ‖ size."""
    to = ",".join(sorted({*headers.to, *headers.cc}))
    parts = (headers.date_text, headers.from_text, to, headers.subject_text, str(size))
    return SEPARATOR.join(part.strip() for part in parts)


def _within(at: datetime | None, first_seen: datetime) -> datetime | None:
    """A clock's value as far as an event may carry it; a date far in the future is as good as none."""
    return at if at is not None and EARLIEST <= at <= first_seen + LEAD else None


def _present(hashes: list[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in hashes if value is not None))
