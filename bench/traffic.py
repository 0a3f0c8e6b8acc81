"""The events that the matcher and its peers are measured with: two sent messages for each inquiry, about 650 B each."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from services.common import codec
from services.common.events import Buyer, InquiryReceived, MessageSent
from services.common.hashing import Hasher
from services.common.topics import INQUIRIES, SENT

COMPANIES = 200
HASH_KEY = bytes(range(32))
SPAN = timedelta(days=40)


def records(seed: int, inquiries: int) -> Iterator[tuple[str, bytes, bytes]]:
    """(topic, key, value) in the order of time; half of the inquiries are answered, the other messages answer nothing."""
    chance = random.Random(seed)
    hasher = Hasher(HASH_KEY)
    first_at = datetime.now(UTC).replace(microsecond=0) - SPAN - timedelta(days=2)
    step = SPAN / max(1, inquiries)
    for number in range(inquiries):
        company_id, account_id = f"company-{chance.randrange(COMPANIES):04d}", "main"
        at = first_at + step * number
        address, message_id = f"buyer{number}@shop{number % 900}.example", f"<ask-{number}.1@platform.example>"
        inquiry = InquiryReceived(
            company_id=company_id, account_id=account_id, inquiry_id=f"inquiry-{number:08d}", received_at=at,
            buyer=Buyer(id=f"buyer-{number}", addresses=(address,), region="US"),
            message_ids=(message_id,), reply_addresses=(f"relay+{number}@platform.example",),
            thread_id=f"thread-{number}",
        )  # fmt: skip
        value = codec.encode(inquiry, id=inquiry.inquiry_id, source="bench/platform", time=at)
        yield INQUIRIES, company_id.encode(), value
        for answers in (chance.random() < 0.5, False):
            sent_at = at + timedelta(seconds=chance.randrange(600, 86_400))
            to = address if answers else f"friend{chance.randrange(10**9)}@elsewhere.example"
            referenced = message_id if answers else f"<{chance.getrandbits(64):016x}@elsewhere.example>"
            message = MessageSent(
                company_id=company_id, account_id=account_id, mailbox_id="mailbox-0001",
                message_id=f"{chance.getrandbits(128):032x}", sent_at=sent_at, sent_at_basis="date",
                evidence="verified", kind="human", date_header=sent_at, internal_date=sent_at,
                recipients=_present(hasher.address(company_id, to)),
                in_reply_to=_present(hasher.message(company_id, referenced)),
                references=_present(hasher.message(company_id, referenced)),
            )  # fmt: skip
            value = codec.encode(message, id=message.message_id, source="bench/fetcher", time=sent_at)
            yield SENT, company_id.encode(), value


def _present(hashed: str | None) -> tuple[str, ...]:
    assert hashed is not None
    return (hashed,)
