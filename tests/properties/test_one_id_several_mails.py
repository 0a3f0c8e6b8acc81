"""Mailers that give several mails one Message-ID: every buyer is answered when the first mail to this buyer was sent.

The expected answer is read from the mails themselves; the product's way goes through batches, rescans in any order, events and
the recount's join.
"""

from datetime import UTC, datetime, timedelta
from random import Random
from typing import NamedTuple

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from services.common import codec
from services.common.events import MessageSent
from services.common.hashing import Hasher
from services.common.topics import ACCEPTED, SENT
from services.fetcher.publication import FetchedBatch, Sighting, decide, parse_batch
from services.mail.values import FetchedHeader
from services.recount.join import joined
from tests.oracle.histories import KEY

NOW = datetime(2026, 7, 1, tzinfo=UTC)
FIRST = NOW - timedelta(days=5)
HASHER = Hasher(KEY)
BUYERS = ("ann", "bob", "eve")


class Mail(NamedTuple):
    """A mail of the seller, and how many copies of it lie in the folder."""

    message_id: str
    buyers: frozenset[str]
    hour: int
    in_thread_of: str | None
    copies: int

    @property
    def sent_at(self) -> datetime:
        return FIRST + timedelta(hours=self.hour)


mails = st.lists(
    st.builds(
        Mail,
        st.sampled_from(["daily@crm.example", "20261128(1)@crm.example"]),
        st.frozensets(st.sampled_from(BUYERS), max_size=2),
        st.integers(1, 30),
        st.none() | st.sampled_from(BUYERS),
        st.integers(1, 2),
    ),
    max_size=7,
)


def folder(drawn: list[Mail], chance: Random) -> list[FetchedHeader]:
    """The folder's messages in any order of their UIDs; each is filed when it is sent."""
    copies = [mail for mail in drawn for _ in range(mail.copies)]
    headers = []
    for uid, mail in enumerate(chance.sample(copies, len(copies)), 1):
        lines = [f"Message-ID: <{mail.message_id}>", f"Date: {mail.sent_at:%a, %d %b %Y %H:%M:%S} +0000"]
        lines += [f"To: {', '.join(f'{buyer}@shop.example' for buyer in sorted(mail.buyers))}"] if mail.buyers else []
        lines += [f"In-Reply-To: <ask-{mail.in_thread_of}@platform.example>"] if mail.in_thread_of else []
        raw = "\r\n".join([*lines, "", ""]).encode()
        headers.append(FetchedHeader(uid, mail.sent_at, None, 100, False, raw))
    return headers


def events(headers: list[FetchedHeader], chance: Random) -> list[MessageSent]:
    """The events after a first scan in batches and a rescan in another order, which must add none."""
    published: dict[str, tuple[datetime, bytes]] = {}
    seen = Sighting("c", "a", "m", NOW, None, NOW - timedelta(days=60), False)
    sizes = []
    for order in (headers, chance.sample(headers, len(headers))):
        position = 0
        while position < len(order):
            size = chance.randint(1, 4)
            batch = order[position : position + size]
            position += size
            parsed = parse_batch("c", FetchedBatch(1, [header.uid for header in batch], batch, []), HASHER)
            plan = decide(parsed, published, seen, HASHER)
            published |= {key: (message.sent_at, message.record) for key, message in plan.new.items()}
        sizes.append(len(published))
    assert sizes[0] == sizes[-1]
    decoded = [codec.decode(record, accept=ACCEPTED[SENT]).data for _, record in published.values()]
    return [event for event in decoded if isinstance(event, MessageSent)]


@given(mails, st.randoms(use_true_random=False))
def test_each_buyer_is_answered_by_the_first_mail_to_this_buyer(drawn: list[Mail], chance: Random) -> None:
    asked = [
        {
            "type": "replyrate.inquiry-received.v1",
            "data": {
                "company_id": "c", "account_id": "a", "inquiry_id": buyer, "received_at": f"{FIRST:%Y-%m-%dT%H:%M:%SZ}",
                "buyer": {"id": buyer, "addresses": [f"{buyer}@shop.example"]},
                "message_ids": [f"<ask-{buyer}@platform.example>"],
            },
        }
        for buyer in BUYERS
    ]  # fmt: skip
    sent = [
        {"type": "replyrate.message-sent.v1", "data": msgspec.json.decode(msgspec.json.encode(event))}
        for event in events(folder(drawn, chance), chance)
    ]
    answered = {
        inquiry.inquiry_id: min((reply.at for reply in inquiry.replies), default=None)
        for inquiry in joined(asked, sent, KEY)
    }
    expected = {
        buyer: min(
            (
                round(mail.sent_at.timestamp() * 1_000_000)
                for mail in drawn
                if buyer in mail.buyers or mail.in_thread_of == buyer
            ),
            default=None,
        )
        for buyer in BUYERS
    }
    assert answered == expected
