"""A small world of facts for the matcher, what the pure join makes of it, and how far a running matcher is."""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from services.common import codec
from services.common.events import (
    INQUIRY_RECEIVED,
    Buyer,
    Event,
    InquiryReceived,
    InquiryReplies,
)
from services.common.hashing import Hasher
from services.common.kafka import Admin
from services.common.lifecycle import Heartbeat
from services.common.settings import KafkaSettings, MatcherSettings
from services.common.topics import INQUIRIES, SENT, reply_key
from services.matcher import join, matching
from services.matcher.host import Clocks, Matcher
from tests.support.builders import a_platform_reply, a_received_inquiry, a_sent_message, a_status
from tests.support.topics import committed, publish

KEY: Final = bytes(range(32))
HASHER: Final = Hasher(KEY)
NOW: Final = datetime.now(UTC).replace(microsecond=0)
GROUP: Final = "replyrate-matcher"


def a_matcher(folder: Path, heartbeat: Heartbeat, monotonic: Callable[[], float]) -> Matcher:
    """A matcher that was never started; there is no broker at its address."""
    return Matcher(
        KafkaSettings.model_validate({"bootstrap_servers": "127.0.0.1:9", "partitions": 4}),
        MatcherSettings.model_validate({"store": "memory", "data_dir": folder}),
        Hasher(bytes(32)),
        horizon_days=60,
        version="0",
        clocks=Clocks(lambda: datetime.now(UTC), monotonic),
        heartbeat=heartbeat,
    )


def record(event: Event) -> tuple[bytes, bytes]:
    """(key, value) of an event as its writer sends it."""
    at = join.instant_of(event) if not isinstance(event, InquiryReceived) else event.received_at  # type: ignore[arg-type]
    value = codec.encode(event, id=f"e{random.getrandbits(64)}", source="tests", time=at)
    return event.company_id.encode(), value  # type: ignore[union-attr]


def a_world(seed: int, inquiries: int = 60) -> list[tuple[str, Event]]:
    """(topic, event): inquiries, mails that answer some of them, statuses and platform replies of three companies."""
    chance = random.Random(seed)
    facts: list[tuple[str, Event]] = []
    for number in range(inquiries):
        company_id, inquiry_id, buyer = f"c{number % 3}", f"i{number}", number % 7
        received_at = NOW - timedelta(days=chance.uniform(0.1, 30))
        address, mail_id = f"buyer{buyer}@shop.example", f"<ask-{number}@platform.example>"
        inquiry = a_received_inquiry(
            company_id=company_id, inquiry_id=inquiry_id, received_at=received_at,
            buyer=Buyer(id=f"b{buyer}", addresses=(address,)), message_ids=(mail_id,),
        )  # fmt: skip
        facts.append((INQUIRIES, inquiry))
        if chance.random() < 0.7:
            message = a_sent_message(
                company_id=company_id, message_id=HASHER.message(company_id, f"re-{number}@shop.example"),
                sent_at=received_at + timedelta(hours=chance.uniform(-0.05, 60)),
                recipients=(HASHER.address(company_id, address),),
                in_reply_to=(HASHER.message(company_id, mail_id),) if chance.random() < 0.5 else (),
            )  # fmt: skip
            facts.append((SENT, message))
        if chance.random() < 0.2:
            at = received_at + timedelta(hours=1)
            facts.append((INQUIRIES, a_status(company_id=company_id, inquiry_id=inquiry_id, at=at)))
        if chance.random() < 0.2:
            reply = a_platform_reply(
                company_id=company_id, inquiry_id=inquiry_id, reply_id=f"r{number}",
                replied_at=received_at + timedelta(hours=2),
            )  # fmt: skip
            facts.append((INQUIRIES, reply))
    chance.shuffle(facts)
    return facts


def expected(facts: list[tuple[str, Event]]) -> dict[bytes, InquiryReplies]:
    """What the pure join makes of all facts at once: the joined states by the key of their record."""
    joined: list[Any] = []
    for _, event in facts:
        if isinstance(event, InquiryReceived):
            envelope = codec.decode(record(event)[1], accept=frozenset({INQUIRY_RECEIVED}))
            joined.append(matching.hashed_inquiry(event, codec.facts_text(envelope), HASHER)[0])
        else:
            joined.append(event)
    result = join.apply(lambda _: None, lambda _: (), joined)
    return {reply_key(state.company_id, state.inquiry_id): state for state in result.changed}


def send(settings: KafkaSettings, facts: list[tuple[str, Event]]) -> None:
    """Publish facts to their topics and wait for every acknowledgement."""
    for topic in (INQUIRIES, SENT):
        publish(settings, topic, [record(event) for name, event in facts if name == topic])


def drained(settings: KafkaSettings) -> bool:
    """Whether the matcher's group committed everything that the input topics hold, behind open transactions too."""
    offsets = committed(settings, GROUP)
    with Admin(settings, "tests") as admin:
        spans = admin.spans([INQUIRIES, SENT])
    return all(offsets.get(partition, 0) >= end for partition, (begin, end) in spans.items() if begin < end)
